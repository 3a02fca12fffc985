"""A test can be made late: each of its lines once, and nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import late

ROOT = Path(__file__).parents[2]
TOLD = """
import time
from pathlib import Path

def test_how_long():
    began = time.monotonic()
    for number in range(200):
        turn = number
    Path(__file__).with_name("took").write_text(str(time.monotonic() - began))
"""


@pytest.mark.parametrize(("late_s", "least_s", "most_s"), [("0", 0, 0.3), ("0.1", 0.3, 5)])
def test_each_line_of_a_test_waits_once(tmp_path: Path, late_s: str, least_s: float, most_s: float) -> None:
    (tmp_path / "test_late.py").write_text(TOLD)

    asked = ["-q", "-p", "no:cacheprovider", "--import-mode=importlib", "--rootdir", str(tmp_path)]
    command = [sys.executable, "-m", "pytest", *asked, "-p", late.__name__, str(tmp_path)]
    environment = {**os.environ, "GSD_TEST_LATE_S": late_s}
    subprocess.run(command, cwd=ROOT, env=environment, check=True, stdout=subprocess.DEVNULL)

    assert least_s <= float((tmp_path / "took").read_text()) < most_s
