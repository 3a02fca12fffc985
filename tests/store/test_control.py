"""What people do to a session that nobody runs, and to what is wanted of one that runs: each from its own states."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from sqlalchemy import Connection, text

from gsd_tasks.domain.policy import Ending, decide
from gsd_tasks.domain.session import OnLost, Session, SessionId, Submission
from gsd_tasks.domain.state import TRANSITIONS, Reason, Status, Wanted
from gsd_tasks.store import Claim, Database, history, sessions, transitions
from tests.waiting import BOUND_S, until

Act = Callable[[Connection, SessionId], bool]

ENDINGS = {
    Status.COMPLETED: Ending(reason=Reason.FINISHED, succeeded=True, exit_code=0),
    Status.FAILED: Ending(reason=Reason.EXIT_CODE, exit_code=3, result={"text": "No."}),
}
#: What runs keeps its slot, and there are three of them.
RUNNING_LAST = sorted(Status, key=lambda status: status is Status.RUNNING)
WISHES = [(status, wanted) for status in RUNNING_LAST for wanted in (None, *Wanted)]
IDLE: dict[Act, dict[Status, Status]] = {
    transitions.cancel_idle: dict.fromkeys([Status.QUEUED, Status.WAITING_CHECKPOINT, Status.PAUSED], Status.CANCELLED),
    transitions.pause_idle: {Status.QUEUED: Status.PAUSED},
    transitions.resume: {Status.PAUSED: Status.QUEUED},
    transitions.retry: dict.fromkeys([Status.FAILED, Status.CANCELLED], Status.QUEUED),
}


def want_pause(connection: Connection, session_id: SessionId) -> bool:
    return sessions.want(connection, session_id, Wanted.PAUSE)


def want_cancel(connection: Connection, session_id: SessionId) -> bool:
    return sessions.want(connection, session_id, Wanted.CANCEL)


@pytest.fixture
def connection(database: Database) -> Iterator[Connection]:
    with database.connection() as connection:
        yield connection


@pytest.fixture
def put(
    connection: Connection, enqueue: Callable[..., SessionId], claim: Callable[..., Claim]
) -> Callable[..., SessionId]:
    """A session in a state, come there as sessions do."""

    def put(status: Status, **fields: Any) -> SessionId:
        session_id = enqueue(Submission(prompt="Fix it", working_dir="/", **fields))
        if status is Status.PAUSED:
            assert transitions.pause_idle(connection, session_id)
        elif status is Status.CANCELLED:
            assert transitions.cancel_idle(connection, session_id)
        elif status is not Status.QUEUED:
            held = claim(session_id, slot=1 + connection.execute(text("SELECT count(*) FROM leases")).scalar_one())
            if status is Status.WAITING_CHECKPOINT:
                which = {"id": session_id}
                connection.execute(text("DELETE FROM leases WHERE session_id = :id"), which)
                connection.execute(text("UPDATE sessions SET status = 'waiting_checkpoint' WHERE id = :id"), which)
            elif status is not Status.RUNNING:
                verdict = decide(ENDINGS[status], wanted=None, on_lost=OnLost.FAIL)
                assert transitions.settle(connection, held, verdict)
        return session_id

    return put


def now(connection: Connection, session_id: SessionId) -> Session:
    session = sessions.get(connection, session_id)
    assert session is not None
    return session


@pytest.mark.parametrize("act", IDLE)
def test_each_change_of_what_nobody_runs_has_its_own_states(
    connection: Connection, put: Callable[..., SessionId], act: Act
) -> None:
    for status in RUNNING_LAST:
        session_id = put(status)
        before, told = now(connection, session_id), history.of_session(connection, session_id)
        becomes = IDLE[act].get(status)
        assert act(connection, session_id) is (becomes is not None), status
        after, entries = now(connection, session_id), history.of_session(connection, session_id)
        if becomes is None:
            assert (after, entries) == (before, told)
        else:
            assert (status, becomes) in TRANSITIONS
            last = entries[-1]
            assert (last.from_status, last.to_status, last.reason) == (status, after.status, after.reason)
            assert after.status is becomes


@pytest.mark.parametrize(
    ("act", "status", "reason", "detail"),
    [
        (transitions.cancel_idle, Status.QUEUED, Reason.CANCELLED, "cancelled before it ran"),
        (transitions.cancel_idle, Status.WAITING_CHECKPOINT, Reason.CANCELLED, "cancelled while it waited"),
        (transitions.pause_idle, Status.QUEUED, Reason.PAUSED, "paused before it ran"),
        (transitions.resume, Status.PAUSED, Reason.RESUMED, None),
        (transitions.retry, Status.FAILED, Reason.RETRIED, None),
    ],
)
def test_each_has_its_reason_and_sentence(
    connection: Connection,
    put: Callable[..., SessionId],
    act: Act,
    status: Status,
    reason: Reason,
    detail: str | None,
) -> None:
    session_id = put(status)
    assert act(connection, session_id)
    assert (now(connection, session_id).reason, now(connection, session_id).detail) == (reason, detail)


def test_only_what_runs_can_be_asked_to_pause_and_a_cancel_stays(
    connection: Connection, put: Callable[..., SessionId]
) -> None:
    for status, wanted in WISHES:
        session_id = put(status)
        runs = status is Status.RUNNING
        if wanted is not None:
            assert sessions.want(connection, session_id, wanted) is runs
        can_pause = runs and wanted is not Wanted.CANCEL
        assert want_pause(connection, session_id) is can_pause
        assert now(connection, session_id).wanted is (Wanted.PAUSE if can_pause else wanted if runs else None)


def test_only_a_pause_of_what_runs_can_be_taken_back(connection: Connection, put: Callable[..., SessionId]) -> None:
    for status, wanted in WISHES:
        session_id = put(status)
        if wanted is not None:
            sessions.want(connection, session_id, wanted)
        before = now(connection, session_id).wanted
        can = (status, wanted) == (Status.RUNNING, Wanted.PAUSE)
        assert sessions.take_back_pause(connection, session_id) is can
        assert now(connection, session_id).wanted is (None if can else before)


def test_a_cancel_replaces_a_pause(connection: Connection, put: Callable[..., SessionId]) -> None:
    session_id = put(Status.RUNNING)
    assert want_pause(connection, session_id)
    assert want_cancel(connection, session_id)
    assert now(connection, session_id).wanted is Wanted.CANCEL


def test_a_retry_begins_with_whole_budgets_and_what_it_counted_goes_on(
    connection: Connection, put: Callable[..., SessionId], claim: Callable[..., Claim]
) -> None:
    session_id = put(Status.FAILED, max_tries=1)
    connection.execute(text("UPDATE sessions SET last_seq = 7, recoveries = 2, run_at = now() + interval '1 day'"))
    failed = now(connection, session_id)
    assert (failed.tries, failed.recoveries, failed.exit_code, failed.ended_at is None) == (1, 2, 3, False)
    assert transitions.retry(connection, session_id)
    queued = now(connection, session_id)
    assert (queued.tries, queued.recoveries, queued.attempt, queued.seq) == (0, 0, 1, 7)
    assert [queued.run_at, queued.ended_at, queued.exit_code, queued.exit_signal, queued.result] == [None] * 5
    assert claim(session_id).attempt == 2


def test_what_had_expired_before_it_began_can_be_retried(
    connection: Connection, put: Callable[..., SessionId], claim: Callable[..., Claim]
) -> None:
    session_id = put(Status.QUEUED, expires_at=datetime.now(UTC) - timedelta(seconds=1))
    assert transitions.expire(connection) == [session_id]
    assert transitions.retry(connection, session_id)
    assert transitions.expire(connection) == []
    assert claim(session_id).attempt == 1


def test_what_is_paused_is_neither_claimed_nor_expired(
    connection: Connection, put: Callable[..., SessionId], claim: Callable[..., Claim]
) -> None:
    session_id = put(Status.PAUSED)
    assert sessions.count_claimable(connection) == {}
    with pytest.raises(AssertionError):
        claim(session_id)
    assert transitions.resume(connection, session_id)
    assert claim(session_id).attempt == 1


@pytest.mark.parametrize(
    ("act", "status", "wanted", "meanwhile"),
    [
        (
            transitions.pause_idle,
            Status.QUEUED,
            None,
            "status = 'running', attempt = 1, slot = 1, worker_id = gen_random_uuid()",
        ),
        (transitions.pause_idle, Status.QUEUED, None, "status = 'cancelled', ended_at = now()"),
        (transitions.resume, Status.PAUSED, None, "status = 'cancelled', ended_at = now()"),
        (transitions.resume, Status.PAUSED, None, "status = 'queued'"),
        (transitions.retry, Status.FAILED, None, "status = 'queued', ended_at = NULL"),
        (want_pause, Status.RUNNING, None, "status = 'completed', ended_at = now()"),
        (want_pause, Status.RUNNING, None, "wanted = 'cancel'"),
        (sessions.take_back_pause, Status.RUNNING, Wanted.PAUSE, "wanted = 'cancel'"),
        (sessions.take_back_pause, Status.RUNNING, Wanted.PAUSE, "status = 'paused', wanted = NULL"),
    ],
)
def test_who_comes_second_waits_and_then_changes_nothing(
    database: Database,
    database_url: str,
    connection: Connection,
    put: Callable[..., SessionId],
    act: Act,
    status: Status,
    wanted: Wanted | None,
    meanwhile: str,
) -> None:
    """Somebody else has written his change, and not committed it yet."""
    session_id = put(status)
    if wanted is not None:
        assert sessions.want(connection, session_id, wanted)

    def acted() -> bool:
        with database.connection() as ours:
            return act(ours, session_id)

    with psycopg.connect(database_url) as first, ThreadPoolExecutor(1) as pool:
        first.execute(f"UPDATE sessions SET {meanwhile}".encode())
        second = pool.submit(acted)
        until(lambda: _somebody_waits(connection), what="waiting for the first")
        first.commit()
        before = now(connection, session_id)
        assert second.result(BOUND_S) is False
    assert now(connection, session_id) == before


def _somebody_waits(connection: Connection) -> bool:
    waiting = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    return connection.execute(text(waiting)).first() is not None
