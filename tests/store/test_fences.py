"""Who is no longer the holder writes nothing, and what was sent twice is written once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from uuid import uuid4

import pytest
from sqlalchemy.exc import IntegrityError

from gsd_tasks.domain.policy import Ending, decide
from gsd_tasks.domain.session import Holder, OnLost, SessionId, Stream, Submission
from gsd_tasks.domain.state import Reason, Status, Wanted
from gsd_tasks.store import Claim, Database, leases, outputs, sessions, transitions
from gsd_tasks.store.leases import Progress

NOW = datetime.now(UTC)
BACK = decide(Ending(reason=Reason.WORKER_STOPPED, handed_back=True), wanted=None, on_lost=OnLost.REQUEUE)
DONE = decide(Ending(reason=Reason.FINISHED, succeeded=True, exit_code=0), wanted=None, on_lost=OnLost.FAIL)


def one_line() -> outputs.Batch:
    batch = outputs.Batch()
    batch.add(Stream.STDOUT, NOW, b"line", eol=True)
    return batch


def test_a_batch_is_committed_once_however_often_it_is_sent(database: Database, claim: Callable[..., Claim]) -> None:
    held, begin, after = claim(), Progress(0), Progress(1, 5, 0)
    with database.connection() as connection:
        assert outputs.append(connection, held, one_line(), begin, after)
        assert not outputs.append(connection, held, one_line(), begin, after)
        assert leases.progress(connection, held) == after
        assert [row.seq for row in outputs.read(connection, held.session.id, limit=9)] == [1]


@pytest.mark.parametrize("change", ["holder", "attempt"])
def test_another_holder_or_attempt_can_do_nothing(database: Database, claim: Callable[..., Claim], change: str) -> None:
    held = claim()
    stranger = replace(held, holder=Holder(uuid4())) if change == "holder" else replace(held, attempt=2)
    with database.connection() as connection:
        assert not outputs.append(connection, stranger, one_line(), Progress(0), Progress(1, 5, 0))
        assert leases.renew(connection, stranger, lease_s=30) is None
        assert leases.progress(connection, stranger) is None
        assert not leases.mark_launching(connection, stranger)
        assert not transitions.settle(connection, stranger, DONE)
        assert not leases.was_settled_by(connection, stranger)
        assert leases.progress(connection, held) == Progress(0)


def test_a_session_is_claimed_once(database: Database, claim: Callable[..., Claim]) -> None:
    held = claim()
    with database.connection() as connection:
        again = transitions.claim(
            connection, held.session.id, holder=Holder(uuid4()), worker_id=held.worker_id, slot=2, lease_s=30
        )
        assert again is None
        assert transitions.find_claim(connection, held.session.id, held.holder) == held


def test_rows_count_on_over_attempts_and_the_old_holder_is_fenced(
    database: Database, claim: Callable[..., Claim]
) -> None:
    first = claim()
    with database.connection() as connection:
        assert outputs.append(connection, first, one_line(), Progress(0), Progress(1, 5, 0))
        assert transitions.settle(connection, first, BACK)
    second = claim(first.session.id)
    assert (second.attempt, second.session.seq) == (2, 1)
    with database.connection() as connection:
        assert not outputs.append(connection, first, one_line(), Progress(1, 5, 0), Progress(2, 10, 0))
        assert outputs.append(connection, second, one_line(), Progress(1), Progress(2, 5, 0))
        rows = outputs.read(connection, first.session.id, limit=9)
    assert [(row.seq, row.attempt) for row in rows] == [(1, 1), (2, 2)]


def test_settling_twice_settles_once_and_says_so(database: Database, claim: Callable[..., Claim]) -> None:
    held = claim()
    with database.connection() as connection:
        assert transitions.settle(connection, held, DONE)
        assert not transitions.settle(connection, held, DONE)
        assert leases.was_settled_by(connection, held)
        session = sessions.get(connection, held.session.id)
    assert session is not None
    assert (session.status, session.exit_code) == (Status.COMPLETED, 0)


def test_a_cancel_that_came_last_is_not_lost_in_another_try(database: Database, claim: Callable[..., Claim]) -> None:
    held = claim()
    with database.connection() as connection:
        assert sessions.want(connection, held.session.id, Wanted.CANCEL)
        assert not transitions.settle(connection, held, BACK)
        renewed = leases.renew(connection, held, lease_s=30)
        assert renewed is not None
        assert renewed.wanted is Wanted.CANCEL


def test_a_slot_holds_one_session(claim: Callable[..., Claim]) -> None:
    claim(slot=2)
    with pytest.raises(IntegrityError):
        claim(slot=2)


def test_what_is_not_due_expired_or_running_cannot_be_claimed(
    database: Database, enqueue: Callable[..., SessionId], claim: Callable[..., Claim]
) -> None:
    later = Submission(command=("true",), working_dir="/", run_at=datetime(2999, 1, 1, tzinfo=UTC))
    stale = Submission(command=("true",), working_dir="/", expires_at=datetime(2000, 1, 1, tzinfo=UTC))
    held, waiting = claim(), [enqueue(later), enqueue(stale)]
    with database.connection() as connection:
        assert sessions.count_claimable(connection) == {}
        for session_id in (*waiting, held.session.id):
            assert (
                transitions.claim(
                    connection, session_id, holder=Holder(uuid4()), worker_id=held.worker_id, slot=3, lease_s=30
                )
                is None
            )
        assert list(transitions.expire(connection)) == [waiting[1]]


def test_a_running_session_is_not_deleted(database: Database, claim: Callable[..., Claim]) -> None:
    held = claim()
    with database.connection() as connection:
        assert outputs.append(connection, held, one_line(), Progress(0), Progress(1, 5, 0))
        assert not sessions.delete_ended(connection, held.session.id)
        assert transitions.settle(connection, held, DONE)
        assert sessions.delete_ended(connection, held.session.id)
        assert outputs.read(connection, held.session.id, limit=9) == []


def test_a_page_is_bounded_in_rows_and_in_bytes(database: Database, claim: Callable[..., Claim]) -> None:
    held, batch = claim(), outputs.Batch()
    for _ in range(10):
        batch.add(Stream.STDOUT, NOW, b"x" * 1000, eol=True)
    with database.connection() as connection:
        assert outputs.append(connection, held, batch, Progress(0), Progress(10, 10_010, 0))
        read = [row.seq for row in outputs.read(connection, held.session.id, limit=100, largest_bytes=2500)]
        newest = outputs.read(connection, held.session.id, limit=4, newest_first=True)
    assert read == [1, 2, 3]
    assert [row.seq for row in newest] == [10, 9, 8, 7]
