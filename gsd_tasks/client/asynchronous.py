"""The client that talks to an API without blocking an event loop."""

from __future__ import annotations

import asyncio
import inspect
import time
from contextlib import aclosing, asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, Self, TypeVar, Unpack

import httpx2

from gsd_tasks.client import calls
from gsd_tasks.client.contract import Client
from gsd_tasks.client.endpoint import find_endpoint
from gsd_tasks.client.tailing import LOOK_S, NO_CONTENT, Feed, Raw, Tail, Waiting, advance
from gsd_tasks.client.transport import (
    AGAIN_S,
    asked,
    asked_for_stream,
    begins,
    failure,
    is_broken,
    options,
    read,
    refusal,
)
from gsd_tasks.domain.errors import ApiUnavailable, NoSuchSession, Unavailable
from gsd_tasks.domain.events import OUTPUT, Event, Handlers
from gsd_tasks.settings import read_settings

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
    from datetime import datetime
    from uuid import UUID

    from gsd_tasks.client.calls import Call
    from gsd_tasks.client.request import NewSession
    from gsd_tasks.domain.costs import RecordedTurn
    from gsd_tasks.domain.record import Attempt, TranscriptEntry
    from gsd_tasks.domain.session import HistoryEntry, OutputRow, Session, Worker
    from gsd_tasks.domain.snapshot import Restored, Snapshot
    from gsd_tasks.domain.statistics import Statistics
    from gsd_tasks.domain.tree import Branch
    from gsd_tasks.domain.verification import Verified
    from gsd_tasks.settings import Settings

T = TypeVar("T")


