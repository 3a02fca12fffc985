"""Followers of a real API that is cut off and started anew: each row once, in order; and many of them at a time."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
import warnings
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final
from urllib.parse import urlsplit

import httpx2
import pytest

from gsd_tasks import AsyncClient, Event
from gsd_tasks.client import tailing
from gsd_tasks.client.http import HttpClient
from gsd_tasks.domain.errors import ApiUnavailable
from gsd_tasks.domain.session import OutputRow, Session
from gsd_tasks.domain.state import Status
from tests.chaos.proxy import Loop, Wire
from tests.client.adapter import OVER_HTTP
from tests.client.conftest import World, now_at
from tests.client.running_api import RunningApi
from tests.client.scripted_api import Request, ScriptedApi
from tests.http.attempts import Attempt
from tests.ports import own_port
from tests.waiting import BOUND_S, until

ROWS: Final = 60
FOLLOWED: Final = 50


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tailing, "FIRST_PAUSE_S", 0.02)
    monkeypatch.setattr(tailing, "LONGEST_PAUSE_S", 0.1)


class Cable:
    """A wire to the API, and a way to cut it: whatever is on its way is lost. A new connection goes through at once."""

    def __init__(self, url: str) -> None:
        self._loop = Loop()
        self._proxy, port = self._loop.proxy(urlsplit(url).port or 0)
        self.url = f"http://127.0.0.1:{port}"
        self.cuts = 0

    def cut(self) -> None:
        self.cuts += 1
        self._loop.set(self._proxy, Wire.RESETTING)
        self._loop.set(self._proxy, Wire.PASSING)

    def close(self) -> None:
        self._loop.close()


@pytest.fixture
def cable(world: World) -> Iterator[Cable]:
    cable = Cable(world.url)
    yield cable
    cable.close()


def in_background(work: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=work)
    thread.start()
    return thread


def write(attempt: Attempt) -> None:
    for number in range(ROWS):
        attempt.write(f"row {number}".encode())
        time.sleep(0.01)  # not to wait for anything: it is how fast the child writes
    attempt.complete()


@pytest.mark.parametrize("kind", OVER_HTTP)
def test_cut_again_and_again_nothing_is_missing_and_nothing_comes_twice(
    world: World, kind: str, writing: tuple[Session, Attempt], cable: Cable
) -> None:
    session, attempt = writing
    with OVER_HTTP[kind](settings=world.settings, url=cable.url, token=world.token) as client:
        client.on("session:output")(lambda _: None)
        told: list[OutputRow] = []

        def listen() -> None:
            for event in client.listen(after="0.0.0"):
                listens.set()
                if event.session_id == session.id:
                    told.extend(event.rows)
                    if event.name == "session:completed":
                        return

        listens = threading.Event()
        threads = [in_background(listen)]
        # An API that has never answered is not waited for.
        assert listens.wait(BOUND_S)
        threads.append(in_background(lambda: write(attempt)))
        followed = []
        for row in client.follow(session.id):
            followed.append((row.seq, row.as_text()))
            if row.seq % 7 == 0:
                cable.cut()
        for thread in threads:
            thread.join(BOUND_S)
            assert not thread.is_alive()
    expected = [(row.seq, row.as_text()) for row in world.client.output(session.id)]
    assert cable.cuts == ROWS // 7
    assert followed == expected
    assert [(row.seq, row.as_text()) for row in told] == expected


@pytest.mark.parametrize("kind", OVER_HTTP)
def test_a_download_that_is_cut_again_and_again_is_whole(
    world: World, kind: str, writing: tuple[Session, Attempt], cable: Cable
) -> None:
    session, attempt = writing
    for number in range(12):
        attempt.write(*[bytes([65 + number]) * 2**18] * 4)
    attempt.complete()
    pieces: list[bytes] = []
    cut_at = 2**20
    with OVER_HTTP[kind](settings=world.settings, url=cable.url, token=world.token) as client:
        for piece in client.raw_output(session.id):
            pieces.append(piece)
            if sum(map(len, pieces)) >= cut_at:
                cable.cut()
                cut_at += 2**21
    assert cable.cuts >= 5
    assert b"".join(pieces) == b"".join(world.client.raw_output(session.id))


@pytest.mark.parametrize("kind", OVER_HTTP)
def test_an_api_that_is_started_anew_is_gone_on_with(world: World, kind: str, writing: tuple[Session, Attempt]) -> None:
    session, attempt = writing
    port, heard = own_port(), threading.Event()
    url = f"http://127.0.0.1:{port}"
    followed: list[OutputRow] = []
    ended: list[Session] = []
    with OVER_HTTP[kind](settings=world.settings, url=url, token=world.token) as client:

        def follow() -> None:
            for row in client.follow(session.id):
                followed.append(row)
                heard.set()

        with RunningApi(world.settings, port) as first:
            threads = [in_background(follow), in_background(lambda: ended.append(client.wait(session.id)))]
            attempt.write(b"before")
            assert heard.wait(BOUND_S)
            # Each has begun with a look at the session: an API that has never answered is not waited for.
            until(lambda: first.answered >= 2, what="the first look of both")
        attempt.write(b"while it is away")
        with RunningApi(world.settings, port):
            until(lambda: len(followed) > 1, what="what was written meanwhile")
            attempt.write(b"after")
            attempt.complete()
            for thread in threads:
                thread.join(BOUND_S)
                assert not thread.is_alive()
    assert [row.as_text() for row in followed] == ["before", "while it is away", "after"]
    assert [session.status for session in ended] == [Status.COMPLETED]


@pytest.mark.parametrize("kind", OVER_HTTP)
def test_what_is_enqueued_runs_once_though_the_answer_is_lost(world: World, kind: str, thread: str) -> None:
    lost = iter([True])

    def pass_on(request: Request) -> None:
        headers = {name: value for name, value in request.headers.items() if name not in {"Host", "Content-Length"}}
        answer = httpx2.request(
            request.command, world.url + request.path, content=request.body, headers=headers, trust_env=False
        )
        if next(lost, False):
            request.break_off()
        else:
            request.answer(answer.content, answer.status_code)

    asked: Any = {"command": ["true"], "working_dir": "/", "thread": thread}
    with (
        ScriptedApi(pass_on) as between,
        OVER_HTTP[kind](settings=world.settings, url=between.url, token=world.token) as client,
    ):
        one = client.enqueue(**asked, key=f"{thread} one")
        assert len(between.asked) == 2, "with a key it is asked again"
        assert list(world.client.list(thread=thread)) == [one]
        lost = iter([True])
        two = client.enqueue_many([asked | {"key": f"{thread} {number}"} for number in range(2)])
        assert {each.id for each in world.client.list(thread=thread)} == {each.id for each in (one, *two)}
        lost = iter([True])
        with pytest.raises(ApiUnavailable, match="may have been carried out: look before you try again"):
            client.enqueue(**asked)
        assert len(world.client.list(thread=thread)) == 4, "without one it is not"


def test_one_asynchronous_client_follows_many_sessions_and_leaves_nothing_open(
    world: World, queued: Callable[..., Session]
) -> None:
    attempts = {session.id: Attempt(world.database, session.id) for session in (queued() for _ in range(FOLLOWED))}

    async def main() -> None:
        async with AsyncClient(settings=world.settings, url=world.url, token=world.token) as client:

            async def follow(number: int, attempt: Attempt) -> list[str]:
                rows = []
                async for row in client.follow(attempt.claim.session.id):
                    rows.append(row.as_text())
                    if row.seq == 1:
                        begun.append(number)
                return rows

            async def first(events: AsyncIterator[Event]) -> str:
                async for event in events:
                    return event.name  # and leaves it in the middle
                raise AssertionError

            begun: list[int] = []
            following = [asyncio.create_task(follow(*each)) for each in enumerate(attempts.values())]
            for number, attempt in enumerate(attempts.values()):
                await asyncio.to_thread(attempt.write, b"one", f"of {number}".encode())
            while len(begun) < FOLLOWED:  # noqa: ASYNC110  (the test's bound ends it)
                await asyncio.sleep(0.02)
            now = await asyncio.to_thread(now_at, world)
            listening = asyncio.create_task(first(client.listen(after=now)))
            for attempt in attempts.values():
                await asyncio.to_thread(attempt.complete)
            assert await listening == "session:completed"
            assert await asyncio.gather(*following) == [["one", f"of {number}"] for number in range(FOLLOWED)]
            async for _ in client.raw_output(next(iter(attempts))):
                break  # one that is left in the middle

    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        asyncio.run(asyncio.wait_for(main(), 60), debug=False)
        gc.collect()
    assert [str(each.message) for each in said] == []
    assert "gsd-stream" not in [thread.name for thread in threading.enumerate()]


def test_a_cancelled_follower_leaves_at_once_and_the_client_goes_on(
    world: World, writing: tuple[Session, Attempt]
) -> None:
    session, attempt = writing
    attempt.write(b"one")

    async def main() -> None:
        async with AsyncClient(settings=world.settings, url=world.url, token=world.token) as client:
            heard = asyncio.Event()

            async def follow() -> None:
                async for _ in client.follow(session.id):
                    heard.set()

            following = asyncio.create_task(follow())
            await heard.wait()
            following.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asyncio.wait_for(following, BOUND_S)
            assert (await client.get(session.id)).status is Status.RUNNING

    asyncio.run(main())


def test_threads_share_one_client(world: World, queued: Callable[..., Session]) -> None:
    attempts = [Attempt(world.database, queued().id) for _ in range(8)]

    def use(attempt: Attempt) -> tuple[list[str], Session]:
        id_ = attempt.claim.session.id
        followed = (row.as_text() for row in client.follow(id_))
        first = next(followed)
        assert [client.get(id_).id for _ in range(5)] == [id_] * 5
        attempt.write(b"last")
        attempt.complete()
        return [first, *followed], client.wait(id_)

    with (
        HttpClient(settings=world.settings, url=world.url, token=world.token) as client,
        ThreadPoolExecutor(len(attempts)) as pool,
    ):
        for number, attempt in enumerate(attempts):
            attempt.write(str(number).encode())
        for number, (rows, session) in enumerate(pool.map(use, attempts)):
            assert rows == [str(number), "last"]
            assert session.status is Status.COMPLETED
