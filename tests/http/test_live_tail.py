"""The live tail over a real Postgres: what it asks, how soon it tells, and what it does where Redis is away."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack

import psycopg
import pytest
from sqlalchemy import event

from gsd_tasks.domain.errors import InvalidValue
from gsd_tasks.domain.session import SessionId
from gsd_tasks.http.live import LiveTail, lookout
from gsd_tasks.http.live import tail as tail_module
from gsd_tasks.http.live.pages import ENTRIES, ROWS
from gsd_tasks.http.live.story import BEGINNING, Position
from gsd_tasks.http.live.tail import Tail
from gsd_tasks.service.bell import HISTORY, ring_once, session_channel
from gsd_tasks.settings import Settings
from gsd_tasks.store import Database, history
from gsd_tasks.store.history import Cursor
from tests.http.attempts import Attempt, enqueue
from tests.http.events import Told, read_events, seqs
from tests.http.following import Follower, Looks, listened_at, running
from tests.waiting import BOUND_S

FOLLOWERS = 50
NO_REDIS = "redis://127.0.0.1:1/0"
#: The bound on a test's time comes first.
NEVER_S = 10 * BOUND_S
Test = Callable[[LiveTail], Awaitable[None]]


@pytest.fixture
def statements(database: Database) -> list[str]:
    """Every statement that is sent, as it is sent."""
    sent: list[str] = []
    event.listen(database.engine, "before_cursor_execute", lambda _c, _u, statement, *_: sent.append(statement))
    return sent


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> Looks:
    return Looks(monkeypatch)


@pytest.fixture
def run(settings: Settings, database: Database) -> Callable[..., None]:
    """Runs a test beside a live tail."""

    def run(test: Test, redis_url: str) -> None:
        running(LiveTail(settings, database, redis_url), test)

    return run


def test_followers_of_one_session_cost_one_read_a_wake_up(
    database: Database, redis_url: str, statements: list[str], looks: Looks, run: Callable[..., None]
) -> None:
    """A read is a statement for the transitions and one for the rows; and once a second it is looked, for all."""
    session_id = enqueue(database)
    attempt = Attempt(database, session_id)

    async def test(live: LiveTail) -> None:
        with live.session(session_id) as tail:
            followers = [Follower(tail) for _ in range(FOLLOWERS)]
            await listened_at(redis_url, session_channel(session_id))
            # The first look finds it new.
            await _quiet(looks, statements)
            before = looks.done
            for number in range(1, 11):
                attempt.write(b"line")
                ring_once(redis_url, (session_channel(session_id), ""))
                for follower in followers:
                    await follower.until(number)
            attempt.complete()
            ring_once(redis_url, (session_channel(session_id), ""))
            told = [await follower.end() for follower in followers]
            # One may be under way.
            looked = looks.done - before + 1
        assert all(events == told[0] for events in told)
        assert seqs(told[0]) == list(range(1, 11))
        reads = [statement for statement in statements if statement.startswith("SELECT") and "leases" not in statement]
        # Eleven wake-ups, and each look may have brought one more.
        assert 22 <= len(reads) <= 22 + 2 * looked

    run(test, redis_url)


def test_all_sessions_that_are_followed_cost_one_statement_a_second_and_none_where_nobody_follows(
    database: Database, redis_url: str, statements: list[str], looks: Looks, run: Callable[..., None]
) -> None:
    session_ids = [enqueue(database) for _ in range(20)]

    async def test(live: LiveTail) -> None:
        statements.clear()
        await looks.more(2)
        assert statements == []
        with ExitStack() as following:
            followers = [Follower(following.enter_context(live.session(session_id))) for session_id in session_ids]
            await listened_at(redis_url, *map(session_channel, session_ids))
            # The first look finds all of them new.
            await _quiet(looks, statements)
            begun, before = time.monotonic(), looks.done
            await looks.more(3)
            # One may have been asked for, and is not answered.
            assert len(statements) - (looks.done - before) in (0, 1)
            assert time.monotonic() - begun >= 2 * lookout.LOOK_S
            assert all(len(follower.told) == 1 for follower in followers)

    run(test, redis_url)


def test_a_bell_brings_what_happened_at_once_also_where_an_older_transaction_is_at_work(
    database: Database,
    database_url: str,
    redis_url: str,
    run: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nobody looks here: whatever comes is heard of by bells."""
    monkeypatch.setattr(lookout, "LOOK_S", 10 * BOUND_S)

    async def test(live: LiveTail) -> None:
        session_id = enqueue(database)
        begin = await live.now()
        with live.session(session_id) as tail, live.history() as all_of_them:
            follower = Follower(tail)
            told = asyncio.create_task(_collect(all_of_them, begin, 1))
            await listened_at(redis_url, session_channel(session_id), HISTORY)
            with psycopg.connect(database_url) as older:
                older.execute("SELECT pg_current_xact_id()")
                attempt = Attempt(database, session_id)
                attempt.write(b"line")
                ring_once(redis_url, (session_channel(session_id), ""), (HISTORY, ""))
                await follower.until(1)
                assert not told.done()
            assert [each.name for each in await told] == ["session:started"]
            attempt.complete()
            ring_once(redis_url, (session_channel(session_id), ""))
            assert (await follower.end())[-1].name == "end"

    run(test, redis_url)


