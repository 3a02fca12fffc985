"""The child's three pipes, as the shim holds them."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from typing import Final, NamedTuple, Self

from gsd_tasks.process.spool.frames import MAX_PAYLOAD, STDERR, STDOUT, Counts
from gsd_tasks.process.spool.writer import SpoolWriter

# Which stream each pipe is, in the order of their descriptors in the child.
STREAMS: Final = (STDOUT, STDERR)


class Pipes(NamedTuple):
    """Both ends: `ours` stay with the shim (`ours[0]` is -1 when stdin is /dev/null), `theirs` become the child's."""

    ours: tuple[int, int, int]
    theirs: tuple[int, int, int]

    @classmethod
    def open(cls, stdin: bytes | None) -> Self:
        child_in, our_in = (os.open(os.devnull, os.O_RDONLY), -1) if stdin is None else os.pipe()
        our_out, child_out = os.pipe()
        our_err, child_err = os.pipe()
        for fd in (our_out, our_err):
            with contextlib.suppress(OSError):  # beyond what this user may have in pipes: slower, that is all
                fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, MAX_PAYLOAD)
        for fd in (our_in, our_out, our_err):
            if fd >= 0:
                os.set_blocking(fd, False)
        return cls((our_in, our_out, our_err), (child_in, child_out, child_err))

    def close_theirs(self) -> None:
        for fd in self.theirs:
            os.close(fd)


class Intake:
    """What comes out of the pipes, into the spool: the first `max_bytes` of it exactly, the rest into nothing.

    `full` once more than that has come; `failure` is the system's, once the spool could not be written. The pipes are
    read all the same: a child that has to end must not be stuck in a write.
    """

    def __init__(self, spool: SpoolWriter, max_bytes: int) -> None:
        self._spool = spool
        self._room = max_bytes
        self._buffer = memoryview(bytearray(MAX_PAYLOAD))
        self._news = False
        self.full = False
        self.failure: OSError | None = None

    @property
    def counts(self) -> Counts:
        return self._spool.counts

    def has_news(self) -> bool:
        """Whether anything was spooled since this was asked last."""
        news, self._news = self._news, False
        return news

    def take(self, fd: int, stream: int) -> int | None:
        """One read; how many bytes it brought, 0 at the end of the pipe, None if nothing is there now."""
        try:
            size = os.readv(fd, [self._buffer])
        except BlockingIOError:
            return None
        kept = min(size, self._room)
        self.full = self.full or kept < size
        if kept and self.failure is None:
            self._append(stream, kept)
        return size

    def _append(self, stream: int, size: int) -> None:
        try:
            self._spool.append(stream, self._buffer[:size], time.time_ns())
            self._room -= size
            self._news = True
        except OSError as error:
            self.failure = error
