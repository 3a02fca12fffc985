"""The worker's side of the nursery: asking it for shims, and doing without it.

A shim from the nursery is this process's own child, as one that was executed: it is waited for in the same way.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import signal
import socket
import subprocess
import threading
from contextlib import ExitStack
from typing import IO, TYPE_CHECKING, Final, Protocol

from gsd_tasks.process.contain import shim_command, shim_environment
from gsd_tasks.process.shim import linux
from gsd_tasks.process.shim.nursery import ANSWER, ARGUMENT, PATH_BYTES, ROOM

if TYPE_CHECKING:
    from pathlib import Path

#: It answers within milliseconds, but for the first time, when it is being started.
PATIENCE_S: Final = 10.0


class Shim(Protocol):
    """A shim's process: a `subprocess.Popen`, or what does the same."""

    pid: int
    stdin: IO[bytes] | None
    stdout: IO[bytes] | None

    @property
    def returncode(self) -> int | None:
        """How it ended, if it has been waited for: below zero, the signal."""

    def wait(self, timeout: float | None = None) -> int:
        """Until it has ended. Raises `subprocess.TimeoutExpired`."""

    def kill(self) -> None:
        """SIGKILL, unless it was waited for."""


class NurseryFailed(Exception):
    """It did not answer. The next one to ask finds a new one."""


class Nursery:
    """Started when it is first needed, or by `start`; from then on asked by one thread at a time.

    One that is gone is started anew. On a kernel or an architecture that has no way to fork for somebody else, it gives
    nothing.
    """

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._is_useless = False

    def start(self) -> None:
        """Begin to load the code; returns at once. Raises OSError."""
        with self._turn:
            self._reach()

    def fork(self, folder: Path, lock: int, log: int) -> Shim | None:
        """A shim for this folder; None: it has none to give.

        Raises:
            NurseryFailed: nothing of what it may have begun is left, nor need the folder be.
            TimeoutError: the same, but for a shim that stands still: it ends as soon as it goes on.
            OSError: there are no descriptors left.
        """
        name = os.fsencode(folder)
        if self._is_useless or len(name) > PATH_BYTES:
            return None
        with ExitStack() as reading, ExitStack() as writing:
            with ExitStack() as theirs:
                their_in, our_out = _pipe(theirs, writing)
                our_in, their_out = _pipe(reading, theirs)
                answer = self._ask(name, [lock, their_in, their_out, log])
            if answer is None:
                writing.close()
                _await_silence(our_in)
                raise NurseryFailed
            if answer < 0:
                self._is_useless = True
                return None
            reading.pop_all()
            writing.pop_all()
        return _Forked(answer, our_out, our_in)

    def stop(self) -> None:
        """End it. The shims go on."""
        with self._turn:
            self._give_up()

    def _ask(self, folder: bytes, descriptors: list[int]) -> int | None:
        """What it answers. None: nothing, and it is gone."""
        with self._turn:
            nursery = self._reach()
            answer = b""
            with contextlib.suppress(OSError):
                socket.send_fds(nursery, [folder], descriptors)
                answer = nursery.recv(ANSWER.size)
            if not answer:
                self._give_up()
                return None
        pid: int = ANSWER.unpack(answer)[0]
        return pid

    def _reach(self) -> socket.socket:
        if self._process is not None and self._process.poll() is not None:
            self._give_up()
        if self._socket is None:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with theirs:
                self._process = subprocess.Popen(
                    shim_command(ARGUMENT, str(theirs.fileno()), ROOM),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    cwd="/",
                    env=shim_environment(),
                    pass_fds=[theirs.fileno()],
                    start_new_session=True,
                )
            ours.settimeout(PATIENCE_S)
            self._socket = ours
        return self._socket

    def _give_up(self) -> None:
        if self._socket is not None:
            self._socket.close()
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._socket = self._process = None


class _Forked:
    """A child of this process that `subprocess` knows nothing of."""

    def __init__(self, pid: int, stdin: int, stdout: int) -> None:
        self.pid = pid
        self.stdin: IO[bytes] | None = os.fdopen(stdin, "wb", buffering=0)
        self.stdout: IO[bytes] | None = os.fdopen(stdout, "rb", buffering=0)
        self.returncode: int | None = None

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None:
            self._await_end(timeout)
            _, status = os.waitpid(self.pid, 0)
            self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def kill(self) -> None:
        if self.returncode is None:
            os.kill(self.pid, signal.SIGKILL)

    def _await_end(self, timeout: float | None) -> None:
        ended = linux.pidfd_open(self.pid)  # nobody else's: our child keeps its pid until we have waited for it
        try:
            if not _ready(ended, timeout):
                raise subprocess.TimeoutExpired("shim", timeout or 0)
        finally:
            os.close(ended)


def _pipe(reading: ExitStack, writing: ExitStack) -> tuple[int, int]:
    """Its two ends, each closed with whom it belongs to."""
    read, write = os.pipe()
    reading.callback(os.close, read)
    writing.callback(os.close, write)
    return read, write


def _await_silence(our_in: int) -> None:
    """Until nobody has the other end any more: the nursery is gone, and a shim that has no worker ends at once.

    Raises TimeoutError.
    """
    while _ready(our_in, PATIENCE_S):
        if not os.read(our_in, 4096):
            return
    raise TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))


def _ready(descriptor: int, timeout_s: float | None) -> bool:
    poller = select.poll()
    poller.register(descriptor, select.POLLIN)
    return bool(poller.poll(None if timeout_s is None else max(0.0, timeout_s) * 1000))
