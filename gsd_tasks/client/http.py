"""The client that talks to an API."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar, Unpack

import httpx2

from gsd_tasks.client import calls
from gsd_tasks.client.contract import Client
from gsd_tasks.client.endpoint import find_endpoint
from gsd_tasks.client.pump import Pump
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
    import threading
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
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


class HttpClient(Client):
    """`Client` where only an API can be reached."""

    def __init__(self, *, settings: Settings | None = None, url: str | None = None, token: str | None = None) -> None:
        self._endpoint = find_endpoint(settings or read_settings(), url, token)
        self._http = httpx2.Client(**options(self._endpoint))
        self._handlers = Handlers()

    def close(self) -> None:
        self._http.close()

    def enqueue(self, **request: Unpack[NewSession]) -> Session:
        return self._ask(calls.enqueue(request))

    def enqueue_many(self, requests: Sequence[Mapping[str, Any]]) -> Sequence[Session]:
        return self._ask(calls.enqueue_many(requests))

    def get(self, session_id: str | UUID) -> Session:
        return self._ask(calls.get(session_id))

    def list(
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
        return self._ask(
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

    def tree(self, session_id: str | UUID) -> Sequence[Branch]:
        return self._ask(calls.tree(session_id))

    def cancel(self, session_id: str | UUID) -> Session:
        return self._ask(calls.cancel(session_id))

    def pause(self, session_id: str | UUID) -> Session:
        return self._ask(calls.pause(session_id))

    def resume(self, session_id: str | UUID, prompt: str | None = None) -> Session:
        return self._ask(calls.resume(session_id, prompt))

    def send(self, session_id: str | UUID, message: str) -> int:
        return self._ask(calls.send(session_id, message))

    def interrupt(self, session_id: str | UUID) -> Session:
        return self._ask(calls.interrupt(session_id))

    def fork(self, session_id: str | UUID, prompt: str | None = None, *, name: str | None = None) -> Session:
        return self._ask(calls.fork(session_id, prompt, name))

    def retry(self, session_id: str | UUID) -> Session:
        return self._ask(calls.retry(session_id))

    def delete(self, session_id: str | UUID) -> None:
        self._ask(calls.delete(session_id))

    def update_context(self, session_id: str | UUID, changes: Mapping[str, Any]) -> Session:
        return self._ask(calls.update_context(session_id, changes))

    def snapshots(self, session_id: str | UUID) -> Sequence[Snapshot]:
        return self._ask(calls.snapshots(session_id))

    def snapshot(self, session_id: str | UUID, *, name: str | None = None) -> Snapshot:
        return self._ask(calls.snapshot(session_id, name))

    def restore(self, session_id: str | UUID, snapshot: str | UUID) -> Restored:
        return self._ask(calls.restore(session_id, snapshot))

    def verify(self, session_id: str | UUID, *, repair: bool = False) -> Verified:
        return self._ask(calls.repair(session_id) if repair else calls.verify(session_id))

    def output(
        self,
        session_id: str | UUID,
        *,
        after_seq: int = 0,
        limit: int = 1000,
        stream: str | None = None,
        newest_first: bool = False,
    ) -> Sequence[OutputRow]:
        return self._ask(
            calls.output(session_id, after_seq=after_seq, limit=limit, stream=stream, newest_first=newest_first)
        )

    def output_since(
        self, session_id: str | UUID, time: datetime, *, stream: str | None = None, limit: int = 1000
    ) -> Sequence[OutputRow]:
        return self._ask(calls.output(session_id, limit=limit, stream=stream, since=time))

    def raw_output(self, session_id: str | UUID, stream: str | None = None) -> Iterator[bytes]:
        raw = Raw(session_id, stream)
        while not raw.has_ended:
            call = raw.call()
            try:
                with self._open(call) as response:
                    yield from self._taken(raw, call, response)
            except Unavailable as error:
                time.sleep(raw.failed(error, time.monotonic()))

    def follow(
        self,
        session_id: str | UUID,
        *,
        after_seq: int = 0,
        stream: str | None = None,
        stop: threading.Event | None = None,
    ) -> Iterator[OutputRow]:
        chosen = calls.choose_stream(stream)
        return self._rows(Tail(self.get(session_id), after_seq=after_seq, stream=chosen), stop)

    def wait(self, session_id: str | UUID, *, timeout_s: float | None = None) -> Session:
        waiting = Waiting(self.get(session_id), timeout_s, time.monotonic())
        while (call := waiting.call(time.monotonic())) is not None:
            try:
                waiting.heard(self._ask(call))
            except Unavailable as error:
                time.sleep(waiting.failed(error, time.monotonic()))
        return waiting.session

    def history(self, session_id: str | UUID) -> Sequence[HistoryEntry]:
        return self._ask(calls.history(session_id))

    def attempts(self, session_id: str | UUID) -> Sequence[Attempt]:
        return self._ask(calls.attempts(session_id))

    def transcript(self, session_id: str | UUID, *, after_seq: int = 0, limit: int = 200) -> Sequence[TranscriptEntry]:
        return self._ask(calls.transcript(session_id, after_seq=after_seq, limit=limit))

    def turns(self, session_id: str | UUID) -> Sequence[RecordedTurn]:
        return self._ask(calls.turns(session_id))

    def stats(self, *, since: datetime | None = None, by: str | None = None) -> Statistics:
        return self._ask(calls.stats(since, by))

    def workers(self) -> Sequence[Worker]:
        return self._ask(calls.workers())

    def on(self, name: str) -> Callable[[Callable[[Event], object]], Callable[[Event], object]]:
        return self._handlers.on(name)

    def listen(self, *, after: str | None = None, stop: threading.Event | None = None) -> Iterator[Event]:
        feed = Feed(after, wants_rows=lambda: bool(self._handlers.of(OUTPUT)))
        for piece in self._pieces(feed, stop):
            yield from self._events(feed, piece, stop)

    def version(self) -> str:
        """That of the API."""
        return self._ask(calls.version())

    def _rows(self, tail: Tail, stop: threading.Event | None) -> Iterator[OutputRow]:
        for piece in self._pieces(tail, stop):
            if piece:
                yield from tail.rows(piece)
            if tail.has_ended:
                return

    def _events(self, feed: Feed, piece: bytes | None, stop: threading.Event | None) -> Iterator[Event]:
        steps = feed.steps(piece)
        answer: Sequence[Any] | None = None
        while (step := advance(steps, answer)) is not None:
            answer = None
            if isinstance(step, Event):
                for handler in self._handlers.of(step.name):
                    handler(step)
                yield step
            elif (answer := self._ask_patiently(step, feed, stop)) is None:
                return

    def _ask_patiently(self, call: Call[Any], feed: Feed, stop: threading.Event | None) -> Sequence[Any] | None:
        """As long as it takes, as what is told has to be whole; None: `stop` was set meanwhile."""
        while not _is_set(stop):
            try:
                answer: Sequence[Any] = feed.heard(self._ask(call))
            except NoSuchSession:
                return ()  # It was deleted meanwhile.
            except Unavailable as error:
                _rest(feed.patience.failed(error, time.monotonic()), stop)
            else:
                return answer
        return None

    def _pieces(self, source: Tail | Feed, stop: threading.Event | None) -> Iterator[bytes | None]:
        """Of a stream that goes on after a break, until all is told or `stop` is set; None while nothing comes."""
        patience = source.patience
        while not _is_set(stop):
            call = source.call()
            try:
                with self._open(call) as response, Pump(response) as pump:
                    if response.status_code == NO_CONTENT:
                        return
                    patience.connected()
                    while not _is_set(stop) and (piece := self._next(call, pump)) != b"":
                        if piece:
                            patience.worked()
                        yield piece
                error: Unavailable = ApiUnavailable(f"the API at {self._endpoint.host} ended the stream")
            except Unavailable as broken:
                error = broken
            _rest(patience.failed(error, time.monotonic()), stop)

    def _next(self, call: Call[bytes], pump: Pump) -> bytes | None:
        with self._told(call):
            return pump.next(LOOK_S)

    def _taken(self, raw: Raw, call: Call[bytes], response: httpx2.Response) -> Iterator[bytes]:
        raw.begin(response.status_code)
        pieces = response.iter_bytes()
        while not raw.has_ended:
            with self._told(call):
                piece = next(pieces, b"")
            raw.has_ended = not piece
            if new := raw.take(piece):
                yield new

    def _ask(self, call: Call[T]) -> T:
        request = self._http.build_request(**asked(self._endpoint, call))
        for pause_s in AGAIN_S if call.repeatable else ():
            try:
                response = self._http.send(request)
            except httpx2.RequestError as error:
                if not is_broken(error):
                    raise failure(self._endpoint, error, call) from error
                time.sleep(pause_s)
            else:
                return read(call, response)
        with self._told(call):
            response = self._http.send(request)
        return read(call, response)

    @contextmanager
    def _open(self, call: Call[bytes]) -> Iterator[httpx2.Response]:
        """An answer whose body is read as it comes. What is no success is raised."""
        with self._told(call):
            request = self._http.build_request(**asked_for_stream(self._endpoint, call))
            response = self._http.send(request, stream=True)
        try:
            if not begins(call, response):
                with self._told(call):
                    response.read()
                raise refusal(response)
            yield response
        finally:
            response.close()

    @contextmanager
    def _told(self, call: Call[Any]) -> Iterator[None]:
        """What fails on the way is told as `ApiUnavailable`."""
        try:
            yield
        except httpx2.RequestError as error:
            raise failure(self._endpoint, error, call) from error


def _is_set(stop: threading.Event | None) -> bool:
    return stop is not None and stop.is_set()


def _rest(pause_s: float, stop: threading.Event | None) -> None:
    if stop is None:
        time.sleep(pause_s)
    else:
        stop.wait(pause_s)
