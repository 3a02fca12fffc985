"""Whatever a child leaves behind, and whoever is killed: nothing goes on."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import pytest

from gsd_tasks.process.contain import (
    Containment,
    inspect_host,
    kill_shim,
    marked_processes,
    shim_is_alive,
    sweep_marker,
)
from gsd_tasks.process.link import News
from gsd_tasks.process.shim import tree
from gsd_tasks.process.spool.exits import EndedBy
from tests.process.bench import Bench, Running, eventually, pids_of, unique_seconds
from tests.waiting import BOUND_S

# In its own session, without the marker, without a living ancestor, without our pipes.
ESCAPE = "(env -i setsid -f sleep {0} </dev/null >/dev/null 2>&1)"


def start_escaping(bench: Bench, then: str) -> tuple[Running, str]:
    seconds = unique_seconds()
    running = bench.start("sh", "-c", f"{ESCAPE.format(seconds)}; echo ready; {then}")
    running.wait_for_output(b"ready")
    eventually(lambda: pids_of(f"sleep\0{seconds}"))
    return running, f"sleep\0{seconds}"


def test_what_hid_itself_dies_with_the_child(bench: Bench, tmp_path: Path) -> None:
    """Also when the child ended by itself, and nothing holds its pipes."""
    gate = tmp_path / "gate"
    running, hidden = start_escaping(bench, f"while [ ! -e {gate} ]; do sleep 0.02; done")
    gate.touch()

    record = running.finish().record

    assert record.exit_code == 0
    assert pids_of(hidden) == []


def test_what_hid_itself_dies_with_a_child_that_is_stopped(bench: Bench) -> None:
    running, hidden = start_escaping(bench, "exec sleep 60")

    running.link.end("stopped")
    running.finish()

    assert pids_of(hidden) == []


def test_a_grandchild_that_keeps_the_pipes_is_waited_for_only_shortly(bench: Bench) -> None:
    """What it writes meanwhile is kept."""
    seconds = unique_seconds()
    began = time.monotonic()
    running = bench.start("sh", "-c", f"(sleep 0.3; echo late; exec sleep {seconds}) & echo early")

    finished = running.finish()

    assert finished.stdout == b"early\nlate\n"
    assert finished.record.exit_code == 0
    assert finished.record.ended_by is None
    assert time.monotonic() - began >= 2
    assert pids_of(f"sleep\0{seconds}") == []


def test_a_killed_shim_takes_everything_along(bench: Bench) -> None:
    running, hidden = start_escaping(bench, "exec sleep 60")
    child = running.launched.child_pid

    running.launched.shim.kill()
    running.launched.shim.wait()

    eventually(lambda: not pids_of(hidden) and not tree.read_proc(child))
    assert not shim_is_alive(running.folder)


def test_a_killed_shim_takes_a_frozen_child_along(bench: Bench) -> None:
    running, hidden = start_escaping(bench, "exec sleep 60")
    running.link.set_deadline(0)
    eventually(lambda: running.link.status().frozen)

    assert kill_shim(running.folder)

    eventually(lambda: not pids_of(hidden) and not tree.read_proc(running.launched.child_pid))


@pytest.mark.parametrize("hung", [("shim",), ("shim", "init")], ids="+".join)
def test_a_shim_that_hangs_can_be_killed_with_everything(bench: Bench, hung: tuple[str, ...]) -> None:
    """Stopped, alone or together with its init: when the call returns, nothing is left."""
    running, hidden = start_escaping(bench, "exec sleep 60")
    pids = {"init": running.init_pid, "shim": running.launched.shim_pid}
    for name in hung:
        os.kill(pids[name], signal.SIGSTOP)

    assert kill_shim(running.folder)

    assert pids_of(hidden) == []
    assert not tree.read_proc(running.launched.child_pid)
    assert not shim_is_alive(running.folder)
    assert not kill_shim(running.folder)


def test_a_shim_that_hangs_over_a_frozen_tree_can_be_killed_with_it(bench: Bench) -> None:
    running, hidden = start_escaping(bench, "exec sleep 60")
    running.link.set_deadline(0)
    eventually(lambda: running.link.status().frozen)
    os.kill(running.launched.shim_pid, signal.SIGSTOP)

    assert kill_shim(running.folder)

    assert pids_of(hidden) == []
    assert sweep_marker(running.folder.name.removesuffix("-1"), 1) == []


def test_what_ignores_every_signal_that_it_can_is_ended_with_all_it_started(bench: Bench) -> None:
    """Each in a session of its own: no group signal reaches them all."""
    deaf = """
import os, signal, sys, time
for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD}:
    signal.signal(number, signal.SIG_IGN)
for _ in range(3):
    if os.fork() == 0:
        os.setsid()
