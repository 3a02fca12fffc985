"""A transcript is appended to by its holder alone, each entry once and in order; who goes on from it has all of it."""

from __future__ import annotations

import hashlib
import os
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Final, NamedTuple
from uuid import uuid4

import pytest
from sqlalchemy import Connection, event, text
from sqlalchemy.exc import IntegrityError

from gsd_tasks.domain.errors import DatabaseUnavailable
from gsd_tasks.domain.policy import Ending, decide
from gsd_tasks.domain.session import Holder, OnLost, SessionId, SnapshotReason, Submission, WorkerId
from gsd_tasks.domain.state import Reason, Status
from gsd_tasks.domain.submission import digest
from gsd_tasks.domain.transcript import Entry
from gsd_tasks.store import Claim, Database, adoption, leases, messages, sessions, snapshots, transcript, transitions
from tests.conversations import converse, line, put, spoil
from tests.waiting import BOUND_S, until
from tests.workers import register_worker

BACK: Final = decide(Ending(reason=Reason.WORKER_STOPPED, handed_back=True), wanted=None, on_lost=OnLost.REQUEUE)
REQUEST: Final = Submission(prompt="Fix it", working_dir="/")
#: Each line of a file, with its newline.
LINE_BYTES: Final = 10


class Row(NamedTuple):
    seq: int
    attempt: int
    position: int
    entry: str


@pytest.fixture
def connection(database: Database) -> Iterator[Connection]:
    with database.connection() as connection:
        yield connection


@pytest.fixture
def held(enqueue: Callable[..., SessionId], claim: Callable[..., Claim]) -> Claim:
    """A Claude session that has said nothing yet."""
    return claim(enqueue(REQUEST))


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as pool:
        yield pool


def append(connection: Connection, claim: Claim, before: int, *texts: str) -> bool:
    batch = transcript.Entries()
    for number, each in enumerate(texts):
        batch.add(before + number * LINE_BYTES, Entry("user", str(uuid4())), each)
    return transcript.append(connection, claim, batch, before=before, after=before + len(texts) * LINE_BYTES)


def adopt(connection: Connection, held: Claim) -> Claim:
    """By another worker."""
    worker = register_worker(connection, "gsd@elsewhere")
    adopted = adoption.adopt(
        connection, held.session.id, held.attempt, holder=Holder(uuid4()), worker_id=worker, slot=1, lease_s=30
    )
    assert adopted is not None
    return adopted.claim


def rows(connection: Connection, session_id: SessionId) -> list[Row]:
    found = text("SELECT seq, attempt, position, entry FROM transcript WHERE session_id = :id ORDER BY seq")
    return [Row(*row) for row in connection.execute(found, {"id": session_id})]


def texts(connection: Connection, session_id: SessionId) -> list[str]:
    """The conversation as whoever goes on with it reads it."""
    return [line.text for page in transcript.live(connection, session_id) for line in page]


def waiting(connection: Connection) -> int:
    """How many statements wait for somebody's lock."""
    waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    number: int = connection.execute(text(waits)).scalar_one()
    return number


@contextmanager
def locked(database: Database, table: str) -> Iterator[Connection]:
    """Nobody gets at its rows meanwhile; what is given looks on."""
    with database.connection() as looking, database.transaction("READ COMMITTED") as locking:
        locking.execute(text(f"SELECT 1 FROM {table} FOR UPDATE"))
        yield looking


def test_entries_are_numbered_on_over_attempts_and_adoptions_and_no_former_holder_adds_one(
    connection: Connection, held: Claim, claim: Callable[..., Claim]
) -> None:
    assert append(connection, held, 0, "a", "b")
    adopted = adopt(connection, held)
    assert not append(connection, held, 20, "by the former holder")
    assert transcript.position(connection, held) is None
    assert transcript.position(connection, adopted) == 20
    assert append(connection, adopted, 20, "c")
    assert transitions.settle(connection, adopted, BACK)
    assert not append(connection, adopted, 30, "after the end")
    again = claim(held.session.id)
    assert not append(connection, adopted, 0, "in a later attempt")
    assert transcript.begin_at(connection, again, 100)
    assert append(connection, again, 100, "d", "e")
    assert [row[:3] for row in rows(connection, held.session.id)] == [
        (1, 1, 0),
        (2, 1, 10),
        (3, 1, 20),
        (4, 2, 100),
        (5, 2, 110),
    ]
    assert texts(connection, held.session.id) == ["a", "b", "c", "d", "e"]


