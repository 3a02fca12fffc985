"""`AsyncClient` for tests that are written for `Client`: its calls are made on an event loop in a thread."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator
from typing import Any, Final, Self, cast

from gsd_tasks import AsyncClient, Client
from gsd_tasks.client.http import HttpClient
from tests.waiting import BOUND_S

_END: Final = object()


class Adapted:
    """Has every method of `AsyncClient`, as `Client` has them; but for `stop`, which it does not have."""

    def __init__(self, **options: Any) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="loop", daemon=True)
        self._thread.start()
        self._client = AsyncClient(**options)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._client, name)
        if inspect.isasyncgenfunction(method):
            return lambda *given, **named: self._iterate(method(*given, **named))
        if inspect.iscoroutinefunction(method):
            return lambda *given, **named: self._run(method(*given, **named))
        return method  # type: ignore[no-any-return]

    def close(self) -> None:
        self._run(self._client.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(BOUND_S)

    def _iterate(self, given: AsyncGenerator[Any]) -> Iterator[Any]:
        async def following() -> Any:
            return await anext(given, _END)

        try:
            while (found := self._run(following())) is not _END:
                yield found
        finally:
            self._run(given.aclose())


#: The clients that know nothing but an API, by their kinds.
OVER_HTTP: Final[dict[str, Callable[..., Client]]] = {
    "http": HttpClient,
    "async": cast("Callable[..., Client]", Adapted),
}
