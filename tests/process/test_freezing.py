"""Past its deadline a child does not work; with a new one it goes on."""

from __future__ import annotations

import json
import os
import signal
import socket
import struct
import time
from pathlib import Path

from gsd_tasks.process.shim import tree
from gsd_tasks.process.spool.exits import EndedBy
from tests.go import Go
from tests.process.bench import FAR_S, Bench, Running, eventually

# The child, a grandchild in a session of its own, and their moments of work.
WORKS = """
import os, struct, sys, time
if os.fork() == 0:
    os.setsid()
out = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
while True:
    os.write(out, struct.pack("<qd", os.getpid(), time.monotonic()))
    time.sleep(0.001)
"""

# A line of processes, each of which starts the next one and ends.
FORKS = """
import os, struct, sys, time
out = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
print("ready", flush=True)
if os.fork():
    time.sleep(60)
while True:
    if os.fork():
        os._exit(0)
    os.setsid()
    os.write(out, struct.pack("<qd", os.getpid(), time.monotonic()))
"""


#: How late a freeze may come where everything else is late too. One that waits for anything but its time, does not.
LATE_S = 5.0


def boot_s(ahead_s: float) -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME) + ahead_s


def start_working(bench: Bench, path: Path, **changes: float) -> Running:
    running = bench.start_python(WORKS, str(path), **changes)
    eventually(lambda: len({pid for pid, _ in work(path)}) == 2)
    return running


