"""What a listener is given: each row once, wherever it begins, and however often."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from uuid import uuid4

import psycopg
import pytest

from gsd_tasks.domain.events import OUTPUT, RECOVERED, Event
from gsd_tasks.domain.policy import Ending, Verdict, decide
from gsd_tasks.domain.session import Holder, OnLost, SessionId, Stream
from gsd_tasks.domain.state import Reason
from gsd_tasks.service import listen
from gsd_tasks.service.listen import Listener
from gsd_tasks.service.node import Node
from gsd_tasks.store import Claim, Database, adoption, history, leases, outputs, transitions
from gsd_tasks.store.leases import Progress
from tests.waiting import BOUND_S

BACK = decide(Ending(reason=Reason.WORKER_STOPPED, handed_back=True), wanted=None, on_lost=OnLost.REQUEUE)
DONE = decide(Ending(reason=Reason.FINISHED, succeeded=True, exit_code=0), wanted=None, on_lost=OnLost.FAIL)


def test_rows_of_two_attempts_are_given_once(
    database: Database, redis_url: str, node: Node, enqueue: Callable[..., SessionId]
) -> None:
    """A listener that comes late reads both attempts in one go."""
    cursor = _now(database)
    session_id = enqueue()
    _attempt(database, node, session_id, BACK)
    _attempt(database, node, session_id, DONE)
    events = _until_completed(Listener(database, redis_url), cursor)
    assert [row.seq for event in events for row in event.rows] == [1, 2]


def test_listening_again_begins_where_it_is_told_to(
    database: Database, redis_url: str, node: Node, enqueue: Callable[..., SessionId]
) -> None:
    """Left in the middle of a session, and begun anew from before it: nothing is remembered of the first time."""
    listener, cursor = Listener(database, redis_url), _now(database)
    session_id = enqueue()
    _attempt(database, node, session_id, None)
    listener.on(OUTPUT)(lambda event: None)
    cursors = {}
    for event in listener.listen(after=cursor, stop=None):
        cursors[event.name] = event.cursor
        if event.name == OUTPUT:
            break
    _settle(database, session_id, DONE)
    events = _until_completed(listener, cursors["session:enqueued"])
    assert [row.seq for event in events for row in event.rows] == [1]


def _until_completed(listener: Listener, cursor: str) -> list[Event]:
    events: list[Event] = []
    listener.on(OUTPUT)(lambda event: None)
    stop = threading.Event()
    for event in listener.listen(after=cursor, stop=stop):
        events.append(event)
        if event.name == "session:completed":
            stop.set()
    return events


_held: dict[SessionId, Claim] = {}


def _attempt(database: Database, node: Node, session_id: SessionId, verdict: Verdict | None) -> None:
    """Claimed, one line written, and settled if there is a verdict."""
    batch = outputs.Batch()
    batch.add(Stream.STDOUT, datetime.now(UTC), b"line", eol=True)
    with database.connection() as connection:
        claim = transitions.claim(connection, session_id, holder=Holder(uuid4()), worker_id=node.id, slot=1, lease_s=30)
        assert claim is not None
        before = claim.session.seq
        assert outputs.append(connection, claim, batch, Progress(before), Progress(before + 1, 5, 0))
    _held[session_id] = claim
    if verdict is not None:
        _settle(database, session_id, verdict)


def _settle(database: Database, session_id: SessionId, verdict: Verdict) -> None:
    with database.connection() as connection:
        assert transitions.settle(connection, _held.pop(session_id), verdict)


def _now(database: Database) -> str:
    with database.connection() as connection:
        return str(history.now(connection))


def _happened(database: Database, redis_url: str, cursor: str, number: int) -> list[Event]:
    """The next so many events."""
    stop = threading.Event()
    give_up = threading.Timer(BOUND_S, stop.set)
    give_up.start()
    try:
        return list(itertools.islice(Listener(database, redis_url).listen(after=cursor, stop=stop), number))
    finally:
        give_up.cancel()


def _recover(database: Database, node: Node, *session_ids: SessionId) -> None:
    """Claimed in a slot each, and taken from their holder in one statement."""
    with database.connection() as connection:
        for slot, session_id in enumerate(session_ids, 1):
            assert transitions.claim(
                connection, session_id, holder=Holder(uuid4()), worker_id=node.id, slot=slot, lease_s=30
            )
        assert len(transitions.recover(connection, leases.all_held(connection))) == len(session_ids)


def test_a_recovery_is_an_event_after_the_transitions_that_it_consists_of(
    database: Database, redis_url: str, node: Node, enqueue: Callable[..., SessionId]
) -> None:
    cursor = _now(database)
    sessions = [enqueue(), enqueue()]
    _recover(database, node, *sessions)
    later = enqueue()
    events = _happened(database, redis_url, cursor, 8)
    assert [event.name for event in events] == [
        *("session:enqueued", "session:enqueued", "session:started", "session:started"),
        *("session:requeued", "session:requeued", "recovery:complete", "session:enqueued"),
    ]
    recovered = events[6]
    assert recovered.session_id is None
    assert recovered.recovery is not None
    assert sorted(recovered.recovery.requeued) == sorted(sessions)
    assert recovered.recovery.session_ids == recovered.recovery.requeued
    assert events[7].session_id == later


@pytest.mark.parametrize("page", [1, 2, 500])
def test_from_any_cursor_recoveries_come_once_each(
    database: Database,
    redis_url: str,
    node: Node,
    enqueue: Callable[..., SessionId],
    monkeypatch: pytest.MonkeyPatch,
    page: int,
) -> None:
    monkeypatch.setattr(listen, "PAGE", page)
    cursor = _now(database)
    for _ in range(3):
        _recover(database, node, enqueue())
    events = _happened(database, redis_url, cursor, 12)
    names = [event.name for event in events]
    assert names == ["session:enqueued", "session:started", "session:requeued", "recovery:complete"] * 3
    assert len({event.cursor for event in events}) == len(events)
    for number, event in enumerate(events[:-1]):
        rest = _happened(database, redis_url, event.cursor, len(events) - 1 - number)
        assert [one.cursor.rpartition(".")[2] for one in rest] == [
            one.cursor.rpartition(".")[2] for one in events[number + 1 :]
        ]


def test_a_recovery_that_is_committed_late_is_not_passed_over(
    database: Database, database_url: str, redis_url: str, enqueue: Callable[..., SessionId]
) -> None:
    cursor = _now(database)
    with psycopg.connect(database_url) as late:
        late.execute(
            "INSERT INTO recoveries (id, requeued, failed, cancelled, paused)"
            " VALUES (nextval('session_history_id_seq'), '{}', '{}', '{}', '{}')"
        )
        enqueue()
        with database.connection() as connection:
            seen, following = history.read(connection, history.Cursor.parse(cursor), limit=100)
        assert seen == []
        late.commit()
    events = _happened(database, redis_url, str(following), 2)
    assert [event.name for event in events] == ["recovery:complete", "session:enqueued"]


def test_an_adoption_is_no_second_start(
    database: Database, redis_url: str, node: Node, enqueue: Callable[..., SessionId]
) -> None:
    cursor, session_id = _now(database), enqueue()
    _attempt(database, node, session_id, None)
    with database.connection() as connection:
        assert adoption.adopt(connection, session_id, 1, holder=Holder(uuid4()), worker_id=node.id, slot=1, lease_s=30)
    events = _happened(database, redis_url, cursor, 3)
    assert [event.name for event in events] == ["session:enqueued", "session:started", "session:adopted"]


def test_a_function_can_be_called_for_recoveries(
    database: Database, redis_url: str, node: Node, enqueue: Callable[..., SessionId]
) -> None:
    cursor, heard, stop = _now(database), [], threading.Event()
    _recover(database, node, enqueue())
    listener = Listener(database, redis_url)

    @listener.on(RECOVERED)
    def _(event: Event) -> None:
        heard.append(event.recovery)
        stop.set()

    list(listener.listen(after=cursor, stop=stop))
    assert len(heard) == 1