os.write(1, b"x")
time.sleep(60)
"""
    token = unique_seconds()
    running = bench.start_python(deaf, token)
    eventually(lambda: len(running.output()) == 8)

    running.link.end("stopped")
    record = running.finish().record

    assert (record.exit_signal, record.ended_by) == (signal.SIGKILL, EndedBy.STOPPED)
    assert pids_of(token) == []


def test_a_killed_init_takes_everything_along_and_is_recorded(bench: Bench) -> None:
    """The shim lives to say so."""
    running, hidden = start_escaping(bench, "exec sleep 60")

    os.kill(running.init_pid, signal.SIGKILL)
    finished = running.finish()

    assert pids_of(hidden) == []
    assert (finished.record.exit_signal, finished.record.ended_by) == (signal.SIGKILL, None)
    assert finished.stdout == b"ready\n"


def test_a_stopped_init_does_not_keep_the_child_alive(bench: Bench) -> None:
    """One that does not obey is killed after a while."""
    running, hidden = start_escaping(bench, "exec sleep 60")
    os.kill(running.init_pid, signal.SIGSTOP)

    running.link.end("lease_lost")
    record = running.finish().record

    assert record.ended_by is EndedBy.LEASE_LOST
    assert pids_of(hidden) == []


def test_when_shim_and_init_are_killed_the_marker_finds_what_is_left(weak_bench: Bench) -> None:
    """Only the weak form leaves anything. A process without the marker is found below one that has it."""
    seconds = unique_seconds()
    running = weak_bench.start("sh", "-c", f"env -i sleep {seconds} & echo ready; wait")
    running.wait_for_output(b"ready")
    eventually(lambda: pids_of(f"sleep\0{seconds}"))
    session_id = running.folder.name.removesuffix("-1")
    os.kill(running.init_pid, signal.SIGSTOP)
    os.kill(running.launched.shim_pid, signal.SIGSTOP)
    for pid in (running.init_pid, running.launched.shim_pid):
        os.kill(pid, signal.SIGKILL)
    running.launched.wait(BOUND_S)
    assert pids_of(f"sleep\0{seconds}")
    assert [left.pid for left in marked_processes() if left.session_id == session_id] == [running.launched.child_pid]

    assert sweep_marker(session_id, 1) == []

    assert pids_of(f"sleep\0{seconds}") == []
    assert not tree.read_proc(running.launched.child_pid)


def test_the_sweep_spares_other_attempts(bench: Bench) -> None:
    running = bench.start("sleep", "60", attempt=12)
    session_id = running.folder.name.removesuffix("-12")

    assert sweep_marker(session_id, 1) == []

    assert not running.link.status().ended


def test_a_sweep_kills_before_it_gives_up(bench: Bench) -> None:
    """However long it took to find what there is. To stop it, and leave it at that, would leave it for good."""
    running = bench.start("sleep", "60")
    os.kill(running.launched.shim_pid, signal.SIGSTOP)
    child = running.launched.child_pid

    sweep_marker(running.folder.name.removesuffix("-1"), 1, patience_s=0)

    eventually(lambda: not tree.read_proc(child))
    os.kill(running.launched.shim_pid, signal.SIGCONT)


def test_a_tree_that_forks_without_pause_is_ended(bench: Bench) -> None:
    """A walk through it never sees all of it; that does not help it."""
    forks = """
import os, time
print("ready", flush=True)
until = time.monotonic() + 30
while time.monotonic() < until:
    if os.fork():
        os._exit(0)
    os.setsid()
"""
    token = unique_seconds()
    running = bench.start(
        "sh", "-c", '"$@" & wait; exec sleep 60', "sh", sys.executable, "-I", "-S", "-c", forks, token
    )
    running.wait_for_output(b"ready")

    running.link.end("lease_lost")
    running.finish()

    assert pids_of(token) == []


def test_the_child_ends_with_its_shims_folder_gone(bench: Bench) -> None:
    """Somebody cleared the disk by hand: the tree still ends, and the shim too."""
    running, hidden = start_escaping(bench, "exec sleep 60")
    with News(running.folder) as news:
        for file in running.folder.iterdir():
            file.unlink()
        running.folder.rmdir()
        os.kill(running.launched.shim_pid, signal.SIGTERM)
        eventually(lambda: news.wait(1) and news.shim_gone)

    assert running.launched.wait(BOUND_S)
    assert pids_of(hidden) == []


def test_in_a_namespace_the_child_sees_only_its_own_processes(strong_bench: Bench) -> None:
    """/proc is the namespace's own."""
    finished = strong_bench.start("sh", "-c", "echo /proc/[0-9]*; echo $$").finish()

    assert finished.stdout == b"/proc/1 /proc/2\n2\n"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read and trace anything")
@pytest.mark.parametrize("who", ["shim", "init"])
def test_shim_and_init_are_closed_to_other_processes_of_the_user(bench: Bench, who: str) -> None:
    """They hold the child's environment, secrets included."""
    running = bench.start("sleep", "60")
    folder = Path(f"/proc/{running.launched.shim_pid if who == 'shim' else running.init_pid}")

    for name in ("environ", "mem", "maps"):
        with pytest.raises(PermissionError):
            (folder / name).read_bytes()
    with pytest.raises(PermissionError):
        list((folder / "fd").iterdir())


def test_the_probe_says_why_a_host_has_only_the_weak_form() -> None:
    host = inspect_host()

    assert (host.why_not is None) == (host.form is Containment.PID_NAMESPACE)


def test_a_shim_is_alive_from_launch_to_end(bench: Bench) -> None:
    """And its folder says whose it is."""
    running = bench.start("cat", stdin=b"x")
    running.launched.shim.wait(BOUND_S)

    assert not shim_is_alive(running.folder)
    assert not kill_shim(running.folder)
    assert not shim_is_alive(running.folder / "nowhere")
