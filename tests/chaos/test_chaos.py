"""The suite itself, for as long as a gate may take. `make chaos` runs as many faults as one likes."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from tests.waiting import BOUND_S

ROOT = Path(__file__).parents[2]
#: Of the first three thousand that cut a cable for longer than a lease, the one whose first thirty faults are of most
#: kinds.
SEED = 2488
FAULTS = 30
ENDS_WITHIN_S = BOUND_S

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@contextmanager
def chaos(*arguments: object) -> Iterator[subprocess.Popen[str]]:
    """A run, ended with the block in the way in which a person ends it: so that nothing of it is left."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.chaos", *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    with process:
        try:
            yield process
        finally:
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=ENDS_WITHIN_S)


def test_thirty_faults_break_no_promise() -> None:
    with chaos("--seed", SEED, "--faults", FAULTS) as run:
        said, _ = run.communicate(timeout=600)

    assert run.returncode == 0, said
    assert f"{FAULTS} faults" in said
    assert not processes_of(folder_of(said))


def test_a_run_that_is_interrupted_leaves_nothing_behind() -> None:
    with chaos("--seed", 1, "--faults", 1000) as run:
        assert run.stdout is not None
        said = "".join(iter_until(run, "#2 "))
        folder = folder_of(said)
        started = processes_of(folder)
        run.send_signal(signal.SIGINT)
        rest, _ = run.communicate(timeout=ENDS_WITHIN_S)

    assert run.returncode == 130, rest
    assert len(started) > 7  # two servers, three workers, maintenance, beat
    assert not folder.exists()
    assert not [process for process in started if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]
    assert not processes_of(folder)


def iter_until(run: subprocess.Popen[str], words: str) -> Iterator[str]:
    assert run.stdout is not None
    for line in run.stdout:
        yield line
        if words in line:
            return
    pytest.fail("the run has ended by itself")


def folder_of(said: str) -> Path:
    found = re.search(r"^(\S+/gsd-chaos-\w+);", said, re.MULTILINE)
    assert found is not None, said
    return Path(found[1])


def processes_of(folder: Path) -> list[psutil.Process]:
    """Those that have it on their command line, or work in it: servers, parts, shims and children."""
    return [process for process in psutil.process_iter() if _names(process, str(folder))]


def _names(process: psutil.Process, folder: str) -> bool:
    try:
        return folder in " ".join((*process.cmdline(), process.cwd()))
    except psutil.Error:
        return False
