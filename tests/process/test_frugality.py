"""What it takes to run a session, counted: processes, and looks at others. Times are for `benchmarks`."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from gsd_tasks.process.contain import Containment
from gsd_tasks.process.shim import linux, tree
from tests.process.conftest import needs_pid_namespace

ROOT = Path(__file__).parents[2]

# In a PID namespace of its own, where pids are given one after the other and nobody else takes any.
COUNTING = """
import os, sys, time
from pathlib import Path
from gsd_tasks.process.contain import Containment
from gsd_tasks.process.launch import Launched, LaunchSpec, launch
from gsd_tasks.process.nursery import Nursery
from gsd_tasks.process.shim import linux

def next_pid():
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    return pid

def run(folder, nursery):
    spec = LaunchSpec(
        session_id="s", attempt=1, argv=("true",), env={"PATH": "/usr/bin:/bin"}, cwd="/", stdin=None, timeout_s=60,
        idle_timeout_s=60, max_output_bytes=100, grace_s=1, freeze_bound_s=60, interrupt_first=False,
        containment=Containment(sys.argv[2]), deadline_boot_s=linux.boot_s() + 60,
    )
    launched = launch(folder, spec, nursery=nursery)
    assert isinstance(launched, Launched), launched
    assert launched.wait(30)

user = os.geteuid(), os.getegid()
try:
    first = linux.fork_into_pid_namespace()
except PermissionError:
    first = linux.fork_into_user_namespace()
    if first == 0:
        linux.be_user(*user)
if first == 0:
    linux.mount_own_proc()
    if os.fork() == 0:
        nursery = Nursery()
        run(Path(sys.argv[1], "1"), nursery)
        before = next_pid()
        run(Path(sys.argv[1], "2"), nursery)
        print(next_pid() - before - 1, flush=True)
        nursery.stop()
        os._exit(0)
    os.wait()
    os._exit(0)
os.wait()
"""


@needs_pid_namespace
@pytest.mark.parametrize("form", Containment)
def test_a_session_costs_three_processes(tmp_path: Path, form: Containment) -> None:
    """Its shim, init and the child: nobody in between."""
    counted = subprocess.run(
        [sys.executable, "-c", COUNTING, str(tmp_path), form], capture_output=True, text=True, check=True, cwd=ROOT
    )

    assert (counted.stdout, counted.stderr) == ("3\n", "")


def test_where_no_child_is_left_nobody_looks_at_all_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host may have thousands, and every shim ends in this way."""
    monkeypatch.setattr(tree, "all_pids", lambda: pytest.fail("it walks through /proc"))

    tree.kill_brood(lambda: False)


@pytest.mark.parametrize("kernel", ["this one", "an old one"])
def test_every_descriptor_is_closed_but_those_that_are_kept(monkeypatch: pytest.MonkeyPatch, kernel: str) -> None:
    if kernel == "an old one":

        def refuse(*_: int) -> None:
            raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

        monkeypatch.setattr(linux, "_close_range", refuse)
    told, tell = os.pipe()
    pid = os.fork()
    if pid == 0:
        linux.close_all_but({0, 1, 2, tell})
        open_ones = [int(one.name) for one in Path("/proc/self/fd").iterdir()]
        os.write(tell, repr([fd for fd in sorted(open_ones) if Path(f"/proc/self/fd/{fd}").exists()]).encode())
        os._exit(0)
    os.close(tell)
    os.waitpid(pid, 0)

    assert os.read(told, 1000).decode() == repr(sorted({0, 1, 2, tell}))
    os.close(told)