def test_an_attempt_of_a_worker_that_knew_of_no_transcripts_goes_on_behind_what_there_is(
    connection: Connection, held: Claim
) -> None:
    """Its claim noted no last entry: while a cluster is brought up to date, old workers claim too."""
    assert converse(connection, held.session.id, 3) == 3
    spoil(connection, "UPDATE leases SET last_entry = 0")
    adopted = adopt(connection, held)
    assert append(connection, adopted, 0, "a", "b")
    assert [row.seq for row in rows(connection, held.session.id)] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("before", "change"),
    [(20, {"holder": Holder(uuid4())}), (20, {"attempt": 2}), (10, {}), (30, {}), (0, {})],
    ids=["another holder", "another attempt", "too early", "too late", "the same again"],
)
def test_what_is_not_the_holders_next_batch_is_not_written(
    connection: Connection, held: Claim, before: int, change: dict[str, Any]
) -> None:
    assert append(connection, held, 0, "a", "b")
    assert not append(connection, replace(held, **change), before, "a", "b")
    assert texts(connection, held.session.id) == ["a", "b"]
    assert transcript.position(connection, held) == 20


def test_no_place_of_a_file_is_noted_twice(connection: Connection, held: Claim) -> None:
    assert append(connection, held, 0, "a")
    batch = transcript.Entries()
    batch.add(0, Entry("user", None), "the same place, another offset")
    with pytest.raises(IntegrityError, match="uq_transcript_session_id_attempt_position"):
        transcript.append(connection, held, batch, before=10, after=20)
    assert texts(connection, held.session.id) == ["a"]
    assert transcript.position(connection, held) == 10


def test_a_beginning_that_comes_in_late_takes_nothing_back(connection: Connection, held: Claim) -> None:
    assert transcript.begin_at(connection, held, 100)
    assert transcript.begin_at(connection, held, 100)
    assert append(connection, held, 100, "a")
    assert not transcript.begin_at(connection, held, 100)
    assert transcript.position(connection, held) == 110
    assert not transcript.begin_at(connection, replace(held, holder=Holder(uuid4())), 0)


def test_an_entry_stands_there_as_it_was_with_its_checksum(connection: Connection, held: Claim) -> None:
    entry = '{"type":"user", "words": "naïve ✓ \\u0000"}'
    assert append(connection, held, 0, entry)
    stored = connection.execute(text("SELECT entry, sha256 FROM transcript")).one()
    assert (stored.entry, bytes(stored.sha256)) == (entry, hashlib.sha256(entry.encode()).digest())