class AsyncClient:
    """`Client` for an event loop: the same methods, values and errors, over HTTP alone.

    It talks to the API of `url`, else of `GSD_API_URL`, else of this user's running `gsd-tasks up`. `follow`, `listen`
    and `raw_output` are asynchronous iterators, and what `on` registers may be asynchronous functions. There is no
    `stop`: cancel the task, or close the iterator (`contextlib.aclosing`), which ends its connection at once.

        async with AsyncClient() as client:
            session = await client.enqueue(prompt="Fix the failing test", working_dir="/srv/app")
            async for row in client.follow(session.id):
                print(row.as_text())

    For one event loop. Use it as a context manager, or `close` it.

    Raises:
        ConfigurationError: there is no API, or no token for it, or a setting is wrong.
    """

    def __init__(self, *, settings: Settings | None = None, url: str | None = None, token: str | None = None) -> None:
        self._endpoint = find_endpoint(settings or read_settings(), url, token)
        self._http = httpx2.AsyncClient(**options(self._endpoint))
        self._handlers = Handlers()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        await self._http.aclose()

    async def enqueue(self, **request: Unpack[NewSession]) -> Session:
        return await self._ask(calls.enqueue(request))

    async def enqueue_many(self, requests: Sequence[Mapping[str, Any]]) -> Sequence[Session]:
        return await self._ask(calls.enqueue_many(requests))

    async def get(self, session_id: str | UUID) -> Session:
        return await self._ask(calls.get(session_id))

    async def list(
        self,
        *,
        status: str | Iterable[str] | None = None,
        name: str | None = None,
        thread: str | None = None,
        parent: str | UUID | None = None,
        queue: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int = 50,
        after: str | UUID | None = None,
    ) -> Sequence[Session]:
        return await self._ask(
            calls.list_(
                status=status,
                limit=limit,
                since=since,
                until=until,
                name=name,
                thread=thread,
                parent=parent,
                queue=queue,
                after=after,
            )
        )

    async def tree(self, session_id: str | UUID) -> Sequence[Branch]:
        return await self._ask(calls.tree(session_id))

    async def cancel(self, session_id: str | UUID) -> Session:
        return await self._ask(calls.cancel(session_id))

    async def pause(self, session_id: str | UUID) -> Session:
        return await self._ask(calls.pause(session_id))

    async def resume(self, session_id: str | UUID, prompt: str | None = None) -> Session:
        return await self._ask(calls.resume(session_id, prompt))

    async def send(self, session_id: str | UUID, message: str) -> int:
        return await self._ask(calls.send(session_id, message))

    async def interrupt(self, session_id: str | UUID) -> Session:
        return await self._ask(calls.interrupt(session_id))

    async def fork(self, session_id: str | UUID, prompt: str | None = None, *, name: str | None = None) -> Session:
        return await self._ask(calls.fork(session_id, prompt, name))

    async def retry(self, session_id: str | UUID) -> Session:
        return await self._ask(calls.retry(session_id))

    async def delete(self, session_id: str | UUID) -> None:
        await self._ask(calls.delete(session_id))

    async def update_context(self, session_id: str | UUID, changes: Mapping[str, Any]) -> Session:
        return await self._ask(calls.update_context(session_id, changes))

    async def snapshots(self, session_id: str | UUID) -> Sequence[Snapshot]:
        return await self._ask(calls.snapshots(session_id))

    async def snapshot(self, session_id: str | UUID, *, name: str | None = None) -> Snapshot:
        return await self._ask(calls.snapshot(session_id, name))

    async def restore(self, session_id: str | UUID, snapshot: str | UUID) -> Restored:
        return await self._ask(calls.restore(session_id, snapshot))

    async def verify(self, session_id: str | UUID, *, repair: bool = False) -> Verified:
        return await self._ask(calls.repair(session_id) if repair else calls.verify(session_id))

    async def output(
        self,
        session_id: str | UUID,
        *,
        after_seq: int = 0,
        limit: int = 1000,
        stream: str | None = None,
        newest_first: bool = False,
    ) -> Sequence[OutputRow]:
        return await self._ask(
            calls.output(session_id, after_seq=after_seq, limit=limit, stream=stream, newest_first=newest_first)
        )

    async def output_since(
        self, session_id: str | UUID, time: datetime, *, stream: str | None = None, limit: int = 1000
    ) -> Sequence[OutputRow]:
        return await self._ask(calls.output(session_id, limit=limit, stream=stream, since=time))

    async def raw_output(self, session_id: str | UUID, stream: str | None = None) -> AsyncIterator[bytes]:
        raw = Raw(session_id, stream)
        while not raw.has_ended:
            call = raw.call()
            try:
                async with self._open(call) as response, aclosing(self._taken(raw, call, response)) as pieces:
                    async for piece in pieces:
                        yield piece
            except Unavailable as error:
                await asyncio.sleep(raw.failed(error, time.monotonic()))

    async def follow(
        self, session_id: str | UUID, *, after_seq: int = 0, stream: str | None = None
    ) -> AsyncIterator[OutputRow]:
        chosen = calls.choose_stream(stream)
        tail = Tail(await self.get(session_id), after_seq=after_seq, stream=chosen)
        async with aclosing(self._pieces(tail)) as pieces:
            async for piece in pieces:
                for row in tail.rows(piece or b""):
                    yield row
                if tail.has_ended:
                    return

    async def wait(self, session_id: str | UUID, *, timeout_s: float | None = None) -> Session:
        waiting = Waiting(await self.get(session_id), timeout_s, time.monotonic())
        while (call := waiting.call(time.monotonic())) is not None:
            try:
                waiting.heard(await self._ask(call))
            except Unavailable as error:
                await asyncio.sleep(waiting.failed(error, time.monotonic()))
        return waiting.session

    async def history(self, session_id: str | UUID) -> Sequence[HistoryEntry]:
        return await self._ask(calls.history(session_id))

    async def attempts(self, session_id: str | UUID) -> Sequence[Attempt]:
        return await self._ask(calls.attempts(session_id))

    async def transcript(
        self, session_id: str | UUID, *, after_seq: int = 0, limit: int = 200
    ) -> Sequence[TranscriptEntry]:
        return await self._ask(calls.transcript(session_id, after_seq=after_seq, limit=limit))

    async def turns(self, session_id: str | UUID) -> Sequence[RecordedTurn]:
        return await self._ask(calls.turns(session_id))

    async def stats(self, *, since: datetime | None = None, by: str | None = None) -> Statistics:
        return await self._ask(calls.stats(since, by))

    async def workers(self) -> Sequence[Worker]:
        return await self._ask(calls.workers())

    def on(self, name: str) -> Callable[[Callable[[Event], object]], Callable[[Event], object]]:
        return self._handlers.on(name)

    async def listen(self, *, after: str | None = None) -> AsyncIterator[Event]:
        feed = Feed(after, wants_rows=lambda: bool(self._handlers.of(OUTPUT)))
        async with aclosing(self._pieces(feed)) as pieces:
            async for piece in pieces:
                async with aclosing(self._events(feed, piece)) as events:
                    async for event in events:
                        yield event

    async def _events(self, feed: Feed, piece: bytes | None) -> AsyncGenerator[Event]:
        steps = feed.steps(piece)
        answer: Sequence[Any] | None = None
        while (step := advance(steps, answer)) is not None:
            answer = None
            if isinstance(step, Event):
                for handler in self._handlers.of(step.name):
                    done = handler(step)
                    if inspect.isawaitable(done):
                        await done
                yield step
            else:
                answer = await self._ask_patiently(step, feed)

    async def _ask_patiently(self, call: Call[Any], feed: Feed) -> Sequence[Any]:
        """As long as it takes, as what is told has to be whole."""
        while True:
            try:
                answer: Sequence[Any] = feed.heard(await self._ask(call))
            except NoSuchSession:
                return ()  # It was deleted meanwhile.
            except Unavailable as error:
                await asyncio.sleep(feed.patience.failed(error, time.monotonic()))
            else:
                return answer

    async def _pieces(self, source: Tail | Feed) -> AsyncGenerator[bytes | None]:
        """Of a stream that goes on after a break, until all is told; None while nothing comes."""
        patience = source.patience
        while True:
            call = source.call()
            try:
                async with self._open(call) as response, Pump(response) as pump:
                    if response.status_code == NO_CONTENT:
                        return
                    patience.connected()
                    while (piece := await self._next(call, pump)) != b"":
                        if piece:
                            patience.worked()
                        yield piece
                error: Unavailable = ApiUnavailable(f"the API at {self._endpoint.host} ended the stream")
            except Unavailable as broken:
                error = broken
            await asyncio.sleep(patience.failed(error, time.monotonic()))

    async def _next(self, call: Call[bytes], pump: Pump) -> bytes | None:
        with self._told(call):
            return await pump.next(LOOK_S)

    async def _taken(self, raw: Raw, call: Call[bytes], response: httpx2.Response) -> AsyncGenerator[bytes]:
        raw.begin(response.status_code)
        pieces = response.aiter_bytes()
        while not raw.has_ended:
            with self._told(call):
                piece = await anext(pieces, b"")
            raw.has_ended = not piece
            if new := raw.take(piece):
                yield new

    async def _ask(self, call: Call[T]) -> T:
        request = self._http.build_request(**asked(self._endpoint, call))
        for pause_s in AGAIN_S if call.repeatable else ():
            try:
                response = await self._http.send(request)
            except httpx2.RequestError as error:
                if not is_broken(error):
                    raise failure(self._endpoint, error, call) from error
                await asyncio.sleep(pause_s)
            else:
                return read(call, response)
        with self._told(call):
            response = await self._http.send(request)
        return read(call, response)

    @asynccontextmanager
    async def _open(self, call: Call[bytes]) -> AsyncIterator[httpx2.Response]:
        """An answer whose body is read as it comes. What is no success is raised."""
        with self._told(call):
            request = self._http.build_request(**asked_for_stream(self._endpoint, call))
            response = await self._http.send(request, stream=True)
        try:
            if not begins(call, response):
                with self._told(call):
                    await response.aread()
                raise refusal(response)
            yield response
        finally:
            await response.aclose()

    @contextmanager
    def _told(self, call: Call[Any]) -> Iterator[None]:
        """What fails on the way is told as `ApiUnavailable`."""
        try:
            yield
        except httpx2.RequestError as error:
            raise failure(self._endpoint, error, call) from error


class Pump:
    """The pieces of a response, as they arrive, for whoever looks at other things meanwhile."""

    def __init__(self, response: httpx2.Response) -> None:
        self._pieces = response.aiter_bytes()
        self._reading: asyncio.Task[bytes] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.wait([self._reading])

    async def next(self, within_s: float) -> bytes | None:
        """The next piece, empty at the end of the stream; None: there was none within this time."""
        if self._reading is None:
            self._reading = asyncio.create_task(self._read())
        done, _ = await asyncio.wait([self._reading], timeout=within_s)
        if not done:
            return None
        reading, self._reading = self._reading, None
        return reading.result()

    async def _read(self) -> bytes:
        async for piece in self._pieces:
            if piece:
                return piece
        return b""


for _name, _method in vars(Client).items():
    # What a method does is said once.
    if callable(_method) and not _name.startswith("_"):
        vars(AsyncClient)[_name].__doc__ = _method.__doc__
