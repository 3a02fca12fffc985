"""Process 1 of the child's small world: its parent, and the adopter of everything that it leaves behind.

It runs the same code as the shim, forked from it and not executed anew, and does what the shim cannot do from outside:
in a PID namespace `kill(-1)` reaches every process at one instant, and with process 1 the kernel ends all others.
Without a namespace it finds its descendants in /proc instead.

It obeys orders on a pipe (`Command`), and reports in packets of a few words. The pipe's end is the shim's death: then
everything dies, whichever way the shim went. A shim that merely stands still, stopped or stuck on its disk, is not
needed for promise 3: init knows the deadline, and freezes, thaws and in the end abandons the tree by itself.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import struct
import time
from enum import Enum
from typing import Final, NamedTuple, NoReturn

from gsd_tasks.process.shim import child, linux, tree
from gsd_tasks.process.shim.child import Program
from gsd_tasks.process.shim.protocol import Containment

# While frozen, everything is stopped again this often: somebody may have let a process of it go on, by hand. Where that
# takes long (a walk through /proc on a crowded host), less often: it may have this share of a processor.
_FREEZE_AGAIN_S: Final = 1.0
_SHARE: Final = 0.02
_ORDER: Final = struct.Struct("<cd")


class Command(Enum):
    """What init is told. DEADLINE brings a moment of CLOCK_BOOTTIME; KILL ends all processes, init too."""

    DEADLINE = b"d"
    INTERRUPT = b"i"
    TERMINATE = b"e"
    KILL = b"k"

    def encode(self, boot_s: float = 0.0) -> bytes:
        """As it goes through the pipe: of one length, and in one piece."""
        return _ORDER.pack(self.value, boot_s)


class Term(NamedTuple):
    """How long the tree may work: until the deadline. Frozen, it waits for a later one for `freeze_bound_s`."""

    deadline_boot_s: float
    freeze_bound_s: float


_GROUP_SIGNALS: Final = {Command.INTERRUPT: signal.SIGINT, Command.TERMINATE: signal.SIGTERM}


class Init:
    """The life of process 1, from the fork of the child to the death of the last process."""

    def __init__(self, commands: int, reports: socket.socket, containment: Containment) -> None:
        self._commands = commands
        self._reports = reports
        self._whole = containment is Containment.PID_NAMESPACE
        self._child = 0
        self._frozen_at: float | None = None
        self._rest_s = _FREEZE_AGAIN_S

    def live(self, program: Program, term: Term) -> NoReturn:
        awake = self._wake_on_child_death()
        try:
            self._child = child.spawn(program)
        except child.NotExecuted as failure:
            self.report(f"failed {failure.stage} {failure.code}")
            os._exit(1)
        for fd in program.stdio:  # the pipes end with the child, not with us
            os.close(fd)
        self._report_started()
        timer = linux.boot_timer()
        linux.set_boot_timer(timer, term.deadline_boot_s)
        poller = select.poll()
        for fd in (self._commands, awake, timer):
            poller.register(fd, select.POLLIN)
        while True:
            self._reap()
            self._keep(term)
            ready = {fd for fd, _ in poller.poll(self._patience_ms(term))}
            for fd in ready - {self._commands}:
                os.read(fd, 4096)
            if self._commands in ready:
                # One at a time: what the next one is for may be running only since this one.
                term = self._obey(os.read(self._commands, _ORDER.size), term)
                linux.set_boot_timer(timer, term.deadline_boot_s)

    def report(self, words: str) -> None:
        with contextlib.suppress(OSError):  # the shim is gone: the pipe says so too
            self._reports.send(words.encode())

    def _report_started(self) -> None:
        """With a descriptor of the child: by that the shim learns its pid, which is another one outside."""
        pidfd = linux.pidfd_open(self._child)
        with contextlib.suppress(OSError):
            socket.send_fds(self._reports, [b"started"], [pidfd])
        os.close(pidfd)

    @staticmethod
    def _wake_on_child_death() -> int:
        awake, waker = os.pipe()
        os.set_blocking(awake, False)
        os.set_blocking(waker, False)
        signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        return awake

    def _keep(self, term: Term) -> None:
        """Past the deadline nothing runs, before it everything does; for the limits, the shim is told since when.

        The bound is on CLOCK_MONOTONIC: a machine that slept past all deadlines leaves its worker time to come back.
        """
        now = time.monotonic()
        if linux.boot_s() < term.deadline_boot_s:
            if self._frozen_at is not None:
                self._continue_everything()
                self._frozen_at = None
                self.report(f"thawed {time.monotonic()}")
        elif self._frozen_at is None:
            self._stop_everything()
            self._frozen_at = now
            self.report(f"frozen {now}")
        elif now < self._frozen_at + term.freeze_bound_s:
            self._stop_everything()
        else:
            self.report("abandoned")
            self._end()

    def _patience_ms(self, term: Term) -> float | None:
        if self._frozen_at is None:
            return None
        return 1000 * min(self._rest_s, max(0.0, self._frozen_at + term.freeze_bound_s - time.monotonic()))

    def _obey(self, order: bytes, term: Term) -> Term:
        value, boot_s = _ORDER.unpack(order) if order else (Command.KILL.value, 0.0)
        match Command(value):
            case Command.DEADLINE:
                return term._replace(deadline_boot_s=boot_s)
            case Command.KILL:
                self._end()
            case command:
                self._signal_group(_GROUP_SIGNALS[command])
        return term

    def _end(self) -> NoReturn:
        self._kill_everything()
        os._exit(0)

    def _signal_group(self, signum: int) -> None:
        # Once the child is reaped its number may be another's.
        if self._child:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._child, signum)

    def _stop_everything(self) -> None:
        began = time.monotonic()
        if self._whole:
            _signal_all(signal.SIGSTOP)
        else:
            tree.stop_brood(self._reap)
        self._rest_s = max(_FREEZE_AGAIN_S, (time.monotonic() - began) / _SHARE)

    def _continue_everything(self) -> None:
        if self._whole:
            _signal_all(signal.SIGCONT)
        else:
            tree.continue_brood()

    def _kill_everything(self) -> None:
        if self._whole:
            _signal_all(signal.SIGKILL)
            self._reap(options=0)
        else:
            tree.kill_brood(self._reap)

    def _reap(self, options: int = os.WNOHANG) -> bool:
        """Take all who ended (with options 0: wait for all there are); whether there are others.

        A stopped process is not asked for.
        """
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, status, usage = os.wait4(-1, options)
                if pid == 0:
                    return True
                if pid == self._child:
                    self._child = 0
                    self.report(f"exited {status} {usage.ru_maxrss}")
        return False


def _signal_all(signum: int) -> None:
    """Every process of the namespace but ourselves, at one instant: no fork escapes it."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(-1, signum)
