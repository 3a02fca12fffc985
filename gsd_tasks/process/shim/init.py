"""Process 1 of the child's small world: its parent, and the adopter of everything that it leaves behind.

It runs the same code as the shim, forked from it and not executed anew, and does what the shim cannot do from outside:
in a PID namespace `kill(-1)` reaches every process at one instant, and with process 1 the kernel ends all others.
Without a namespace it finds its descendants in /proc instead.

It obeys single bytes on a pipe (`Command`), and reports in packets of a few words. The pipe's end is the shim's death:
then everything dies, whichever way the shim went.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
from enum import Enum
from typing import Final, NoReturn

from gsd_tasks.process.shim import child, tree
from gsd_tasks.process.shim.child import Program
from gsd_tasks.process.shim.protocol import Containment


class Command(Enum):
    """What init is told. FREEZE stops all processes, THAW continues them; KILL ends all of them, init too."""

    FREEZE = b"f"
    THAW = b"t"
    INTERRUPT = b"i"
    TERMINATE = b"e"
    KILL = b"k"


_GROUP_SIGNALS: Final = {Command.INTERRUPT: signal.SIGINT, Command.TERMINATE: signal.SIGTERM}


class Init:
    """The life of process 1, from the fork of the child to the death of the last process."""

    def __init__(self, commands: int, reports: socket.socket, containment: Containment) -> None:
        self._commands = commands
        self._reports = reports
        self._whole = containment is Containment.PID_NAMESPACE
        self._child = 0

    def live(self, program: Program) -> NoReturn:
        awake = self._wake_on_child_death()
        try:
            self._child = child.spawn(program, lambda: self.report("child"))
        except child.NotExecuted as failure:
            self.report(f"failed {failure.stage} {failure.code}")
            os._exit(1)
        for fd in program.stdio:  # the pipes end with the child, not with us
            os.close(fd)
        self.report("started")
        poller = select.poll()
        poller.register(self._commands, select.POLLIN)
        poller.register(awake, select.POLLIN)
        self._reap()
        while True:
            ready = {fd for fd, _ in poller.poll()}
            if awake in ready:
                os.read(awake, 4096)
            self._reap()
            if self._commands in ready:
                self._obey(os.read(self._commands, 1))

    def report(self, words: str) -> None:
        with contextlib.suppress(OSError):  # the shim is gone: the pipe says so too
            self._reports.send(words.encode())

    @staticmethod
    def _wake_on_child_death() -> int:
        awake, waker = os.pipe()
        os.set_blocking(awake, False)
        os.set_blocking(waker, False)
        signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        return awake

    def _obey(self, byte: bytes) -> None:
        match Command(byte) if byte else Command.KILL:
            case Command.FREEZE:
                self._stop_everything()
                self.report("frozen")
            case Command.THAW:
                self._continue_everything()
                self.report("thawed")
            case Command.KILL:
                self._kill_everything()
                os._exit(0)
            case command:
                self._signal_group(_GROUP_SIGNALS[command])

    def _signal_group(self, signum: int) -> None:
        # Once the child is reaped its number may be another's.
        if self._child:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._child, signum)

    def _stop_everything(self) -> None:
        if self._whole:
            _signal_all(signal.SIGSTOP)
        else:
            tree.stop_brood(self._reap)

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
