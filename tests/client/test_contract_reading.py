"""Whatever a client talks to: the same values for the same calls. What sessions wrote, and what happened to them."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import pytest

from gsd_tasks import Client, Event
from gsd_tasks.client import calls, tailing
from gsd_tasks.client.sse import Reader
from gsd_tasks.domain.errors import AmbiguousId, InvalidValue, NoSuchSnapshot, NotAllowed
from gsd_tasks.domain.session import OutputRow, Session, Stream
from gsd_tasks.domain.state import Status
from gsd_tasks.domain.verification import Damage
from gsd_tasks.store import outputs
from gsd_tasks.store.leases import Progress
from gsd_tasks.wire.plain import plain
from tests.client.conftest import World, now_at
from tests.client.test_contract import same_error
from tests.conversations import spoil
from tests.http.attempts import Attempt
from tests.waiting import BOUND_S
from tests.workers import register_worker

AT = datetime(2026, 11, 21, 12, tzinfo=UTC)
ODD = [
    (Stream.STDOUT, b"plain", True),
    (Stream.STDERR, "naïve ✓ \U0001f600\u2028 \x1b[31m\x7f".encode(), True),
    (Stream.STDOUT, b"", True),
    (Stream.STDOUT, b"\0\xff\xfe\xc3", True),
    (Stream.STDERR, b"no text: \xff\nand a newline in it", True),
    (Stream.STDOUT, b"carriage\rreturn\r", True),
    (Stream.STDOUT, b"\x01" * 2**20, False),
    (Stream.STDOUT, b"\xfb" * 2**20, False),
    (Stream.STDERR, "ü".encode() * 2**19, True),
    (Stream.STDOUT, b"data: x\n\nid: 1"[:7], False),
]
BYTES = {
    None: b"".join(body + b"\n" * eol for _, body, eol in ODD),
    "stdout": b"".join(body + b"\n" * eol for stream, body, eol in ODD if stream is Stream.STDOUT),
    "stderr": b"".join(body + b"\n" * eol for stream, body, eol in ODD if stream is Stream.STDERR),
}


def write_odd(world: World, attempt: Attempt) -> None:
    batch = outputs.Batch()
    for number, (stream, body, eol) in enumerate(ODD):
        batch.add(stream, AT + timedelta(seconds=number), body, eol=eol)
    with world.database.connection() as connection:
        assert outputs.append(connection, attempt.claim, batch, Progress(0), Progress(len(ODD), 1, 1))


@pytest.fixture(scope="module")
def printed(world: World) -> Session:
    """A session that wrote what is hard to pass on, and has ended."""
    session = world.client.enqueue(command=["true"], working_dir="/", thread="printed")
    attempt = Attempt(world.database, session.id)
    write_odd(world, attempt)
    attempt.complete()
    return world.client.get(session.id)


PAGES: list[dict[str, Any]] = [
    {},
    {"after_seq": 4},
    {"after_seq": 99},
    {"after_seq": -1},
    {"limit": 3},
    {"limit": 3, "newest_first": True},
    {"stream": "stderr"},
    {"stream": Stream.STDOUT, "after_seq": 1, "limit": 2},
    {"limit": 10_000},
]


@pytest.mark.parametrize("page", PAGES, ids=repr)
def test_pages_of_output_are_the_same_to_the_byte(
    world: World, client: Client, printed: Session, page: dict[str, Any]
) -> None:
    rows = client.output(printed.id, **page)
    expected = world.client.output(printed.id, **page)
    assert list(rows) == list(expected)
    assert plain(rows) == plain(expected)
    if page.get("stream") is None:
        assert {(row.stream, row.body, row.eol) for row in rows} <= set(ODD)


def test_a_page_is_bounded_in_bytes_too(world: World, client: Client, queued: Callable[..., Session]) -> None:
    session = queued()
    attempt = Attempt(world.database, session.id)
    attempt.write(*[b"x" * 2**20] * 10)
    attempt.complete()
    assert len(client.output(session.id)) == len(world.client.output(session.id)) == 8
    assert [row.seq for row in client.output(session.id, after_seq=8)] == [9, 10]


def test_output_since_a_time(world: World, client: Client, printed: Session) -> None:
    for moment in (AT, AT + timedelta(seconds=3.5), AT.astimezone() + timedelta(seconds=7), AT + timedelta(days=1)):
        rows = client.output_since(printed.id, moment, stream="stdout", limit=2)
        assert list(rows) == list(world.client.output_since(printed.id, moment, stream="stdout", limit=2))
    assert len(client.output_since(printed.id, AT + timedelta(seconds=3.5))) == 6


def test_what_cannot_be_read_is_refused_in_the_same_words(world: World, client: Client, printed: Session) -> None:
    calls: list[Callable[[Client], object]] = [
        lambda one: one.output(printed.id, limit=0),
        lambda one: one.output(printed.id, limit=10_001),
        lambda one: one.output(printed.id, stream="stdin"),
        lambda one: one.output_since(printed.id, datetime(2026, 1, 1)),  # noqa: DTZ001  (that is the point)
        lambda one: list(one.raw_output(printed.id, "stdin")),
        lambda one: list(one.follow(printed.id, stream="stdin")),
        lambda one: list(one.listen(after="nonsense")),
        lambda one: one.on("session:exploded"),
        lambda one: one.stats(by="week"),
        lambda one: one.stats(since=datetime(2026, 1, 1)),  # noqa: DTZ001
        lambda one: one.transcript(printed.id, limit=0),
        lambda one: one.snapshot(printed.id, name=" "),
    ]
    for call in calls:
        assert isinstance(same_error(world, client, call), InvalidValue)


@pytest.mark.parametrize("stream", [None, "stdout", "stderr"])
def test_raw_output_is_exactly_what_was_written(client: Client, printed: Session, stream: str | None) -> None:
    assert b"".join(client.raw_output(printed.id, stream)) == BYTES[stream]


def test_raw_output_of_nothing_is_nothing(client: Client, queued: Callable[..., Session]) -> None:
    assert b"".join(client.raw_output(queued().id)) == b""


FOLLOWED: list[dict[str, Any]] = [{}, {"after_seq": 4}, {"after_seq": 10}, {"after_seq": 11}, {"stream": "stderr"}]


@pytest.mark.parametrize("from_where", FOLLOWED, ids=repr)
def test_follow_of_what_has_ended_gives_all_and_ends(
    world: World, client: Client, printed: Session, from_where: dict[str, Any]
) -> None:
    rows = list(client.follow(str(printed.id)[:-1], **from_where))
    assert rows == list(world.client.follow(printed.id, **from_where))
    assert plain(rows) == plain(list(world.client.output(printed.id, **from_where)))


def test_follow_gives_rows_as_they_come_until_the_end(client: Client, writing: tuple[Session, Attempt]) -> None:
    session, attempt = writing
    attempt.write(b"0")
    followed: list[OutputRow] = []

    def act() -> None:
        for number in range(1, 20):
            attempt.write(str(number).encode())
        attempt.complete()

    thread = threading.Timer(0.2, act)
    for row in client.follow(session.id):
        followed.append(row)
        if row.seq == 1:
            thread.start()
    assert [row.as_text() for row in followed] == [str(number) for number in range(20)]
    assert [row.seq for row in followed] == list(range(1, 21))


def test_follow_goes_on_over_attempts(client: Client, writing: tuple[Session, Attempt], world: World) -> None:
    session, attempt = writing
    attempt.write(b"first")
    attempt.hand_back()
    again = Attempt(world.database, session.id)
    again.write(b"second")
    again.complete()
    assert [(row.attempt, row.as_text()) for row in client.follow(session.id)] == [(1, "first"), (2, "second")]


@pytest.mark.parametrize("kind", ["database", "http"])
def test_follow_and_listen_hear_stop_soon(world: World, kind: str, writing: tuple[Session, Attempt]) -> None:
    session, _ = writing
    for begin in (
        lambda stop: world.clients[kind].follow(session.id, stop=stop),
        lambda stop: world.clients[kind].listen(stop=stop),
    ):
        stop = threading.Event()
        threading.Timer(0.3, stop.set).start()
        began_at = time.monotonic()
        assert list(begin(stop)) == []
        assert time.monotonic() - began_at < tailing.SILENT_S / 2, "not when the silence is over"
    stop = threading.Event()
    stop.set()
    assert list(world.clients[kind].follow(session.id, stop=stop)) == []


def test_wait_gives_the_session_once_it_has_ended(client: Client, writing: tuple[Session, Attempt]) -> None:
    session, attempt = writing
    threading.Timer(0.3, attempt.complete).start()
    began_at = time.monotonic()
    ended = client.wait(session.id, timeout_s=BOUND_S)
    assert ended.status is Status.COMPLETED
    assert time.monotonic() - began_at < calls.WAIT_S / 2, "not when the API is asked again"
    assert client.wait(session.id) == ended


def test_wait_gives_up_after_its_time(client: Client, writing: tuple[Session, Attempt]) -> None:
    session, _ = writing
    for timeout_s in (0, 0.3):
        with pytest.raises(TimeoutError, match=f"^session {session.id} is running after {timeout_s:g} s$"):
            client.wait(session.id, timeout_s=timeout_s)


def test_history_and_attempts(world: World, client: Client, printed: Session) -> None:
    history, attempts = client.history(printed.id), client.attempts(printed.id)
    assert [entry.to_status for entry in history] == [Status.QUEUED, Status.RUNNING, Status.COMPLETED]
    assert list(history) == list(world.client.history(printed.id))
    assert [(attempt.attempt, attempt.first_seq, attempt.last_seq) for attempt in attempts] == [(1, 1, len(ODD))]
    assert list(attempts) == list(world.client.attempts(printed.id))
    assert plain(attempts) == plain(world.client.attempts(printed.id))


def test_snapshots_are_taken_listed_and_restored(world: World, client: Client, talking: Callable[..., Session]) -> None:
    session = talking(context={"ticket": 1})
    one, two = client.snapshot(session.id, name="one"), client.snapshot(session.id)
    assert (one.name, two.name, one.context) == ("one", None, {"ticket": 1})
    assert list(client.snapshots(session.id)) == list(world.client.snapshots(session.id)) == [two, one]
    client.update_context(session.id, {"ticket": 2})
    restored = client.restore(session.id, "one")
    assert (restored.session_id, restored.snapshot) == (session.id, one)
    assert restored.before is not None
    assert restored.before.context == {"ticket": 2}
    assert client.get(session.id).context == {"ticket": 1}
    assert client.restore(session.id, two.id).snapshot == two
    assert isinstance(same_error(world, client, lambda each: each.restore(session.id, "none")), NoSuchSnapshot)
    common = str(one.id)[:2]
    assert isinstance(same_error(world, client, lambda each: each.restore(session.id, common)), AmbiguousId)
    client.resume(session.id)
    assert isinstance(same_error(world, client, lambda each: each.restore(session.id, "one")), NotAllowed)


def test_verify_finds_and_repairs(world: World, client: Client, talking: Callable[..., Session]) -> None:
    session = talking()
    assert client.verify(session.id).findings == ()
    with world.database.connection() as connection:
        spoil(connection, "UPDATE transcript SET entry = '{' WHERE session_id = :id AND seq = 3", id=session.id)
    found = client.verify(session.id)
    assert found == world.client.verify(session.id)
    assert Damage.ENTRY_CHANGED in {finding.damage for finding in found.findings}
    repaired = client.verify(session.id, repair=True)
    assert repaired.repairs
    assert repaired.remaining == ()
    assert client.verify(session.id) == world.client.verify(session.id)


def test_the_transcript_page_by_page(world: World, client: Client, talking: Callable[..., Session]) -> None:
    session = talking()
    entries = client.transcript(session.id)
    assert list(entries) == list(world.client.transcript(session.id))
    assert [entry.seq for entry in entries] == [1, 2, 3]
    assert "naïve ✓" in entries[0].entry
    assert [entry.seq for entry in client.transcript(session.id, after_seq=1, limit=1)] == [2]
    assert client.transcript(session.id, after_seq=3) == []


def test_turns_and_stats(world: World, client: Client, talking: Callable[..., Session]) -> None:
    session = talking()
    with world.database.connection() as connection:
        spoil(
            connection,
            "INSERT INTO turns (session_id, seq, attempt, model, subtype, is_error, turns, duration_s, input_tokens,"
            " output_tokens, cache_read_tokens, cache_write_tokens, cost_usd, models)"
            " VALUES (:id, 1, 1, 'sonnet', 'success', false, 2, 1.25, 1, 2, 3, 4, 0.125,"
            """ '{"sonnet": {"input": 1, "output": 2, "cache_read": 3, "cache_write": 4, "cost_usd": 0.125}}')""",
            id=session.id,
        )
    [turn] = client.turns(session.id)
    assert [turn] == list(world.client.turns(session.id))
    assert (turn.cost_usd, turn.models["sonnet"].cache_write) == (0.125, 4)
    since = datetime.now(UTC) - timedelta(hours=1)
    for by in (None, "day", "model", "thread"):
        figures, expected = client.stats(since=since, by=by), world.client.stats(since=since, by=by)
        assert (figures.total, figures.groups, figures.since) == (expected.total, expected.groups, expected.since)
    assert client.stats().total.turns >= 1


def test_workers(world: World, client: Client, writing: tuple[Session, Attempt]) -> None:
    session, _ = writing
    with world.database.connection() as connection:
        id_ = register_worker(connection, "another@host")
    found = list(client.workers())
    assert found == list(world.client.workers())
    assert {1: session.id} in [worker.busy for worker in found]
    assert id_ in [worker.id for worker in found]


def _until(events: Iterator[Event], session: Session, name: str) -> list[Event]:
    """Those of this session, up to this one."""
    heard = []
    for event in events:
        if event.session_id == session.id:
            heard.append(event)
            if event.name == name:
                return heard
    raise AssertionError(name)


def test_listen_gives_what_happened_from_a_cursor_on(
    world: World, client: Client, queued: Callable[..., Session]
) -> None:
    cursor = now_at(world)
    session = queued()
    world.client.cancel(session.id)
    heard = _until(client.listen(after=cursor), session, "session:cancelled")
    expected = _until(world.client.listen(after=cursor), session, "session:cancelled")
    assert [(event.name, event.entry) for event in heard] == [(event.name, event.entry) for event in expected]
    assert [event.name for event in heard] == ["session:enqueued", "session:cancelled"]
    again = _until(client.listen(after=heard[0].cursor), session, "session:cancelled")
    assert [event.name for event in again] == ["session:cancelled"]


def test_listen_begins_now_unless_told_otherwise(world: World, client: Client, queued: Callable[..., Session]) -> None:
    before = queued()
    now_at(world)  # it is settled
    stop = threading.Event()
    made: list[Session] = []

    def make() -> None:
        while not stop.wait(0.1):
            made.append(queued())

    with ThreadPoolExecutor(1) as pool:
        making = pool.submit(make)
        try:
            first = next(iter(client.listen()))
        finally:
            stop.set()
        making.result()
    assert first.session_id in [session.id for session in made]
    assert first.session_id != before.id


def test_listen_calls_whoever_asked_and_gives_rows_before_the_end(
    world: World, client: Client, writing: tuple[Session, Attempt]
) -> None:
    session, attempt = writing
    cursor = "0.0.0"
    called: list[Event] = []
    client.on("session:completed")(called.append)
    client.on("session:output")(lambda event: None)
    attempt.write(b"one", b"two")

    def act() -> None:
        attempt.write(b"three")
        attempt.complete()

    threading.Timer(0.5, act).start()
    heard = _until(client.listen(after=cursor), session, "session:completed")
    assert [row.as_text() for event in heard for row in event.rows] == ["one", "two", "three"]
    names = [name for name, _ in itertools.groupby(event.name for event in heard)]
    assert names == ["session:enqueued", "session:started", "session:output", "session:completed"]
    assert heard[-1] in called
    assert all(event.cursor for event in heard)


def test_the_stream_of_all_says_where_it_begins(world: World) -> None:
    """So that whoever loses it before anything has happened misses nothing."""
    reader, headers = Reader(), {"Authorization": f"Bearer {world.token}"}
    with httpx2.stream("GET", f"{world.url}/v1/events", headers=headers, trust_env=False) as response:
        pieces = response.iter_bytes()
        while not reader.last_id:
            assert reader.feed(next(pieces)) == []
    assert world.client.enqueue(command=["true"], working_dir="/", thread="marks").id == next(
        event.session_id for event in world.client.listen(after=reader.last_id)
    )
