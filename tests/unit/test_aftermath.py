"""What a failed test leaves open is nobody else's failure."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests import aftermath

ROOT = Path(__file__).parents[2]
LEAVES = """
import gc, socket, subprocess
from concurrent.futures import ThreadPoolExecutor

class Ring:
    def __init__(self, kept):
        self.itself, self.kept = self, kept

def opened(_):
    return socket.create_server(("127.0.0.1", 0))

def test_leaves_them_open():
    here, in_a_ring = socket.socket(), Ring(socket.socket())
    there = opened(0)
    with ThreadPoolExecutor(1) as pool:
        elsewhere = pool.submit(opened, 0).result()
    process = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        raise OSError("the first")
    except OSError as error:
        raise AssertionError("the second") from error

def test_goes_on():
    gc.collect()

def test_and_on():
    gc.collect()
"""


def test_what_a_failed_test_leaves_open_fails_no_other(tmp_path: Path) -> None:
    (tmp_path / "test_two.py").write_text(LEAVES)
    asked = ["-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-W", "error", "--rootdir", str(tmp_path)]
    command = [sys.executable, "-m", "pytest", *asked, "-p", aftermath.__name__, str(tmp_path)]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stdout
    assert "1 failed, 2 passed" in said
    assert "AssertionError: the second" in said
