"""The live tail cut off from its servers, and back: followers stay, hear that somebody is there, and miss nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from gsd_tasks.http.live import LiveTail, lookout, tail
from gsd_tasks.http.live.sse import HEARTBEAT
from gsd_tasks.service.bell import ring_once, session_channel
from gsd_tasks.settings import Settings
from gsd_tasks.store import Database
from tests.chaos.proxy import LOOPBACK, Loop, Proxy, Wire
from tests.http.attempts import Attempt, enqueue
from tests.http.following import Follower, Looks, listened_at, running
from tests.waiting import BOUND_S

FOLLOWERS = 10
BEAT_S = 0.3
LOOK_S = 0.2


@pytest.fixture
def loop() -> Iterator[Loop]:
    loop = Loop()
    yield loop
    loop.close()


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> Looks:
    return Looks(monkeypatch)


def test_without_redis_rows_come_within_a_second_or_so_and_bells_are_heard_again_when_it_is_back(
    settings: Settings,
    database: Database,
    redis_url: str,
    loop: Loop,
    looks: Looks,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    session_id = enqueue(database)
    attempt = Attempt(database, session_id)
    bell = (session_channel(session_id), "")
    wire, url = _through(loop, redis_url)

    async def test(live: LiveTail) -> None:
        with live.session(session_id) as its:
            follower = Follower(its)
            await listened_at(redis_url, bell[0])
            for number, cut in enumerate((Wire.RESETTING, Wire.HELD), 1):
                loop.set(wire, cut)
                attempt.write(b"line")
                ring_once(redis_url, bell)
                before = looks.done
                await follower.until(number)
                # By one that begins after the commit; more go by while it is read, where many are at work.
                assert looks.done - before < tail.HEARTBEAT_S / lookout.LOOK_S
                loop.set(wire, Wire.PASSING)
                await listened_at(redis_url, bell[0])
            # From here on nobody looks: what comes is heard of by a bell.
            monkeypatch.setattr(lookout, "LOOK_S", 10 * BOUND_S)
            await looks.more(1)
            attempt.write(b"line")
            ring_once(redis_url, bell)
            await follower.until(3)
            attempt.complete()
            ring_once(redis_url, bell)
            assert (await follower.end())[-1].name == "end"

    running(LiveTail(settings, database, url), test)


@pytest.mark.parametrize("cut", [Wire.RESETTING, Wire.HELD])
def test_without_postgres_followers_hear_that_somebody_is_there_and_miss_nothing_when_it_is_back(
    settings: Settings,
    database: Database,
    database_url: str,
    redis_url: str,
    loop: Loop,
    monkeypatch: pytest.MonkeyPatch,
    cut: Wire,
) -> None:
    """Whether it refuses, or leaves whoever asks without an answer."""
    monkeypatch.setattr(tail, "HEARTBEAT_S", BEAT_S)
    monkeypatch.setattr(lookout, "LOOK_S", LOOK_S)
    session_id = enqueue(database)
    attempt = Attempt(database, session_id)
    bell = (session_channel(session_id), "")
    wire, url = _through(loop, database_url)
    behind = Database(url)

    async def test(live: LiveTail) -> None:
        with live.session(session_id) as its:
            followers = [Follower(its) for _ in range(FOLLOWERS)]
            attempt.write(b"before")
            ring_once(redis_url, bell)
            for follower in followers:
                await follower.until(1)
            loop.set(wire, cut)
            for _ in range(3):
                attempt.write(b"meanwhile")
                ring_once(redis_url, bell)
                heard = [follower.bodies.count(HEARTBEAT) for follower in followers]
                for follower, before in zip(followers, heard, strict=True):
                    while follower.bodies.count(HEARTBEAT) <= before:  # noqa: ASYNC110 (the test's bound ends it)
                        await asyncio.sleep(LOOK_S)
            assert all(follower.seqs == [1] for follower in followers)
            # What was missed is found without another bell.
            loop.set(wire, Wire.PASSING)
            for follower in followers:
                await follower.until(4)
            attempt.complete()
            ring_once(redis_url, bell)
            told = [await follower.end() for follower in followers]
            assert all(events == told[0] for events in told)
            assert followers[0].seqs == [1, 2, 3, 4]

    running(LiveTail(settings, behind, redis_url), test)
    behind.close()


def _through(loop: Loop, url: str) -> tuple[Proxy, str]:
    """A wire that can be cut, and the address at its end."""
    parts = urlsplit(url)
    assert parts.port is not None
    wire, port = loop.proxy(parts.port)
    user = parts.netloc.rpartition("@")[0]
    return wire, parts._replace(netloc=f"{user}@{LOOPBACK}:{port}").geturl()
