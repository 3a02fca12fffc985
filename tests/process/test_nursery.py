"""Shims that are forked by the nursery, and what becomes of a session when it is gone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from gsd_tasks.process.nursery import Nursery
from gsd_tasks.process.shim import entry, linux
from tests.process.bench import Bench, eventually
from tests.waiting import BOUND_S

ENTRY = Path(entry.__file__)
ROOT = str(Path(__file__).parents[2])


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="nobody but root may look into a shim")


@pytest.fixture
def nursery() -> Iterator[Nursery]:
    """In the place of the one that all tests share."""
    nursery = Nursery()
    yield nursery
    nursery.stop()


def descriptors(pid: int) -> set[str]:
    return {str(link.readlink()) for link in Path(f"/proc/{pid}/fd").iterdir()}


def process(nursery: Nursery) -> psutil.Process:
    assert nursery._process is not None
    return psutil.Process(nursery._process.pid)


def wait_briefly_for(nursery: Nursery) -> None:
    """The one that answers no more. The next one may take the time to start that all are given in tests."""
    assert nursery._socket is not None
    nursery._socket.settimeout(0.3)


def test_shims_are_our_own_children_and_not_the_nurserys(bench: Bench, nursery: Nursery) -> None:
    running = [bench.start("sleep", "60") for _ in range(3)]

    shims = [psutil.Process(one.launched.shim_pid) for one in running]
    assert not any(isinstance(one.launched.shim, subprocess.Popen) for one in running)
    assert {shim.ppid() for shim in shims} == {os.getpid()}
    assert {shim.name() for shim in shims} == {"gsd-shim"}
    for one, shim in zip(running, shims, strict=True):
        arguments = Path(f"/proc/{shim.pid}/cmdline").read_bytes().split(b"\0")
        assert (arguments[-1], *arguments[5:7]) == (b"", str(ENTRY).encode(), str(one.folder).encode())
        assert b"--nursery" not in arguments
    assert all(os.getsid(shim.pid) == shim.pid for shim in shims)
    assert process(nursery).children() == []


@needs_root
def test_a_shim_of_the_nursery_holds_nothing_but_its_own(bench: Bench, nursery: Nursery) -> None:
    """Neither the socket of the worker nor descriptors of others: whoever waits for their end would wait for ever."""
    first = bench.start("sleep", "60")
    second = bench.start("sleep", "60")

    # Newer versions of libffi, which is behind ctypes, keep their own file open.
    nurserys = {name for name in descriptors(process(nursery).pid) - {os.devnull} if "libffi" not in name}
    assert len(nurserys) == 1
    for one, other in ((first, second), (second, first)):
        held = descriptors(one.launched.shim_pid)
        assert not held & nurserys
        assert not any(str(other.folder) in name for name in held)


def test_when_the_nursery_is_killed_the_next_session_begins_and_those_that_run_go_on(
    bench: Bench, nursery: Nursery
) -> None:
    runs = bench.start("sh", "-c", "sleep 1; echo done")
    former = process(nursery)
    former.kill()

    begins = bench.start("echo", "here")
    follows = bench.start("echo", "there")

    assert (begins.finish().stdout, follows.finish().stdout, runs.finish().stdout) == (b"here\n", b"there\n", b"done\n")
    assert process(nursery) != former


def test_a_nursery_that_does_not_answer_is_done_without(bench: Bench, nursery: Nursery) -> None:
    assert bench.start("true").finish().record.exit_code == 0
    former = process(nursery)
    former.suspend()
    wait_briefly_for(nursery)

    assert bench.start("echo", "without").finish().stdout == b"without\n"
    assert not former.is_running()
    assert bench.start("echo", "again").finish().stdout == b"again\n"


@pytest.mark.parametrize("when", ["before it has asked", "when it has been asked", "when it has forked"])
def test_a_nursery_that_dies_at_any_moment_costs_no_session(
    bench: Bench, nursery: Nursery, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    """A shim that it has forked and said nothing of finds nobody there, and leaves nothing behind."""
    bench.start("true").finish()
    real_ask = Nursery._ask

    def ask(asked: Nursery, folder: bytes, descriptors: list[int]) -> int | None:
        nursery_process = process(asked)
        if when == "before it has asked":
            nursery_process.kill()
            return real_ask(asked, folder, descriptors)
        if when == "when it has been asked":
            nursery_process.suspend()
            wait_briefly_for(asked)
            return real_ask(asked, folder, descriptors)
        assert (real_ask(asked, folder, descriptors) or 0) > 0
        asked.stop()
        return None

    monkeypatch.setattr(Nursery, "_ask", ask)
    assert bench.start("echo", "after all").finish().stdout == b"after all\n"


def test_where_nothing_can_be_forked_for_others_shims_are_executed(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gsd_tasks.process.nursery.Nursery._ask", lambda *_: -38)
    for _ in range(2):
        running = bench.start("echo", "cold")
        assert isinstance(running.launched.shim, subprocess.Popen)
        assert running.finish().stdout == b"cold\n"


def test_a_worker_that_is_killed_takes_its_nursery_along_and_leaves_its_shims(bench: Bench) -> None:
    spec = bench.spec("sleep", "60")
    folder = bench._folder / "of-another"
    bench.take_care_of(folder, spec)
    code = """
import os, signal, sys
from pathlib import Path
from gsd_tasks.process.launch import LaunchSpec, launch
from gsd_tasks.process.nursery import Nursery
nursery = Nursery()
launched = launch(Path(sys.argv[1]), LaunchSpec.decode(sys.stdin.buffer.read()), nursery=nursery)
print(nursery._process.pid, launched.shim_pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    command = [sys.executable, "-c", code, str(folder)]
    worker = subprocess.run(
        command, input=spec.encode(), cwd=ROOT, check=False, env={"PYTHONPATH": ROOT}, stdout=subprocess.PIPE
    )

    assert worker.returncode == -signal.SIGKILL
    nursery_pid, shim_pid = map(int, worker.stdout.split())
    eventually(lambda: not psutil.pid_exists(nursery_pid))
    assert psutil.Process(shim_pid).name() == "gsd-shim"


def test_a_shim_of_the_nursery_that_is_killed_is_told_apart(bench: Bench) -> None:
    running = bench.start("sleep", "60")
    running.launched.shim.kill()

    assert running.launched.wait(BOUND_S)
    assert running.launched.shim.returncode == -signal.SIGKILL


def test_nobody_can_read_the_nurserys_memory(bench: Bench, nursery: Nursery) -> None:
    bench.start("true").finish()
    assert Path(f"/proc/{process(nursery).pid}/environ").stat().st_uid == 0


def test_on_an_unknown_machine_nothing_is_forked_by_guessing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linux, "_SYS_CLONE", {})
    with pytest.raises(OSError, match="not implemented"):
        linux.fork_sibling()
