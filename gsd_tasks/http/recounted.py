"""Figures that take long to count: counted anew by a thread, so that nobody has to wait for them but once."""

from __future__ import annotations

import math
import threading
import time
from concurrent.futures import Future, wait
from typing import TYPE_CHECKING, Final, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

#: How long a look waits for a new count; else it tells the last one, and the next look the new.
PATIENCE_S: Final = 0.005


class Recounted(Generic[T]):
    """What `count` gave last. For one thread at a time.

    Looked at when it is old, it is counted anew, once at a time; what raises then comes out of the look that sees it.
    """

    def __init__(self, count: Callable[[], T]) -> None:
        self._count = count
        self._known: tuple[T] | None = None
        self._counting: Future[T] | None = None
        self._counted_at = -math.inf

    def look(self, *, fresh_s: float, patience_s: float = PATIENCE_S) -> T:
        """The last figures, no older than `fresh_s` when it was looked before; the very first ones are waited for."""
        if self._counting is None and time.monotonic() - self._counted_at >= fresh_s:
            self._counting = Future()
            threading.Thread(target=self._work, args=[self._counting], name="gsd-recount", daemon=True).start()
        if self._counting is not None:
            self._see(self._counting, patience_s)
        if self._known is None:
            raise RuntimeError("nothing was counted")
        return self._known[0]

    def _see(self, counting: Future[T], patience_s: float) -> None:
        wait([counting], timeout=None if self._known is None else patience_s)
        if counting.done():
            self._counting = None
            self._known = (counting.result(),)
            self._counted_at = time.monotonic()

    def _work(self, counting: Future[T]) -> None:
        try:
            counting.set_result(self._count())
        except BaseException as error:  # noqa: BLE001 (whoever looks next gets it)
            counting.set_exception(error)
