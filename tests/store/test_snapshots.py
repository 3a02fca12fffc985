"""Snapshots say what there was at one instant, are restored in one statement, and are pruned but for the last."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, text

from gsd_tasks.domain.session import SessionId, SnapshotReason, Submission
from gsd_tasks.domain.snapshot import Snapshot, digest_1
from gsd_tasks.domain.state import FINAL, Status
from gsd_tasks.store import Claim, Database, sessions, snapshots, verification
from gsd_tasks.store.snapshots import BEFORE_RESTORE
from tests.conversations import converse, line, print_rows, put, spoil
from tests.store.plans import MODES, explained
from tests.waiting import until

AUTOMATIC = [reason for reason in SnapshotReason if reason is not SnapshotReason.MANUAL]
TURN, MANUAL = SnapshotReason.TURN, SnapshotReason.MANUAL
#: The very text that the checksum is over: keys by length first, numbers as they were written.
CONTEXT = {"number": 1.50, "a": {"list": [1, "ü\t", None]}, "bb": {}, "aa": True}
CONTEXT_TEXT = r'{"a": {"list": [1, "ü\t", null]}, "aa": true, "bb": {}, "number": 1.5}'


@pytest.fixture
def connection(database: Database) -> Iterator[Connection]:
    with database.connection() as connection:
        yield connection


@pytest.fixture
def talking(connection: Connection, enqueue: Callable[..., SessionId]) -> Callable[..., SessionId]:
    """A Claude session with so many entries, which stands so."""

    def talking(number: int = 3, status: Status = Status.PAUSED, **fields: Any) -> SessionId:
        session_id = enqueue(Submission(prompt="Fix it", working_dir="/", **fields))
        put(connection, session_id, status)
        converse(connection, session_id, number)
        return session_id

    return talking


def take(connection: Connection, session_id: SessionId, reason: SnapshotReason = TURN, **options: Any) -> Snapshot:
    taken = snapshots.take(connection, session_id, reason, **options)
    assert taken is not None
    return taken


def conversation(connection: Connection, session_id: SessionId) -> str:
    found = text("SELECT conversation::text FROM sessions WHERE id = :id")
    return str(connection.execute(found, {"id": session_id}).scalar_one())


def context(connection: Connection, session_id: SessionId) -> Any:
    session = sessions.get(connection, session_id)
    assert session is not None
    return session.context


def are_sound(connection: Connection, session_id: SessionId) -> list[bool]:
    entries = verification.entries(connection, session_id)
    return [judged.is_sound for judged in verification.judged(connection, session_id, entries)]


def age(connection: Connection, snapshot: Snapshot, by: timedelta) -> Snapshot:
    """Let it have been taken so long before, by its time and by its id."""
    then = int((snapshot.at - by).timestamp() * 1000)
    older = f"{then:012x}{snapshot.id.hex[12:]}"
    spoil(
        connection, "UPDATE snapshots SET at = at - :by, id = :new WHERE id = :old", by=by, new=older, old=snapshot.id
    )
    return next(one for one in snapshots.listed(connection, snapshot.session_id) if one.id.hex == older)


def test_a_snapshot_says_how_the_conversation_stood(connection: Connection, talking: Callable[..., SessionId]) -> None:
    session_id = talking(3, context=CONTEXT)
    spoil(connection, "UPDATE sessions SET attempt = 4, last_seq = 17, conversation = '{[1,2),[3,)}'")
    taken = take(connection, session_id, MANUAL, name="good")
    assert snapshots.listed(connection, session_id) == [taken]
    assert (taken.session_id, taken.reason, taken.name, taken.format) == (session_id, MANUAL, "good", 1)
    assert (taken.attempt, taken.last_seq, taken.last_entry, taken.entries) == (4, 17, 3, ((1, 1), (3, 3)))
    assert taken.context == CONTEXT
    assert taken.size_bytes == len(f"{line(1)}\n{line(3)}\n".encode())
    assert abs(taken.at - datetime.now(UTC)) < timedelta(minutes=1)
    assert taken.id.version == 7


def test_its_checksum_is_over_what_the_definition_says(
    connection: Connection, talking: Callable[..., SessionId]
) -> None:
    session_id = talking(3, context=CONTEXT)
    spoil(connection, "UPDATE sessions SET conversation = '{[1,2),[3,)}'")
    noted = connection.execute(text("SELECT seq, sha256 FROM transcript WHERE seq IN (1, 3) ORDER BY seq"))
    expected = digest_1([(row.seq, bytes(row.sha256)) for row in noted], CONTEXT_TEXT)
    assert take(connection, session_id).sha256 == expected.hex()


def test_without_a_live_entry_there_is_nothing_to_take(
    connection: Connection, talking: Callable[..., SessionId]
) -> None:
    for session_id in (talking(0), talking(3)):
        spoil(connection, "UPDATE sessions SET conversation = '{[4,)}'")
        for reason in SnapshotReason:
            assert snapshots.take(connection, session_id, reason) is None
        assert snapshots.listed(connection, session_id) == []


def test_what_is_gone_has_no_snapshot(connection: Connection, talking: Callable[..., SessionId]) -> None:
    session_id = talking(3, Status.COMPLETED)
    take(connection, session_id)
    assert sessions.delete_ended(connection, session_id)
    assert snapshots.take(connection, session_id, TURN) is None
    assert connection.execute(text("SELECT count(*) FROM snapshots")).scalar_one() == 0


def test_of_what_is_deleted_at_that_moment_none_is_taken(
    database: Database, connection: Connection, talking: Callable[..., SessionId]
) -> None:
    session_id = talking(3, Status.COMPLETED)
    results: list[Snapshot | None] = []

    def late() -> None:
        with database.connection() as other:
            results.append(snapshots.take(other, session_id, MANUAL))

    thread = threading.Thread(target=late)
    with database.transaction("READ COMMITTED") as deleting:
        assert sessions.delete_ended(deleting, session_id)
        thread.start()
        until(lambda: _someone_waits(connection), what="the snapshot to wait for the session's row")
    thread.join()
    assert results == [None]


def test_of_a_running_session_it_counts_the_rows_of_its_lease(
    connection: Connection, claim: Callable[..., Claim], enqueue: Callable[..., SessionId]
) -> None:
    session_id = claim(enqueue(Submission(prompt="Fix it", working_dir="/"))).session.id
    converse(connection, session_id, 1)
    spoil(connection, "UPDATE leases SET last_seq = 12")
    assert take(connection, session_id).last_seq == 12


def test_an_automatic_one_that_is_like_the_newest_is_not_written_again(
    connection: Connection, talking: Callable[..., SessionId]
) -> None:
    for reason in AUTOMATIC:
        session_id = talking()
        first = take(connection, session_id, reason)
        spoil(connection, "UPDATE sessions SET attempt = attempt + 1, last_seq = last_seq + 1")
        assert [take(connection, session_id, again, kept=5) for again in AUTOMATIC] == [first] * 3
        by_hand = take(connection, session_id, MANUAL)
        assert by_hand.id != first.id
        assert take(connection, session_id, reason) == by_hand
        sessions.merge_context(connection, session_id, {"a": 1})
        changed = take(connection, session_id, reason)
        converse(connection, session_id, 1)
        grown = take(connection, session_id, reason)
        assert snapshots.listed(connection, session_id) == [grown, changed, by_hand, first]


def test_what_is_written_beside_it_is_in_it_or_not_but_never_in_part(
    database: Database, connection: Connection, talking: Callable[..., SessionId]
) -> None:
    session_id = talking(1)
    enough = threading.Event()
    written: list[int] = []

    def go_on() -> None:
        with database.connection() as other:
            while len(written) < 40 or not enough.is_set():
                converse(other, session_id, 1)
                sessions.merge_context(other, session_id, {"a": len(written)})
                written.append(1)

    thread = threading.Thread(target=go_on)
    thread.start()
    taken = set()
    try:
        while thread.is_alive():
            taken.add(take(connection, session_id).id)
            if len(taken) > 1:
                enough.set()
    finally:
        enough.set()
        thread.join()
    assert take(connection, session_id).last_entry == 1 + len(written)
    checked = are_sound(connection, session_id)
    assert len(checked) > 1
    assert all(checked)


def test_only_the_newest_automatic_ones_of_a_session_stay_and_all_by_hand(
    connection: Connection, talking: Callable[..., SessionId]
) -> None:
    session_id, other = talking(), talking()
    elsewhere = take(connection, other, kept=1)
    by_hand = take(connection, session_id, MANUAL, kept=1)
    taken = []
    for _ in range(5):
        converse(connection, session_id, 1)
        taken.append(take(connection, session_id, kept=3))
    assert snapshots.listed(connection, session_id) == [*reversed(taken[2:]), by_hand]
    # By hand, whatever this process thinks of how many are to be kept.
    named = take(connection, session_id, MANUAL, kept=1)
    assert snapshots.listed(connection, session_id) == [named, *reversed(taken[2:]), by_hand]
    # An equal one takes nobody's place.
    assert take(connection, session_id, kept=1) == named
    assert len(snapshots.listed(connection, session_id)) == 5
    converse(connection, session_id, 1)
    last = take(connection, session_id, kept=1)
    assert snapshots.listed(connection, session_id) == [last, named, by_hand]
    assert snapshots.listed(connection, other) == [elsewhere]


def test_old_automatic_ones_are_removed_page_by_page_but_never_a_sessions_newest(
    connection: Connection, talking: Callable[..., SessionId]
) -> None:
    day = timedelta(days=1)
    stay: list[Snapshot] = []
    go: list[Snapshot] = []
    for _ in range(3):
        session_id = talking()
        for older in (5, 4, 3):
            converse(connection, session_id, 1)
            (stay if older == 3 else go).append(age(connection, take(connection, session_id), older * day))
        stay.append(age(connection, take(connection, session_id, MANUAL), 6 * day))
    young = talking()
    stay += [take(connection, young), age(connection, take(connection, young, MANUAL), day)]
    limit, after_id, pages, removed = 4, None, 0, 0
    while pages == 0 or after_id is not None:
        page = snapshots.prune(connection, older_than=datetime.now(UTC) - 2 * day, after_id=after_id, limit=limit)
        after_id, pages, removed = page.last, pages + 1, removed + page.removed
    assert (pages, removed) == (4, len(go))
    left = connection.execute(text("SELECT id FROM snapshots")).scalars()
    assert set(left) == {one.id for one in stay}


def test_a_session_is_restored_when_nobody_goes_on_with_it(
    connection: Connection, talking: Callable[..., SessionId]
) -> None:
    for status in Status:
        session_id = talking(status=status, context={"a": 1})
        taken = take(connection, session_id)
        converse(connection, session_id, 2)
        done = snapshots.restore(connection, taken, attempt=1)
        assert (done is not None) is (status in {Status.PAUSED, *FINAL}), status
        assert conversation(connection, session_id) == ("{[1,)}" if done is None else "{[1,4),[6,)}")
        assert len(snapshots.listed(connection, session_id)) == (1 if done is None else 2)


def test_what_is_restored_is_followed_by_what_comes_and_can_be_undone(
    connection: Connection, talking: Callable[..., SessionId]
) -> None:
    session_id = talking(3, context={"a": 1})
    print_rows(connection, session_id, 1, 4)
    first = take(connection, session_id)
    converse(connection, session_id, 2)
    spoil(connection, "UPDATE sessions SET context = '{\"b\": 2}'")
    done = snapshots.restore(connection, first, attempt=1)
    assert done is not None
    before = done.before
    assert before is not None
    assert (before.name, before.reason, before.entries) == (BEFORE_RESTORE, MANUAL, ((1, 5),))
    assert context(connection, session_id) == {"a": 1}
    converse(connection, session_id, 2)
    branch = take(connection, session_id)
    assert branch.entries == ((1, 3), (6, 7))
    assert snapshots.restore(connection, before, attempt=1) is not None
    assert conversation(connection, session_id) == "{[1,6),[8,)}"
    assert context(connection, session_id) == {"b": 2}
    assert snapshots.restore(connection, branch, attempt=1) is not None
    assert conversation(connection, session_id) == "{[1,4),[6,)}"
    assert all(are_sound(connection, session_id))
    assert connection.execute(text("SELECT count(*) FROM session_outputs")).scalar_one() == 4


def test_a_conversation_that_was_emptied_is_restored_too(
    connection: Connection, talking: Callable[..., SessionId]
) -> None:
    session_id = talking(3)
    taken = take(connection, session_id)
    spoil(connection, "UPDATE sessions SET conversation = '{[4,)}'")
    assert snapshots.restore(connection, taken, attempt=1) == (None,)
    assert conversation(connection, session_id) == "{[1,)}"


def test_after_another_attempt_or_from_another_session_nothing_is_restored(
    connection: Connection, talking: Callable[..., SessionId]
) -> None:
    session_id, other = talking(3), talking(3)
    taken = take(connection, session_id)
    assert snapshots.restore(connection, taken, attempt=2) is None
    spoil(connection, "UPDATE snapshots SET session_id = :id", id=other)
    assert snapshots.restore(connection, taken, attempt=1) is None
    spoil(connection, "DELETE FROM snapshots")
    assert snapshots.restore(connection, taken, attempt=1) is None
    assert connection.execute(text("SELECT count(*) FROM snapshots")).scalar_one() == 0


def test_what_is_queued_at_that_moment_is_not_restored(
    database: Database, connection: Connection, talking: Callable[..., SessionId]
) -> None:
    session_id = talking(3)
    taken = take(connection, session_id)
    converse(connection, session_id, 1)
    results: list[object] = []

    def late() -> None:
        with database.connection() as other:
            results.append(snapshots.restore(other, taken, attempt=1))

    thread = threading.Thread(target=late)
    with database.transaction("READ COMMITTED") as resuming:
        spoil(resuming, "UPDATE sessions SET status = 'queued'")
        thread.start()
        until(lambda: _someone_waits(connection), what="the restoring to wait for the session's row")
    thread.join()
    assert results == [None]
    assert snapshots.listed(connection, session_id) == [taken]
    assert conversation(connection, session_id) == "{[1,)}"


@pytest.mark.parametrize("mode", MODES)
def test_they_read_no_more_of_the_tables_than_they_are_about(
    database: Database, connection: Connection, talking: Callable[..., SessionId], mode: str
) -> None:
    session_id = talking(20, Status.COMPLETED)
    taken = take(connection, session_id)
    # Of many others, by the same times and with old ids.
    connection.execute(text("SET session_replication_role = replica"))
    spoil(
        connection,
        "INSERT INTO snapshots SELECT gen_random_uuid(), gen_random_uuid(), reason, name, format, attempt, last_seq,"
        " last_entry, entries, context, sha256, size_bytes, at FROM snapshots, generate_series(1, 5000)",
    )
    spoil(
        connection,
        "INSERT INTO transcript SELECT gen_random_uuid(), seq, attempt, position, kind, uuid, entry, sha256, at"
        " FROM transcript, generate_series(1, 500)",
    )
    connection.execute(text("SET session_replication_role = origin"))
    connection.execute(text("ANALYZE"))
    large = {"snapshots", "transcript"}
    then = datetime.now(UTC) - timedelta(days=30)
    with explained(database, mode) as (other, plans):
        converse(other, session_id, 1)
        assert take(other, session_id, kept=20) != taken
        assert snapshots.restore(other, taken, attempt=1)
        assert len(snapshots.listed(other, session_id)) == 3
        snapshots.prune(other, older_than=then, after_id=None, limit=10)
    assert len(plans) > 4
    for plan in plans:
        assert not plan.scanned() & large, str(plan)
        assert plan.rows(large) <= 100, str(plan)


def _someone_waits(connection: Connection) -> int:
    waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    number: int = connection.execute(text(waits)).scalar_one()
    return number