def test_without_redis_it_comes_within_a_second_or_so(
    database: Database, looks: Looks, run: Callable[..., None]
) -> None:
    """By looks, of which there is one a second: at the latest by one that begins after the commit."""

    async def test(live: LiveTail) -> None:
        session_id = enqueue(database)
        begin = await live.now()
        with live.session(session_id) as tail, live.history() as all_of_them:
            follower = Follower(tail)
            told = asyncio.create_task(_collect(all_of_them, begin, 2))
            await looks.more(2)
            attempt = Attempt(database, session_id)
            attempt.write(b"line")
            before = looks.done
            await follower.until(1)
            # More go by while it is read, where many are at work.
            assert looks.done - before < tail_module.HEARTBEAT_S / lookout.LOOK_S
            attempt.complete()
            before = looks.done
            assert (await follower.end())[-1].name == "end"
            assert [each.name for each in await told] == ["session:started", "session:completed"]
            assert looks.done - before < tail_module.HEARTBEAT_S / lookout.LOOK_S

    run(test, NO_REDIS)


def test_what_is_committed_between_the_reads_of_a_page_is_told_in_order(
    database: Database, redis_url: str, run: Callable[..., None]
) -> None:
    """A page is read in two statements, and a whole attempt may run and end between them."""
    session_id = enqueue(database)
    between: list[Callable[[], None]] = []

    def happen(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        # Of a page's own two, not the look.
        if between and "session_history" in statement and "leases" not in statement:
            between.pop()()

    def run_and_end() -> None:
        attempt = Attempt(database, session_id)
        attempt.write(b"one", b"two")
        attempt.complete()

    async def test(live: LiveTail) -> None:
        with live.session(session_id) as tail:
            await tail.first(BEGINNING)
            between.append(run_and_end)
            tail.ring()
            told = await Follower(tail, Position(0, _entries(database, session_id)[0])).end()
            names = ["session:started", "session:output", "session:output", "session:completed", "end"]
            assert [each.name for each in told] == names

    event.listen(database.engine, "after_cursor_execute", happen)
    run(test, redis_url)


def test_pages_of_a_long_session_are_the_same_wherever_one_begins(
    database: Database, redis_url: str, run: Callable[..., None]
) -> None:
    session_id = enqueue(database)
    for _ in range(3):
        attempt = Attempt(database, session_id)
        attempt.write(*(b"%d" % number for number in range(ROWS)))
        attempt.write(*(b"\xff\0" for _ in range(10)), b"x" * (1 << 20), b"")
        attempt.hand_back()
    attempt = Attempt(database, session_id)
    attempt.complete()

    async def test(live: LiveTail) -> None:
        with live.session(session_id) as tail:
            whole = await Follower(tail).end()
            assert seqs(whole) == list(range(1, 3 * (ROWS + 12) + 1))
            names = [told.name for told in whole if told.name != "session:output"]
            once = ["session:started", "session:requeued"]
            assert names == ["session:enqueued", *once * 3, "session:started", "session:completed", "end"]
            for number in range(0, len(whole) - 1, 97):
                assert await Follower(tail, Position.parse(whole[number].id)).end() == whole[number + 1 :]

    run(test, redis_url)


def test_a_position_ahead_of_everything_is_refused(
    database: Database, redis_url: str, run: Callable[..., None]
) -> None:
    """It could have come from no stream of this session, and whoever waits there would never be told anything."""
    session_id = enqueue(database)

    async def test(live: LiveTail) -> None:
        last = _entries(database, session_id)[-1]
        with live.session(session_id) as tail, live.history() as all_of_them:
            assert not (await tail.first(Position(0, last))).body
            for position in (Position(1, 0), Position(0, last + 1)):
                with pytest.raises(InvalidValue):
                    await tail.first(position)
            now = await live.now()
            assert not (await all_of_them.first(now)).body
            for cursor in (Cursor(now.low, now.high + 100, 0), Cursor(now.high + 1, now.high, 0)):
                with pytest.raises(InvalidValue):
                    await all_of_them.first(cursor)

    run(test, redis_url)


def test_the_history_of_all_is_told_once_and_in_order_also_what_is_committed_late(
    database: Database, database_url: str, redis_url: str, run: Callable[..., None]
) -> None:
    """A transaction that is under way for long holds its transition back, and with it those that begin later."""

    async def test(live: LiveTail) -> None:
        begin = await live.now()
        with live.history() as tail, psycopg.connect(database_url) as late:
            first = asyncio.create_task(_collect(tail, begin, ENTRIES + 2))
            session_ids = [enqueue(database) for _ in range(ENTRIES)]
            late.execute(
                "INSERT INTO session_history (session_id, to_status, attempt, reason)"
                " VALUES (%s, 'queued', 0, 'enqueued')",
                [session_ids[0]],
            )
            session_ids += [enqueue(database), session_ids[0]]
            ring_once(redis_url, (HISTORY, ""))
            await asyncio.sleep(0.5)
            assert not first.done()
            late.commit()
            told = await first
            assert sorted(each.data["session_id"] for each in told) == sorted(map(str, session_ids))
            for number in (0, len(told) // 2, len(told) - 2):
                rest = await _collect(tail, Cursor.parse(told[number].id), len(told) - number - 1)
                assert [each.data["id"] for each in rest] == [each.data["id"] for each in told[number + 1 :]]

    run(test, redis_url)


def test_a_wait_for_the_end_is_over_with_the_session_or_the_time_or_the_api(
    database: Database, redis_url: str, run: Callable[..., None]
) -> None:
    async def test(live: LiveTail) -> None:
        session_id = enqueue(database)
        attempt = Attempt(database, session_id)
        await live.wait_for_end(session_id, 0.2)
        waits = [asyncio.create_task(live.wait_for_end(session_id, NEVER_S)) for _ in range(10)]
        await asyncio.sleep(0.2)
        attempt.write(b"line")
        ring_once(redis_url, (session_channel(session_id), ""))
        await asyncio.sleep(0.2)
        assert not any(wait.done() for wait in waits)
        attempt.complete()
        ring_once(redis_url, (session_channel(session_id), ""))
        await asyncio.gather(*waits)
        await live.wait_for_end(session_id, NEVER_S)
        other = asyncio.create_task(live.wait_for_end(enqueue(database), NEVER_S))
        await asyncio.sleep(0.1)
        live.say_farewell()
        await other

    run(test, redis_url)


async def _quiet(looks: Looks, statements: list[str]) -> None:
    """Nothing more is read than a look asks for; and nothing has been asked since."""
    asked = 0
    while asked != 1:
        await looks.more(1)
        statements.clear()
        await looks.more(1)
        asked = len(statements)
    statements.clear()


async def _collect(tail: Tail[Cursor], cursor: Cursor, number: int) -> list[Told]:
    """At least so many events."""
    told: list[Told] = []
    while len(told) < number:
        page = await tail.after(cursor)
        told += read_events(page.body)
        cursor = page.position
    return told


def _entries(database: Database, session_id: SessionId) -> list[int]:
    with database.connection() as connection:
        return [entry.id for entry in history.of_session(connection, session_id)]
