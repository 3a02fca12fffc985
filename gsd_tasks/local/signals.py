"""Signals as something to wait for, beside everything else that a loop waits for."""

from __future__ import annotations

import signal
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Final, Self

STOP_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # HUP: the terminal was closed
ECHO_S: Final = 1.0  # a wrapper (make, uv run) passes on the Ctrl-C that the terminal has sent us already


@contextmanager
def handled(handlers: Mapping[signal.Signals, Callable[[int, FrameType | None], object]]) -> Iterator[None]:
    """These handlers for the length of a block, and then the former ones again. Main thread only."""
    former = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


class Wakeup:
    """Readable (`fileno`) when a signal has come, within its block. Main thread only.

    For who has handlers and waits: that of a signal which comes in the moment before the wait runs after it, unless
    the wait is one for this, too.
    """

    def __enter__(self) -> Self:
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)
        self._former_fd = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        return self

    def __exit__(self, _kind: type[BaseException] | None, _error: object, _trace: TracebackType | None) -> None:
        signal.set_wakeup_fd(self._former_fd)
        self._reader.close()
        self._writer.close()

    def fileno(self) -> int:
        return self._reader.fileno()

    def drain(self) -> None:
        """Make it unreadable until the next one."""
        try:
            while self._reader.recv(4096):
                pass
        except BlockingIOError:
            pass


class StopRequests(Wakeup):
    """Counts requests to stop, within its block. Readable when one arrives.

    `first` is the signal that the first of them was.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.count = 0
        self.first: signal.Signals | None = None
        self._clock = clock
        self._last = float("-inf")
        self._handled = handled(dict.fromkeys(STOP_SIGNALS, self._note))

    def __enter__(self) -> Self:
        super().__enter__()
        self._handled.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        self._handled.__exit__(None, None, None)
        super().__exit__(kind, error, trace)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self.first = self.first or signal.Signals(number)
        now = self._clock()
        if now - self._last >= ECHO_S:
            self.count += 1
            self._last = now
