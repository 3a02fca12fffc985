"""Hearing that the server is told to stop, before it begins to wait for what is open.

An ASGI server tells its app to stop only when every connection is closed, and a stream closes only when it is told to.
So the signals' handlers, which the server has set by the time that the app starts, are wrapped.
"""

from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


def hear_of_stop(say: Callable[[], object]) -> Callable[[], None]:
    """Call `say` when one of the signals comes, then whoever was to handle it. Returns what undoes it.

    `say` is called within a handler, on the main thread. A signal that nobody handles stays as it is, and off the main
    thread nothing is heard: whoever runs a server there stops the live tail himself.
    """
    if threading.current_thread() is not threading.main_thread():
        return lambda: None
    undoing = [undo for number in SIGNALS if (undo := _wrap(number, say)) is not None]

    def undo_all() -> None:
        for undo in undoing:
            undo()

    return undo_all


def _wrap(number: signal.Signals, say: Callable[[], object]) -> Callable[[], None] | None:
    former = signal.getsignal(number)
    if not callable(former):
        return None

    def heard(signum: int, frame: FrameType | None) -> None:
        say()
        former(signum, frame)

    signal.signal(number, heard)

    def undo() -> None:
        # Whoever has set another one since then keeps it.
        if signal.getsignal(number) is heard:
            signal.signal(number, former)

    return undo