@pytest.mark.parametrize("asks", ["before it is through", "when it is through"])
@pytest.mark.parametrize("how", ["the server ends it", "the client is cut off"])
def test_after_an_unknown_outcome_nothing_is_lost_and_nothing_is_there_twice(
    database: Database, connection: Connection, held: Claim, pool: ThreadPoolExecutor, how: str, asks: str
) -> None:
    """Cut off, the statement goes on without anybody to hear of it: late, and perhaps after another try has begun."""
    lines = ["a", "b", "c", "d"]
    used: list[Connection] = []

    def first() -> None:
        with database.connection() as breaking:
            used.append(breaking)
            append(breaking, held, 0, *lines[:2])

    def go_on() -> None:
        with database.connection() as other:
            while (position := transcript.position(other, held)) != LINE_BYTES * len(lines):
                assert position is not None
                append(other, held, position, *lines[position // LINE_BYTES :])

    with locked(database, "leases") as looking:
        broken = pool.submit(first)
        until(lambda: waiting(looking) == 1, what="the first try to wait")
        _break(used[0], looking, how)
        with pytest.raises(DatabaseUnavailable):
            broken.result(timeout=BOUND_S)
        goes_on_by_itself = how == "the client is cut off"
        until(lambda: waiting(looking) == goes_on_by_itself, what="the server to notice, or not to")
        if asks == "before it is through":
            pool.submit(go_on)
            until(lambda: waiting(looking) == 1 + goes_on_by_itself, what="the second try to wait")
    until(lambda: waiting(connection) == 0, what="the first try to be through")
    pool.submit(go_on).result(timeout=BOUND_S)
    pool.shutdown()
    assert [row[::3] for row in rows(connection, held.session.id)] == list(enumerate(lines, 1))


def _break(used: Connection, looking: Connection, how: str) -> None:
    raw: Any = used.connection.driver_connection
    if how == "the server ends it":
        looking.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": raw.info.backend_pid})
        return
    with socket.socket(fileno=os.dup(raw.fileno())) as same:
        same.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize("what", ["adopted", "settled"])
def test_an_append_that_is_under_way_and_what_ends_it_do_not_wait_for_each_other(
    database: Database, held: Claim, pool: ThreadPoolExecutor, what: str
) -> None:
    """The one has locked the lease and refers to the session, the other has locked the session and wants the lease."""

    def appending() -> bool:
        with database.connection() as connection:
            return append(connection, held, 0, "a")

    def ending() -> object:
        with database.connection() as connection:
            return adopt(connection, held) if what == "adopted" else transitions.settle(connection, held, BACK)

    with locked(database, "leases") as looking:
        first = pool.submit(appending)
        until(lambda: waiting(looking) == 1, what="the append to wait")
        second: Future[object] = pool.submit(ending)
        until(lambda: waiting(looking) == 2, what="both to wait")
    assert first.result(timeout=BOUND_S)
    assert second.result(timeout=BOUND_S)


def test_a_claim_that_takes_long_does_not_go_on_from_an_older_transcript(
    database: Database, database_url: str, connection: Connection, enqueue: Callable[..., SessionId], worker: WorkerId
) -> None:
    """Between what it has read and what it locks, somebody else runs the session and gives it back."""
    session_id = enqueue(REQUEST)
    slow = Database(database_url)

    def slow_down(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> tuple[str, Any]:
        waits = "WHERE pg_advisory_xact_lock_shared(1)::text IS NOT NULL AND"
        return statement.replace("WHERE", waits, 1), parameters

    def take(by: Database, slot: int) -> Claim | None:
        with by.connection() as taking:
            return transitions.claim(
                taking, session_id, holder=Holder(uuid4()), worker_id=worker, slot=slot, lease_s=30
            )

    event.listen(slow.engine, "before_cursor_execute", slow_down, retval=True)
    connection.execute(text("SELECT pg_advisory_lock(1)"))
    late: list[Claim | None] = []
    thread = threading.Thread(target=lambda: late.append(take(slow, 2)))
    thread.start()
    until(lambda: waiting(connection), what="the late claim to wait")
    first = take(database, 1)
    assert first is not None
    assert append(connection, first, 0, "a")
    assert transitions.settle(connection, first, BACK)
    connection.execute(text("SELECT pg_advisory_unlock(1)"))
    thread.join()
    slow.close()
    again = late[0] or take(database, 1)
    assert again is not None
    assert append(connection, again, 0, "b")
    assert texts(connection, session_id) == ["a", "b"]


def test_a_conversation_is_what_is_live_and_what_was_delivered_is_more(
    connection: Connection, enqueue: Callable[..., SessionId]
) -> None:
    session_id = enqueue(REQUEST)
    number = 2 * transcript.PAGE_ENTRIES + 1
    converse(connection, session_id, number)
    uuids = [uuid4(), uuid4()]
    spoil(connection, "UPDATE transcript SET uuid = :uuid WHERE seq = 2", uuid=str(uuids[0]))
    spoil(connection, "UPDATE transcript SET kind = 'assistant' WHERE seq = :seq", seq=number)
    assert texts(connection, session_id) == [line(seq) for seq in range(1, number + 1)]
    spoil(connection, "UPDATE sessions SET conversation = '{[1,2),[4,300)}'")
    assert texts(connection, session_id) == [line(1), *(line(seq) for seq in range(4, 300))]
    assert transcript.last(connection, session_id) == line(299)
    assert transcript.last(connection, session_id, kinds=["assistant"]) is None
    assert transcript.delivered(connection, session_id, uuids) == {(str(uuids[0]), "user")}
    assert transcript.can_be_resumed(connection, session_id)
    spoil(connection, "UPDATE sessions SET conversation = :live", live=f"{{[{number},)}}")
    assert transcript.last(connection, session_id) == line(number)
    assert not transcript.can_be_resumed(connection, session_id)


def test_a_page_of_long_entries_has_few_of_them(
    connection: Connection, held: Claim, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two hundred tool results of megabytes are not held at once."""
    monkeypatch.setattr(transcript, "PAGE_BYTES", 1000)
    long = [f"{number}" * 600 for number in range(5)]
    assert append(connection, held, 0, *long, "short", "x" * 5000, "last")
    pages = [[line.text for line in page] for page in transcript.live(connection, held.session.id)]
    assert [len(page) for page in pages] == [2, 2, 3, 1]
    assert [text for page in pages for text in page] == [*long, "short", "x" * 5000, "last"]


def test_a_page_of_it_is_bounded_and_an_entry_beyond_that_is_a_page(
    connection: Connection, enqueue: Callable[..., SessionId], monkeypatch: pytest.MonkeyPatch
) -> None:
    session_id = enqueue(REQUEST)
    converse(connection, session_id, 9)
    monkeypatch.setattr(transcript, "PAGE_BYTES", 2 * len(line(1).encode()))
    spoil(connection, "UPDATE transcript SET entry = :long WHERE seq IN (1, 5)", long="long" * 100)
    pages = [[line.seq for line in page] for page in transcript.live(connection, session_id)]
    assert pages == [[1], [2, 3], [4, 5], [6, 7], [8, 9]]


def test_with_a_session_goes_all_of_its_conversation(connection: Connection, held: Claim) -> None:
    tables = ("transcript", "messages", "snapshots")
    assert append(connection, held, 0, "a", "b")
    assert messages.send(connection, held.session.id, "more")
    assert snapshots.take(connection, held.session.id, SnapshotReason.MANUAL)
    assert leases.renew(connection, held, lease_s=30) is not None
    assert not sessions.delete_ended(connection, held.session.id)
    failed = decide(Ending(reason=Reason.TIMEOUT), wanted=None, on_lost=OnLost.FAIL)
    assert transitions.settle(connection, held, failed)
    assert all(_count(connection, table) for table in tables)
    assert sessions.delete_ended(connection, held.session.id)
    assert [_count(connection, table) for table in tables] == [0, 0, 0]


def test_a_fork_has_the_live_entries_numbered_anew_and_needs_its_source_no_more(
    connection: Connection, held: Claim, claim: Callable[..., Claim]
) -> None:
    source = held.session.id
    assert append(connection, held, 0, *"abcde")
    spoil(connection, "UPDATE sessions SET conversation = '{[1,3),[5,)}'")
    known = connection.execute(text("SELECT uuid FROM transcript WHERE seq = 2")).scalar_one()
    fork = SessionId(uuid4())
    request = replace(REQUEST, parent_id=source)
    written = transitions.enqueue(connection, fork, request, digest(request), forked_from=source)
    assert written == sessions.get(connection, fork)
    assert append(connection, held, 50, "f")
    assert rows(connection, fork) == [Row(1, 0, 1, "a"), Row(2, 0, 2, "b"), Row(3, 0, 3, "e")]
    assert texts(connection, source) == ["a", "b", "e", "f"]
    assert transcript.delivered(connection, fork, [known]) == {(known, "user")}
    put(connection, source, Status.COMPLETED)
    spoil(connection, "DELETE FROM leases")
    assert sessions.delete_ended(connection, source)
    going_on = claim(fork)
    assert append(connection, going_on, 0, "g")
    assert rows(connection, fork)[3:] == [Row(4, 1, 0, "g")]
    assert texts(connection, fork) == ["a", "b", "e", "g"]
    assert going_on.session.forked_from == source


def test_a_fork_whose_key_is_taken_copies_nothing(connection: Connection, held: Claim) -> None:
    assert append(connection, held, 0, "a")
    request = replace(REQUEST, key="key")
    for fork, expected in ((SessionId(uuid4()), True), (SessionId(uuid4()), False)):
        forked = transitions.enqueue(connection, fork, request, digest(request), forked_from=held.session.id)
        assert (forked is not None and forked.id == fork) is expected
    assert _count(connection, "transcript") == 2


def _count(connection: Connection, table: str) -> int:
    number: int = connection.execute(text(f"SELECT count(*) FROM {table}")).scalar_one()
    return number
