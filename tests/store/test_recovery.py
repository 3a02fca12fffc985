"""What is taken from a silent holder, and what becomes of it: all of it in one statement."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from sqlalchemy import select, text

from gsd_tasks.domain.session import Holder, OnLost, SessionId, Submission
from gsd_tasks.domain.state import Reason, Status, Wanted
from gsd_tasks.store import Claim, Database, history, leases, sessions, silence, transitions
from gsd_tasks.store.holding import Held, Recovered
from gsd_tasks.store.tables import attempts, recoveries
from tests.waiting import BOUND_S, until


def request(on_lost: OnLost = OnLost.REQUEUE, **fields: Any) -> Submission:
    return Submission(command=("true",), working_dir="/", on_lost=on_lost, **fields)


def launch(database: Database, held: Claim) -> None:
    with database.connection() as connection:
        assert leases.mark_launching(connection, held)


def all_held(database: Database) -> list[Held]:
    with database.connection() as connection:
        return leases.all_held(connection)


def recover(database: Database, seen: list[Held] | None = None) -> Recovered:
    with database.connection() as connection:
        return transitions.recover(connection, leases.all_held(connection) if seen is None else seen)


@pytest.mark.parametrize(
    ("on_lost", "launched", "wanted", "status", "reason", "recoveries"),
    [
        (OnLost.REQUEUE, True, None, Status.QUEUED, Reason.LEASE_LOST, 1),
        (OnLost.FAIL, True, None, Status.FAILED, Reason.LEASE_LOST, 0),
        (OnLost.FAIL, False, None, Status.QUEUED, Reason.LEASE_LOST, 0),
        (OnLost.REQUEUE, False, None, Status.QUEUED, Reason.LEASE_LOST, 0),
        (OnLost.REQUEUE, True, Wanted.CANCEL, Status.CANCELLED, Reason.CANCELLED, 0),
        (OnLost.FAIL, False, Wanted.CANCEL, Status.CANCELLED, Reason.CANCELLED, 0),
        (OnLost.FAIL, True, Wanted.PAUSE, Status.PAUSED, Reason.PAUSED, 0),
    ],
)
def test_what_was_wanted_comes_first_then_what_the_producer_said(
    database: Database,
    enqueue: Callable[..., SessionId],
    claim: Callable[..., Claim],
    on_lost: OnLost,
    launched: bool,
    wanted: Wanted | None,
    status: Status,
    reason: Reason,
    recoveries: int,
) -> None:
    held = claim(enqueue(request(on_lost)))
    session_id = held.session.id
    if launched:
        launch(database, held)
    with database.connection() as connection:
        if wanted:
            assert sessions.want(connection, session_id, wanted)
        assert len(recover(database)) == 1

        session = sessions.get(connection, session_id)
        assert session is not None
        assert (session.status, session.reason, session.wanted) == (status, reason, None)
        assert (session.attempt, session.recoveries, session.tries) == (1, recoveries, 0)
        assert (session.ended_at is not None) is session.status.is_final
        last = history.of_session(connection, session_id)[-1]
        assert (last.to_status, last.reason, last.detail) == (status, reason, session.detail)
        assert leases.renew(connection, held, lease_s=30) is None
        assert not leases.was_settled_by(connection, held)
        ended = connection.execute(select(attempts).where(attempts.c.session_id == session_id)).one()
        assert (ended.reason, ended.detail) == (Reason.LEASE_LOST, session.detail)


def test_a_session_that_loses_one_worker_after_the_other_is_failed(
    database: Database, enqueue: Callable[..., SessionId], claim: Callable[..., Claim]
) -> None:
    session_id = enqueue(request(max_recoveries=2))
    for _ in range(3):
        launch(database, claim(session_id))
        recover(database)
    with database.connection() as connection:
        entries = history.of_session(connection, session_id)
        session = sessions.get(connection, session_id)
    assert [entry.to_status for entry in entries if entry.reason is Reason.LEASE_LOST] == [
        Status.QUEUED,
        Status.QUEUED,
        Status.FAILED,
    ]
    assert [entry.detail for entry in entries if entry.reason is Reason.LEASE_LOST] == [
        "its worker has fallen silent: recovery 1 of 2",
        "its worker has fallen silent: recovery 2 of 2",
        "its worker has fallen silent, and its recoveries are used up: 2",
    ]
    assert session is not None
    assert (session.attempt, session.recoveries) == (3, 2)


def test_without_recoveries_it_is_failed_at_once(
    database: Database, enqueue: Callable[..., SessionId], claim: Callable[..., Claim]
) -> None:
    held = claim(enqueue(request(max_recoveries=0)))
    launch(database, held)
    assert recover(database).failed == (held.session.id,)


def test_many_at_once_are_one_event_that_follows_the_transitions(
    database: Database, enqueue: Callable[..., SessionId], claim: Callable[..., Claim]
) -> None:
    failed, requeued, cancelled = (
        claim(enqueue(request(on_lost)), slot=slot)
        for slot, on_lost in enumerate((OnLost.FAIL, OnLost.REQUEUE, OnLost.REQUEUE), 1)
    )
    for held in (failed, requeued, cancelled):
        launch(database, held)
    with database.connection() as connection:
        sessions.want(connection, cancelled.session.id, Wanted.CANCEL)
        recovered = recover(database)
        assert recovered == Recovered(
            id=recovered.id,
            requeued=(requeued.session.id,),
            failed=(failed.session.id,),
            cancelled=(cancelled.session.id,),
        )
        event = connection.execute(select(recoveries)).mappings().one()
        assert {name: tuple(event[name]) for name in silence.RECOVERED} == {
            name: getattr(recovered, name) for name in silence.RECOVERED
        }
        assert (event["id"], event["tells"], event["told_at"]) == (recovered.id, 0, None)
        last = [history.of_session(connection, held.session.id)[-1].id for held in (failed, requeued, cancelled)]
        assert max(last) < event["id"]
        of_history = text("SELECT xid::text FROM session_history WHERE id = :id")
        assert connection.execute(of_history, {"id": last[0]}).scalar_one() == event["xid"]


def test_nothing_is_recovered_where_nothing_was_seen_or_all_came_back(
    database: Database, claim: Callable[..., Claim]
) -> None:
    held = claim()
    (seen,) = all_held(database)
    with database.connection() as connection:
        assert leases.renew(connection, held, lease_s=30) is not None
    for silent in ([], [seen], [replace(seen, renewals=1, holder=Holder(uuid4()))]):
        assert recover(database, silent) == Recovered()
    with database.connection() as connection:
        assert connection.execute(select(recoveries)).first() is None
    assert recover(database).requeued == (held.session.id,)


def test_a_lease_that_does_not_expire_on_a_clock_that_was_set_back_can_be_taken(
    database: Database, claim: Callable[..., Claim]
) -> None:
    held = claim()
    with database.connection() as connection:
        connection.execute(text("UPDATE leases SET expires_at = now() + interval '1 day'"))
    assert recover(database).requeued == (held.session.id,)


def test_what_its_holder_has_in_hand_is_left_out_and_the_rest_is_taken(
    database: Database, database_url: str, claim: Callable[..., Claim]
) -> None:
    busy, silent = claim(slot=1), claim(slot=2)
    seen = all_held(database)
    with psycopg.connect(database_url) as other:
        other.execute("UPDATE leases SET renewals = renewals + 1 WHERE session_id = %s", [busy.session.id])
        assert recover(database, seen).requeued == (silent.session.id,)
    assert recover(database, seen) == Recovered()


def test_a_child_that_begins_in_this_moment_is_not_taken_for_one_that_never_did(
    database: Database, database_url: str, claim: Callable[..., Claim]
) -> None:
    """Its holder has written that it launches, and has not committed yet."""
    held = claim()
    seen = all_held(database)
    with psycopg.connect(database_url) as other:
        other.execute("UPDATE attempts SET launching_at = now() WHERE session_id = %s", [held.session.id])
        assert recover(database, seen) == Recovered()
    assert recover(database, seen).failed == (held.session.id,)


def test_who_waited_while_the_session_was_taken_begins_no_child(
    database: Database, database_url: str, claim: Callable[..., Claim]
) -> None:
    held = claim()

    def mark() -> bool:
        with database.connection() as connection:
            return leases.mark_launching(connection, held)

    with psycopg.connect(database_url) as reaper, ThreadPoolExecutor(1) as pool:
        # What a recovery writes of these two, and has not committed yet.
        reaper.execute("UPDATE attempts SET ended_at = now(), reason = 'lease_lost'")
        reaper.execute("DELETE FROM leases")
        marking = pool.submit(mark)
        with psycopg.connect(database_url, autocommit=True) as looking:
            until(lambda: _waits(looking), what="the holder waiting for the reaper")
        reaper.commit()
        assert marking.result(BOUND_S) is False


def _waits(connection: psycopg.Connection) -> bool:
    waiting = connection.execute(
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    )
    return waiting.fetchone() == (1,)
