"""An event loop whose time passes only when nobody is at work: what has not come by then does not come."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from typing import Any, TypeVar, TypeVarTuple

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class Clockwork(asyncio.SelectorEventLoop):
    """Where nothing is ready and no thread is at work for it, its clock leaps to what is due next.

    A thread that a test holds up (`held`, which is for the loop's own thread) is not at work.
    """

    def __init__(self) -> None:
        self.now = 0.0
        self.at_work = self.held = 0
        super().__init__(_Selector(self))

    def time(self) -> float:
        """Seconds since it was made."""
        return self.now

    def run_in_executor(self, executor: Executor | None, func: Callable[[*Ts], T], *args: *Ts) -> asyncio.Future[T]:
        """As ever, and counted."""
        self.at_work += 1
        future = super().run_in_executor(executor, func, *args)
        future.add_done_callback(self._is_done)
        return future

    def _is_done(self, _future: object) -> None:
        self.at_work -= 1


class _Selector(selectors.DefaultSelector):
    def __init__(self, loop: Clockwork) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> Any:
        if not timeout:
            return super().select(timeout)
        if self._loop.at_work > self._loop.held:
            return super().select(None)  # until a thread says that it is done
        self._loop.now += timeout
        return super().select(0)


def run(main: Coroutine[Any, Any, T]) -> T:
    """As `asyncio.run`."""
    with asyncio.Runner(loop_factory=Clockwork) as runner:
        return runner.run(main)