def work(path: Path) -> list[tuple[int, float]]:
    data = path.read_bytes() if path.exists() else b""
    return list(struct.iter_unpack("<qd", data[: len(data) // 16 * 16]))


def workers_since(path: Path, moment: float) -> int:
    return len({pid for pid, at in work(path) if at > moment})


def stands_still(running: Running) -> bool:
    """Every process of the tree is stopped."""
    return all(state_of(pid) == "T" for pid, _ in outside(running))


def state_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return ""


def pass_time(seconds: float) -> None:
    until = time.monotonic() + seconds
    eventually(lambda: time.monotonic() > until)


def test_nothing_works_past_the_deadline_until_there_is_a_new_one(bench: Bench, tmp_path: Path) -> None:
    """The whole tree stands still, and then the whole tree goes on."""
    done = tmp_path / "work"
    running = start_working(bench, done)

    running.link.set_deadline(boot_s(0.2))
    eventually(lambda: running.link.status().frozen)
    frozen_at = time.monotonic()
    pass_time(0.5)
    thawed_at = time.monotonic()
    running.link.set_deadline(boot_s(FAR_S))
    eventually(lambda: workers_since(done, thawed_at) == 2)

    assert [at for _, at in work(done) if frozen_at < at < thawed_at] == []
    # The shim says so when init has: that may be a moment after the first of the tree goes on.
    eventually(lambda: not running.link.status().frozen)


def test_a_tree_that_forks_without_pause_stands_still(bench: Bench, tmp_path: Path) -> None:
    """Neither a walk through /proc nor a signal to one process is enough to hold it."""
    done = tmp_path / "work"
    for _ in range(5):
        running = bench.start_python(FORKS, str(done))
        running.wait_for_output(b"ready")
        running.link.set_deadline(0)
        eventually(lambda: running.link.status().frozen)  # noqa: B023 (called at once)
        frozen_at = time.monotonic()
        pass_time(0.1)

        assert workers_since(done, frozen_at) == 0

        running.link.end("lease_lost")
        running.finish()


def test_the_freeze_comes_at_the_deadline(bench: Bench, tmp_path: Path) -> None:
    """By CLOCK_BOOTTIME, within the time that a loaded machine needs to wake a process."""
    done = tmp_path / "work"
    running = start_working(bench, done)
    deadline = time.monotonic() + 0.5
    running.link.set_deadline(boot_s(0.5))

    eventually(lambda: running.link.status().frozen)

    assert time.monotonic() >= deadline
    assert max(at for _, at in work(done)) - deadline < LATE_S


def test_a_child_whose_deadline_has_passed_at_its_start_is_frozen(bench: Bench, tmp_path: Path) -> None:
    running = bench.start("sh", "-c", "sleep 0.3; echo done", deadline_boot_s=0)
    eventually(lambda: running.link.status().frozen)

    running.link.set_deadline(boot_s(FAR_S))

    assert running.finish().stdout == b"done\n"


def test_a_child_that_stays_frozen_is_ended(bench: Bench, tmp_path: Path) -> None:
    """Its worker is gone for good. It does not work again, not even to end."""
    done = tmp_path / "work"
    running = start_working(bench, done, freeze_bound_s=0.3)
    running.link.set_deadline(0)
    record = running.finish().record

    assert (record.exit_signal, record.ended_by) == (signal.SIGKILL, EndedBy.LEASE_LOST)


def test_a_frozen_child_that_is_told_to_end_is_killed_where_it_stands(bench: Bench, tmp_path: Path) -> None:
    """To heed a SIGTERM it would have to work."""
    done = tmp_path / "work"
    running = start_working(bench, done, grace_s=60)
    running.link.set_deadline(0)
    eventually(lambda: running.link.status().frozen)
    frozen_at = time.monotonic()

    running.link.end("stopped")
    record = running.finish().record

    assert (record.exit_signal, record.ended_by) == (signal.SIGKILL, EndedBy.STOPPED)
    assert workers_since(done, frozen_at) == 0


def test_an_end_that_takes_longer_than_the_deadline_is_cut_short(bench: Bench) -> None:
    """Grace is time of work too."""
    running = bench.start_python(
        "import signal, time\nsignal.signal(15, signal.SIG_IGN)\nprint('ready', flush=True)\ntime.sleep(60)", grace_s=60
    )
    running.wait_for_output(b"ready")
    running.link.set_deadline(boot_s(0.3))

    running.link.end("stopped")

    assert running.finish().record.exit_signal == signal.SIGKILL


def test_frozen_time_counts_for_no_timeout(bench: Bench, tmp_path: Path) -> None:
    """Neither the wall clock's nor the silence's."""
    go = Go(tmp_path)
    running = bench.start("sh", "-c", f"echo ready; read x < {go}; echo done", timeout_s=4, idle_timeout_s=4)
    running.wait_for_output(b"ready")
    running.link.set_deadline(0)
    eventually(lambda: running.link.status().frozen)
    pass_time(4.2)

    running.link.set_deadline(boot_s(FAR_S))
    go.say()
    finished = running.finish()

    assert finished.stdout == b"ready\ndone\n"
    assert finished.record.ended_by is None


def test_what_was_written_before_a_freeze_can_be_read_during_it(bench: Bench) -> None:
    running = bench.start("sh", "-c", "echo before; exec sleep 60")
    running.wait_for_output(b"before")
    running.link.set_deadline(0)
    eventually(lambda: running.link.status().frozen)

    assert running.output() == b"before\n"
    os.kill(running.launched.shim_pid, signal.SIGTERM)
    running.finish()


def test_a_shim_that_stands_still_is_not_needed_for_the_freeze(bench: Bench, tmp_path: Path) -> None:
    """Stopped, or stuck in a write to its disk: from the deadline on nothing works, and then all of it again."""
    done = tmp_path / "work"
    running = start_working(bench, done)
    deadline = time.monotonic() + 0.5
    running.link.set_deadline(boot_s(0.5))
    os.kill(running.launched.shim_pid, signal.SIGSTOP)

    eventually(lambda: stands_still(running))
    assert time.monotonic() >= deadline
    last = max(at for _, at in work(done))
    assert last - deadline < LATE_S
    os.kill(running.launched.shim_pid, signal.SIGCONT)
    pass_time(0.3)

    assert workers_since(done, last) == 0
    # Everything stands still before that is said.
    eventually(lambda: running.link.status().frozen)

    thawed_at = time.monotonic()
    running.link.set_deadline(boot_s(FAR_S))
    eventually(lambda: workers_since(done, thawed_at) == 2)


def test_a_shim_that_never_goes_on_leaves_nothing_behind(bench: Bench, tmp_path: Path) -> None:
    """Init waits for a later deadline as long as the shim would, and ends the tree. The shim can still say so."""
    done = tmp_path / "work"
    running = start_working(bench, done, freeze_bound_s=0.5)
    pids = {pid for pid, _ in outside(running)}
    running.link.set_deadline(boot_s(0.2))
    os.kill(running.launched.shim_pid, signal.SIGSTOP)

    eventually(lambda: not any(tree.read_proc(pid) for pid in pids))
    assert tree.read_proc(running.launched.shim_pid)
    os.kill(running.launched.shim_pid, signal.SIGCONT)
    record = running.finish().record

    assert (record.exit_signal, record.ended_by) == (signal.SIGKILL, EndedBy.LEASE_LOST)


def test_time_in_a_freeze_that_the_shim_slept_through_counts_for_no_timeout(bench: Bench, tmp_path: Path) -> None:
    go = Go(tmp_path)
    running = bench.start("sh", "-c", f"echo ready; read x < {go}; echo done", timeout_s=4, idle_timeout_s=4)
    running.wait_for_output(b"ready")
    running.link.set_deadline(boot_s(0.05))
    os.kill(running.launched.shim_pid, signal.SIGSTOP)
    pass_time(5)

    os.kill(running.launched.shim_pid, signal.SIGCONT)
    running.link.set_deadline(boot_s(FAR_S))
    go.say()
    finished = running.finish()

    assert finished.stdout == b"ready\ndone\n"
    assert finished.record.ended_by is None


def test_an_init_that_stands_still_is_no_way_past_the_deadline(bench: Bench, tmp_path: Path) -> None:
    """The shim lets it go on within a moment; then it does what it owes."""
    done = tmp_path / "work"
    running = start_working(bench, done)
    os.kill(running.init_pid, signal.SIGSTOP)
    deadline = time.monotonic()
    running.link.set_deadline(boot_s(0))

    eventually(lambda: running.link.status().frozen)
    frozen_at = time.monotonic()
    pass_time(0.3)
    assert workers_since(done, frozen_at) == 0
    assert max(at for _, at in work(done)) - deadline < LATE_S
    thawed_at = time.monotonic()
    running.link.set_deadline(boot_s(FAR_S))
    eventually(lambda: workers_since(done, thawed_at) == 2)


def test_a_frozen_process_that_somebody_lets_go_on_is_stopped_again(bench: Bench, tmp_path: Path) -> None:
    """By hand, or by a debugger. The child itself at once, another one within a second or so."""
    done = tmp_path / "work"
    running = start_working(bench, done)
    running.link.set_deadline(0)
    eventually(lambda: running.link.status().frozen)

    for pid, _ in outside(running):
        os.kill(pid, signal.SIGCONT)
    continued_at = time.monotonic()
    eventually(lambda: stands_still(running))
    stopped_at = time.monotonic()
    pass_time(0.3)

    assert workers_since(done, stopped_at) == 0
    assert stopped_at - continued_at < LATE_S


def outside(running: Running) -> list[tuple[int, int]]:
    """What works below init, as (pid, parent), numbered as they are outside of its namespace."""
    return [(proc.pid, proc.parent) for proc in tree.descendants(running.init_pid)]


def test_a_new_deadline_at_the_very_moment_of_the_old_one_is_no_end_of_the_shim(bench: Bench) -> None:
    """It finds both at once as it looks: the timer that has gone off, and the request that sets it anew."""
    running = bench.start("sleep", "60", deadline_boot_s=boot_s(0.5))
    with socket.socket(socket.AF_UNIX) as connection:
        folder = os.open(running.folder, os.O_PATH)
        connection.connect(f"/proc/self/fd/{folder}/control.sock")
        os.close(folder)
        connection.sendall(b'{"do": "status"}\n')
        assert connection.recv(4096)
        os.kill(running.launched.shim_pid, signal.SIGSTOP)
        connection.sendall(json.dumps({"do": "deadline", "boot_s": boot_s(FAR_S)}).encode() + b"\n")
        pass_time(1)
        os.kill(running.launched.shim_pid, signal.SIGCONT)
        assert b'"ok": true' in connection.recv(4096)

    eventually(lambda: not running.link.status().frozen)
    assert not running.launched.wait(0.2)
    assert (running.folder / "shim.log").read_text() == ""
