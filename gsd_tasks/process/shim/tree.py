"""A process tree without the kernel's help: read it from /proc, stop it, kill it.

A tree that runs cannot be read: it changes meanwhile. Two facts make an end possible nevertheless. Whoever loses its
parent becomes a child of the subreaper above it, which sees its own children. And who has been signalled has no further
children that run: no fork begins with a signal pending; one that is under way is broken off by a SIGKILL, and hands a
signal that was sent to its process group on to the new process, but not one that was sent to itself alone
(copy_process in kernel/fork.c, since Linux 4.19).
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Final, NamedTuple

from gsd_tasks.process.shim import linux

_SHORTEST_PAUSE_S: Final = 0.001
_LONGEST_PAUSE_S: Final = 0.05
_QUIET_LOOKS: Final = 3


class Proc(NamedTuple):
    """A live process. Pid and start (clock ticks since boot) together are never given twice."""

    pid: int
    parent: int
    started: int


Find = Callable[[], list[Proc]]
# Takes the zombies that are ours; whether there are other children.
Reap = Callable[[], bool]


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


def stop_brood(reap: Reap) -> None:
    """Stop all descendants of this process, which must be their subreaper and in no group with them. Then none runs.

    Over when there is no new child of ours, nothing new in a whole walk, and again no new child. A process that still
    ran then would have a stopped ancestor among our children: either it is older than the walk, which saw it, or its
    line has meanwhile lost a parent, and so brought us a child.
    """
    children: set[Proc] = set()
    below: set[Proc] = set()
    quiet = 0
    while quiet < _QUIET_LOOKS:
        fresh = _stop_fresh_below(below) if quiet == 1 else _stop_fresh_children(children)
        reap()  # a line of thousands, each the parent of the next, would be as many zombies to look through
        quiet = 0 if fresh else quiet + 1


def kill_brood(reap: Reap) -> None:
    """Kill all descendants of this process, which must be their subreaper.

    Over when there are no children left: those of a dead child come to us, so there are no descendants either. A child
    that refuses us (it changed its user) is left. One in an uninterruptible sleep is waited for.
    """
    if not reap():
        return  # the walk through all of /proc would find nothing: it takes longer than all else that a shim does
    stop_brood(reap)
    pause_s = _SHORTEST_PAUSE_S
    while reap():
        children = own_children()
        refused = [child for child in children if not _signal_child(child, signal.SIGKILL)]
        if refused and refused == children:
            return
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)


def continue_brood() -> None:
    """Let all descendants go on, those too that had been stopped before. Stopped, they can be found by one walk."""
    for proc in descendants(os.getpid()):
        send(proc, signal.SIGCONT)


def own_children() -> list[Proc]:
    """This process's children, zombies too, all at one instant where the kernel offers that (CONFIG_PROC_CHILDREN)."""
    me = os.getpid()
    try:
        with open(f"/proc/self/task/{me}/children", "rb") as children:
            pids = [int(pid) for pid in children.read().split()]
    except FileNotFoundError:
        return [proc for proc in _snapshot() if proc.parent == me]
    return [Proc(pid, me, stat.started) for pid in pids if (stat := _read_stat(pid))]


def kill_all(find: Find, reap: Callable[[], object], patience_s: float) -> list[Proc]:
    """Kill what `find` finds, others' children too, until it is gone; what is left when patience ends.

    All are killed once at least. `reap` is called meanwhile, for zombies. What forks and exits faster than /proc can be
    read may escape.
    """
    known: dict[tuple[int, int], Proc] = {}

    def find_known() -> list[Proc]:
        # With its ancestor dead, one that we found before is not found again: remember it until it is gone too.
        known.update({(proc.pid, proc.started): proc for proc in find()})
        return [proc for proc in known.values() if is_alive(proc)]

    give_up_at = time.monotonic() + patience_s
    pause_s = _SHORTEST_PAUSE_S
    killed = False  # on a machine that stalls, finding them may take all the patience there is
    while (left := _stop_all(find_known)) and not (killed and time.monotonic() >= give_up_at):
        for proc in left:
            send(proc, signal.SIGKILL)
        killed = True
        reap()
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
    return left


def send(proc: Proc, signum: int) -> bool:
    """Signal exactly this process, never one that has its pid by now. False: it is gone, or not ours to signal."""
    with contextlib.suppress(OSError):
        pidfd = linux.pidfd_open(proc.pid)
        try:
            # The descriptor holds whoever has the pid now; if that one began when ours did, it is ours.
            if is_alive(proc):
                linux.pidfd_send_signal(pidfd, signum)
                return True
        finally:
            os.close(pidfd)
    return False


def is_alive(proc: Proc) -> bool:
    """Whether it still runs, or is stopped; a zombie does not live."""
    now = read_proc(proc.pid)
    return now is not None and now.started == proc.started


def _stop_all(find: Find) -> list[Proc]:
    """Stop what `find` finds until it finds nothing else, and return that: so a kill meets a tree that stands still."""
    stopped: set[Proc] = set()
    while True:
        found = find()
        fresh = [proc for proc in found if proc not in stopped]
        if not fresh:
            return found
        for proc in fresh:
            send(proc, signal.SIGSTOP)
        stopped.update(fresh)


def _stop_fresh_children(known: set[Proc]) -> bool:
    fresh = set(own_children()) - known
    known |= fresh
    for child in fresh:
        _stop_group(child)
    return bool(fresh)


def _stop_fresh_below(known: set[Proc]) -> bool:
    # One that is gone, or refuses us, is not waited for.
    fresh = {proc for proc in descendants(os.getpid()) if proc not in known and _stop_group(proc)}
    known |= fresh
    return bool(fresh)


def _stop_group(proc: Proc) -> bool:
    """Stop it and its process group, which is of our tree too: groups do not reach out of a session.

    False: it is gone, or refuses us.
    """
    stat = _read_stat(proc.pid)
    if stat is None or stat.started != proc.started:
        return False
    try:
        os.killpg(stat.group, signal.SIGSTOP)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def _signal_child(child: Proc, signum: int) -> bool:
    """False: it refuses us. The pid is the child's own until we reap it, as a zombie too."""
    try:
        os.kill(child.pid, signum)
    except PermissionError:
        return False
    return True


def all_pids() -> Iterator[int]:
    """Every process that this one may see."""
    return (int(name) for name in os.listdir("/proc") if name.isdigit())


def read_proc(pid: int) -> Proc | None:
    """None: gone, or a zombie. A dead main thread whose others live on is shown as one too, and is none."""
    stat = _read_stat(pid)
    if stat is None or (stat.state in (b"Z", b"X") and stat.threads <= 1):
        return None
    return Proc(pid, stat.parent, stat.started)


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


class _Stat(NamedTuple):
    state: bytes
    parent: int
    group: int
    threads: int
    started: int


def _read_stat(pid: int) -> _Stat | None:
    try:
        with open(f"/proc/{pid}/stat", "rb") as stat:
            # The name, second field, is in brackets and may itself hold brackets and spaces.
            fields = stat.read().rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None
    return _Stat(fields[0], int(fields[1]), int(fields[2]), int(fields[17]), int(fields[19]))
