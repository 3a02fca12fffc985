"""A session's processes are bounded where the kernel can count them by themselves, and nowhere else."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import gsd_tasks
from gsd_tasks.process.contain import Containment, ProcessLimit, inspect_host
from gsd_tasks.process.shim import linux, tree
from tests.process.bench import Bench, eventually, pids_of, unique_seconds
from tests.process.conftest import needs_pid_namespace

ROOT = str(Path(gsd_tasks.__file__).parents[1])
HOST_LIMIT = inspect_host().process_limit

# Each of them goes on to fork, and says so when it is refused.
BOMB = """
import os, time
os.write(1, b"ready\\n")
while True:
    try:
        os.fork()
    except OSError:
        os.write(1, b"refused\\n")
        time.sleep(0.2)
"""

# 256 processes, each in a session of its own.
CROWD = """
import os, sys, time
for _ in range(8):
    if os.fork() == 0:
        os.setsid()
os.write(1, b"x")
time.sleep(60)
"""

# Init itself forks until it is refused, on a kernel that calls itself by the first two arguments.
COUNTS = """
import os, signal, sys
from gsd_tasks.process.shim import linux, start
from gsd_tasks.process.shim.protocol import Containment
linux.kernel_version = lambda: (int(sys.argv[1]), int(sys.argv[2]))

def live(init):
    forked = 0
    try:
        while forked < 700:
            if os.fork() == 0:
                signal.pause()
            forked += 1
    except OSError:
        pass
    init.report(f"forked {forked}")

init = start.start_init(Containment.PID_NAMESPACE, int(sys.argv[3]), live)
print(init.process_limit, init.receive().words[1])
"""


def count(kernel: tuple[int, int], max_processes: int) -> tuple[str, int]:
    """Which bound was set, and how many processes then could be."""
    arguments = [*(str(number) for number in kernel), str(max_processes)]
    counted = subprocess.run(
        [sys.executable, "-c", COUNTS, *arguments], capture_output=True, text=True, check=True, cwd=ROOT
    )
    limit, forked = counted.stdout.split()
    return limit, int(forked)


@pytest.mark.skipif(HOST_LIMIT is ProcessLimit.NONE, reason="this host gives no bound")
def test_a_fork_bomb_is_bounded_and_ended(strong_bench: Bench) -> None:
    """Others on the host can start processes meanwhile."""
    running = strong_bench.start_python(BOMB, max_processes=60)
    running.wait_for_output(b"refused")
    # The first may be refused because of others who are just about to be.
    eventually(lambda: len(tree.descendants(running.init_pid)) >= 60)

    crowd = len(tree.descendants(running.init_pid))
    other = strong_bench.start("sh", "-c", "for n in 1 2 3; do (exit 0) || exit 1; done", max_processes=60).finish()
    running.link.end("lease_lost")
    running.finish()

    assert crowd <= 60 + 300
    assert other.record.exit_code == 0


def test_a_crowd_is_ended_whole(bench: Bench) -> None:
    """Where no bound can be set, too."""
    token = unique_seconds()
    running = bench.start_python(CROWD, token)
    eventually(lambda: len(running.output()) == 256)

    running.link.end("lease_lost")
    running.finish()

    assert pids_of(token) == []


@needs_pid_namespace
@pytest.mark.skipif(os.geteuid() != 0, reason="where a user namespace is needed, it has the better count")
@pytest.mark.skipif(linux.kernel_version() < (6, 14), reason="needs a pid_max of the namespace's own")
def test_roots_pid_namespace_has_a_bound_of_its_own() -> None:
    """At least as many as were asked for; the host's own bound stays as it is."""
    before = Path("/proc/sys/kernel/pid_max").read_text()

    limit, forked = count((6, 14), 100)

    assert limit == ProcessLimit.PID_MAX
    assert 100 <= forked <= 400
    assert Path("/proc/sys/kernel/pid_max").read_text() == before


@needs_pid_namespace
@pytest.mark.skipif(os.geteuid() == 0, reason="root needs no user namespace, and is not bound in one")
@pytest.mark.skipif(linux.kernel_version() < (5, 14), reason="needs a count of the namespace's own")
def test_others_are_counted_within_their_user_namespace() -> None:
    """Exactly, and what else the user runs does not count."""
    others = [subprocess.Popen(["sleep", "60"]) for _ in range(40)]
    try:
        assert count((5, 14), 30) == (ProcessLimit.NPROC, 30)
    finally:
        for other in others:
            other.kill()
            other.wait()


@needs_pid_namespace
@pytest.mark.parametrize("kernel", [(5, 13), (4, 4), (0, 0)])
def test_where_nothing_counts_the_session_alone_there_is_no_bound(kernel: tuple[int, int]) -> None:
    """An old kernel's pid_max is the host's, and its RLIMIT_NPROC the user's."""
    before = Path("/proc/sys/kernel/pid_max").read_text()

    assert count(kernel, 100) == (ProcessLimit.NONE, 700)
    assert Path("/proc/sys/kernel/pid_max").read_text() == before


@needs_pid_namespace
def test_no_bound_was_asked_for() -> None:
    assert count(linux.kernel_version(), 0) == (ProcessLimit.NONE, 700)


def test_the_probe_says_what_bounds_processes_here() -> None:
    host = inspect_host()

    assert host.process_limit is ProcessLimit.NONE or host.form is Containment.PID_NAMESPACE
    if host.form is Containment.PID_NAMESPACE and linux.kernel_version() >= (6, 14):
        assert host.process_limit is (ProcessLimit.PID_MAX if os.geteuid() == 0 else ProcessLimit.NPROC)
