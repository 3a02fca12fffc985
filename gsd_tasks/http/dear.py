"""What may keep a thread and a connection for long: so many at a time that threads are left for all the others."""

from __future__ import annotations

import functools
from collections.abc import Callable, Coroutine
from typing import Any, Final, ParamSpec, TypeVar

from anyio import CapacityLimiter
from anyio.lowlevel import RunVar
from fastapi.concurrency import run_in_threadpool

P = ParamSpec("P")
T = TypeVar("T")

#: Of the threads that there are (`http.app`).
MOST: Final = 4
_turns: Final[RunVar[CapacityLimiter]] = RunVar("gsd_dear")


def in_turn(function: Callable[P, T]) -> Callable[P, Coroutine[Any, Any, T]]:
    """A decorator for a route's function that reads or changes much at once; who waits for his turn takes no thread."""

    @functools.wraps(function)
    async def wait_and_run(*args: P.args, **kwargs: P.kwargs) -> T:
        async with _limiter():
            return await run_in_threadpool(function, *args, **kwargs)

    return wait_and_run


def _limiter() -> CapacityLimiter:
    """That of this event loop."""
    try:
        return _turns.get()
    except LookupError:
        limiter = CapacityLimiter(MOST)
        _turns.set(limiter)
        return limiter
