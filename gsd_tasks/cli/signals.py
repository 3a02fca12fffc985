"""SIGINT and SIGTERM as events in a queue, instead of exceptions in the middle of something."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from queue import SimpleQueue
from types import FrameType
from typing import Final

_CAUGHT: Final = (signal.SIGINT, signal.SIGTERM)


@dataclass(frozen=True, slots=True)
class Signalled:
    """A first signal, to be answered in its own time."""

    number: int


class Leave(KeyboardInterrupt):
    """A further signal: whoever sent it waits no longer. Raised in the main thread, wherever it is."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


class Signals:
    """`events` receives the first signal. `leave_on_next` says whether a further one raises `Leave`.

    With nobody to ask it starts as false: wrappers and CI runners like to send a signal twice, and the second one must
    not keep the first from cancelling the session.
    """

    def __init__(self) -> None:
        # SimpleQueue.put is the one that may be called from a signal handler: it takes no lock that we might hold.
        self.events: SimpleQueue[object] = SimpleQueue()
        self.interactive = _somebody_is_there()
        self.leave_on_next = self.interactive
        self._seen = False

    @classmethod
    def catch(cls) -> Signals:
        """The signals of this process; `ignore` ends it. In the main thread alone, as Python has it.

        One that was ignored when we were started stays so: a shell does that to a job in the background.
        """
        signals = cls()
        for number in _CAUGHT:
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, signals._take)
        return signals

    @staticmethod
    def ignore() -> None:
        """For a process that is about to end: a late signal must not change its exit code any more."""
        # Not a handler of ours: the interpreter gives those up, for the default, before it has ended.
        for number in _CAUGHT:
            signal.signal(number, signal.SIG_IGN)

    @classmethod
    @contextmanager
    def caught(cls) -> Iterator[Signals]:
        """`catch`, for the length of a block."""
        before = {number: signal.getsignal(number) for number in _CAUGHT}
        try:
            yield cls.catch()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def answered(self) -> None:
        """The next signal is a first one again."""
        self._seen = False

    def _take(self, number: int, _frame: FrameType | None) -> None:
        if self._seen and self.leave_on_next:
            raise Leave(number)
        if not self._seen:
            self._seen = True
            self.events.put(Signalled(number))


def _somebody_is_there() -> bool:
    # Some CI systems give their jobs a terminal; nobody sits at it.
    return sys.stdin is not None and sys.stdin.isatty() and not os.environ.get("CI")
