"""A process tree without the kernel's help: read it from /proc, stop it, kill it.

A tree that runs cannot be read: it changes meanwhile. So each walk is repeated until it finds nothing new. What makes
that come to an end is that a fork fails with a stop or kill signal pending (copy_process in kernel/fork.c): whoever has
been signalled has no further children.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Final, NamedTuple

from gsd_tasks.process.shim import linux

_LONGEST_PAUSE_S: Final = 0.05


class Proc(NamedTuple):
    """A live process. Pid and start (clock ticks since boot) together are never given twice."""

    pid: int
    parent: int
    started: int


Find = Callable[[], list[Proc]]


def descendants(*roots: int) -> list[Proc]:
    """All live processes below `roots`; zombies are none."""
    found: list[Proc] = []
    children: dict[int, list[Proc]] = {}
    for proc in _snapshot():
        children.setdefault(proc.parent, []).append(proc)
    seen = set(roots)
    waiting = list(roots)
    while waiting:
        for proc in children.get(waiting.pop(), ()):
            if proc.pid not in seen:
                seen.add(proc.pid)
                found.append(proc)
                waiting.append(proc.pid)
    return found


def stop_all(find: Find) -> None:
    """Stop what `find` finds, until it finds nothing else. Then none of it runs, nor can any of it wake the rest."""
    stopped: set[Proc] = set()
    while fresh := [proc for proc in find() if proc not in stopped]:
        for proc in fresh:
            send(proc, signal.SIGSTOP)
        stopped.update(fresh)


def continue_all(find: Find) -> None:
    """Let what `find` finds go on, those too that had been stopped before."""
    for proc in find():
        send(proc, signal.SIGCONT)


def kill_all(find: Find, reap: Callable[[], object], patience_s: float = float("inf")) -> list[Proc]:
    """Kill until `find` finds nothing and what it found is gone; `reap` is called meanwhile, for zombies that are ours.

    What refuses us (it changed its user) is left and returned, or whatever is left when patience ends. A process in an
    uninterruptible sleep dies only when it wakes.
    """
    known: dict[tuple[int, int], Proc] = {}

    def find_known() -> list[Proc]:
        # With its ancestor dead, one that we found before is not found again: remember it until it is gone too.
        known.update({(proc.pid, proc.started): proc for proc in find()})
        return [proc for proc in known.values() if _is_alive(proc)]

    give_up_at = time.monotonic() + patience_s
    pause_s = 0.001
    while True:
        stop_all(find_known)
        alive = [proc for proc in find_known() if send(proc, signal.SIGKILL)]
        reap()
        left = find_known()
        if not alive or not left or time.monotonic() > give_up_at:
            return left
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)


def send(proc: Proc, signum: int) -> bool:
    """Signal exactly this process, never one that has its pid by now. False: it is gone, or not ours to signal."""
    with contextlib.suppress(OSError):
        pidfd = linux.pidfd_open(proc.pid)
        try:
            # The descriptor holds whoever has the pid now; if that one began when ours did, it is ours.
            if _is_alive(proc):
                linux.pidfd_send_signal(pidfd, signum)
                return True
        finally:
            os.close(pidfd)
    return False


def _is_alive(proc: Proc) -> bool:
    now = read_proc(proc.pid)
    return now is not None and now.started == proc.started


def all_pids() -> Iterator[int]:
    """Every process that this one may see."""
    return (int(name) for name in os.listdir("/proc") if name.isdigit())


def read_proc(pid: int) -> Proc | None:
    """None: gone, or a zombie. A dead main thread whose others live on is shown as one too, and is none."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as stat:
            # The name, second field, is in brackets and may itself hold brackets and spaces.
            fields = stat.read().rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None
    state, parent, threads, started = fields[0], int(fields[1]), int(fields[17]), int(fields[19])
    if state in (b"Z", b"X") and threads <= 1:
        return None
    return Proc(pid, parent, started)


def _snapshot() -> Iterable[Proc]:
    """All processes, read so that no parent is missing between a process and its root.

    A parent that died during the walk cuts its children off from the tree: walk again. One that stays missing (of
    another user, on a host that hides those) is none that we could know.
    """
    missing: set[Proc] = set()
    while True:
        procs = {pid: proc for pid in all_pids() if (proc := read_proc(pid))}
        cut_off = {proc for proc in procs.values() if proc.parent and proc.parent not in procs}
        if cut_off <= missing:
            return procs.values()
        missing = cut_off
