"""What a listener is given: each row once, wherever it begins, and however often."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime
from uuid import uuid4

from gsd_tasks.domain.policy import Ending, Verdict, decide
from gsd_tasks.domain.session import Holder, OnLost, SessionId, Stream
from gsd_tasks.domain.state import Reason
from gsd_tasks.service.listen import OUTPUT, Event, Listener
from gsd_tasks.service.node import Node
from gsd_tasks.store import Claim, Database, history, outputs, transitions
from gsd_tasks.store.leases import Progress

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
