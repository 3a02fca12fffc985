"""One running life of a part: our child, or what a former run has left.

A child dies with the thread that spawned it, `kill -9` included (`trampoline`), and its stamp is on disk before its
program starts, so that the next run finds whatever is left. Only the process itself is ever signalled, never what it
has started: a worker's shims live in sessions of their own, and are to outlive it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from io import FileIO
from typing import Final

from gsd_tasks.domain.errors import ConfigurationError
from gsd_tasks.local import trampoline
from gsd_tasks.local.part import Become, Part, open_log, read_tail
from gsd_tasks.local.stamp import Stamp, has_ended, open_proven, read_stamp

KILL_BOUND_S: Final = 10.0  # for the kernel to clear away what was killed; longer only in uninterruptible IO


class Child:
    """A part's process that we have spawned."""

    def __init__(self, part: Part, process: subprocess.Popen[bytes], log_start: int) -> None:
        self.part = part
        self.pid = process.pid
        self.pidfd = os.pidfd_open(process.pid)
        self.spawned_at = time.monotonic()
        self._process = process
        self._log_start = log_start

    def exit_status(self) -> int | None:
        """None while it runs; else the exit code, or minus the signal. The `pidfd` is closed with the first answer."""
        status = self._process.poll()
        if status is not None and self.pidfd >= 0:
            os.close(self.pidfd)
            self.pidfd = -1
            self.part.record.unlink(missing_ok=True)
        return status

    def send(self, number: signal.Signals) -> None:
        """Signal it; nothing if it has ended."""
        self._process.send_signal(number)

    def log_tail(self) -> str:
        """The last lines that this life wrote to its log."""
        return read_tail(self.part.log, self._log_start)


class Leftover:
    """A process of a former run, proven to be it."""

    def __init__(self, pid: int, pidfd: int) -> None:
        self.pid = pid
        self.pidfd = pidfd

    def exit_status(self) -> int | None:
        """None while it runs, 0 after: how it ended is for its own parent to know. Closes the `pidfd` then."""
        if self.pidfd >= 0 and has_ended(self.pidfd, 0):
            os.close(self.pidfd)
            self.pidfd = -1
        return 0 if self.pidfd < 0 else None

    def send(self, number: signal.Signals) -> None:
        """Signal it; nothing if it has ended.

        Raises:
            ConfigurationError: it belongs to somebody else.
        """
        if self.pidfd < 0:
            return
        try:
            signal.pidfd_send_signal(self.pidfd, number)
        except ProcessLookupError:
            pass
        except PermissionError as error:
            raise ConfigurationError(f"process {self.pid}, of a former run, is another user's: end it first") from error


Life = Child | Leftover


def spawn(part: Part) -> Child:
    """Start a part. It lives no longer than the calling thread.

    Raises:
        GsdError: from its `prepare`.
        OSError: no process, or no log file.
    """
    part.prepare()
    until_go, go = os.pipe()
    with open_log(part.log) as log, FileIO(until_go) as stdin, FileIO(go, "wb") as go_on:
        log_start = log.tell()
        process = subprocess.Popen(
            trampoline_argv(part.argv, become=part.become, death_signal=part.death_signal, wait="wait"),
            stdin=stdin,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=dict(part.env),
            cwd=part.cwd,
            umask=part.umask,
            start_new_session=True,  # a Ctrl-C at the terminal is for us alone
        )
        child = Child(part, process, log_start)
        stamp = Stamp.of(process.pid)
        if stamp is not None:
            stamp.write(part.record)
        go_on.write(b"!")
    return child


def find_leftover(stamp: Stamp | None) -> Leftover | None:
    """The process with this stamp, if it still runs; `end` it, or close its `pidfd`."""
    pidfd = None if stamp is None else open_proven(stamp)
    return None if stamp is None or pidfd is None else Leftover(stamp.pid, pidfd)


def find_recorded(part: Part) -> Leftover | None:
    """What a former run has left of this part."""
    return find_leftover(read_stamp(part.record))


def end(life: Life | None, stop_signal: signal.Signals, bound_s: float) -> None:
    """End this one process: `stop_signal`, and KILL after `bound_s`. Returns when it is gone.

    Raises:
        ConfigurationError: it belongs to somebody else, or does not even end on KILL.
    """
    if life is None:
        return
    for number, wait_s in ((stop_signal, bound_s), (signal.SIGKILL, KILL_BOUND_S)):
        life.send(number)
        if wait_end(life, wait_s):
            return
    raise ConfigurationError(f"process {life.pid} does not end: see what holds it")


def wait_end(life: Life, bound_s: float) -> bool:
    """Sleep until it has ended, at most `bound_s`. True if it has."""
    if life.exit_status() is None:
        has_ended(life.pidfd, bound_s)
    return life.exit_status() is not None


def trampoline_argv(argv: tuple[str, ...], *, become: Become, death_signal: signal.Signals, wait: str) -> list[str]:
    """The command line that runs `argv` tied to this process; `wait` is `wait` or `now`."""
    options = (become.value, str(int(death_signal)), str(os.getpid()), wait, "--")
    return [sys.executable, "-I", "-S", trampoline.__file__, *options, *argv]
