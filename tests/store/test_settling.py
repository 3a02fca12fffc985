"""What the holder writes when the child is gone, and what it does not write when people have changed their mind."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest

from gsd_tasks.domain.errors import Fenced
from gsd_tasks.domain.policy import Backoff, Budget, Ending, decide
from gsd_tasks.domain.session import OnLost, Session, SessionId, Submission
from gsd_tasks.domain.state import Reason, Status, Wanted
from gsd_tasks.service import settle as settling
from gsd_tasks.store import Claim, Database, history, leases, sessions, transitions

FAILED = Ending(reason=Reason.EXIT_CODE, detail="the child exited with code 3", exit_code=3)
LOST = Ending(reason=Reason.CHILD_LOST, detail="gone")
TOLD = Ending(reason=Reason.CANCELLED, detail="it was told to end")
RESULT = {"text": "No.", "is_error": True}


def request(**fields: Any) -> Submission:
    return Submission(prompt="Fix it", working_dir="/", **fields)


def now(database: Database, session_id: SessionId) -> Session:
    with database.connection() as connection:
        session = sessions.get(connection, session_id)
    assert session is not None
    return session


def settle(database: Database, held: Claim, ending: Ending, wanted: Wanted | None = None, **rest: Any) -> Session:
    settling.settle(database, held, ending, wanted, on_lost=OnLost.REQUEUE, **rest)
    return now(database, held.session.id)


def want(database: Database, held: Claim, wanted: Wanted) -> None:
    with database.connection() as connection:
        assert sessions.want(connection, held.session.id, wanted)


def test_a_try_that_is_to_be_repeated_rests_first(
    database: Database, enqueue: Callable[..., SessionId], claim: Callable[..., Claim]
) -> None:
    held = claim(enqueue(request(max_tries=2)))
    before = datetime.now(UTC)
    resting = settle(database, held, FAILED, backoff=Backoff(base_s=100))
    assert (resting.status, resting.reason) == (Status.QUEUED, Reason.EXIT_CODE)
    assert (resting.attempt, resting.tries, resting.recoveries) == (1, 1, 0)
    assert resting.run_at is not None
    assert timedelta(seconds=50) <= resting.run_at - before <= timedelta(seconds=101)
    with database.connection() as connection:
        assert sessions.count_claimable(connection) == {}
        assert history.of_session(connection, held.session.id)[-1].detail == resting.detail
    assert "try 2 of 2 begins in" in (resting.detail or "")


def test_the_last_try_fails_it_and_another_one_counts_on(
    database: Database, enqueue: Callable[..., SessionId], claim: Callable[..., Claim]
) -> None:
    session_id = enqueue(request(max_tries=2))
    settle(database, claim(session_id), FAILED, backoff=Backoff(base_s=0))
    failed = settle(database, claim(session_id), FAILED)
    assert (failed.status, failed.attempt, failed.tries) == (Status.FAILED, 2, 2)
    assert failed.ended_at is not None


def test_a_lost_child_is_run_again_at_once_and_counts_a_recovery(
    database: Database, enqueue: Callable[..., SessionId], claim: Callable[..., Claim]
) -> None:
    held = claim(enqueue(request(max_recoveries=1)))
    queued = settle(database, held, LOST)
    assert (queued.status, queued.tries, queued.recoveries, queued.run_at) == (Status.QUEUED, 0, 1, None)
    with database.connection() as connection:
        assert sessions.count_claimable(connection) == {"sessions": 1}
    assert settle(database, claim(held.session.id), LOST).status is Status.FAILED


def test_what_an_earlier_try_answered_is_not_shown_as_the_next_ones(
    database: Database, enqueue: Callable[..., SessionId], claim: Callable[..., Claim]
) -> None:
    session_id = enqueue(request(max_tries=2))
    answered = Ending(reason=Reason.CLAUDE_ERROR, exit_code=1, result=RESULT)
    assert settle(database, claim(session_id), answered, backoff=Backoff(base_s=0)).result == RESULT
    assert claim(session_id).session.result is None


def test_a_pause_is_carried_out_and_consumed(database: Database, claim: Callable[..., Claim]) -> None:
    held = claim()
    want(database, held, Wanted.PAUSE)
    paused = settle(database, held, TOLD, Wanted.PAUSE)
    assert (paused.status, paused.reason, paused.wanted, paused.ended_at) == (Status.PAUSED, Reason.PAUSED, None, None)
    with database.connection() as connection:
        assert leases.all_held(connection) == []


def test_a_pause_that_was_taken_back_while_the_child_ended_queues_it_again(
    database: Database, claim: Callable[..., Claim]
) -> None:
    """Its holder had heard of the pause, and has not heard more."""
    held = claim()
    want(database, held, Wanted.PAUSE)
    with database.connection() as connection:
        assert sessions.take_back_pause(connection, held.session.id)
    resumed = settle(database, held, TOLD, Wanted.PAUSE)
    assert (resumed.status, resumed.reason, resumed.tries) == (Status.QUEUED, Reason.RESUMED, 0)


@pytest.mark.parametrize("max_tries", [1, 2])
@pytest.mark.parametrize(
    ("heard", "wanted", "status"),
    [
        (None, Wanted.CANCEL, Status.CANCELLED),
        (None, Wanted.PAUSE, Status.PAUSED),
        (Wanted.PAUSE, Wanted.CANCEL, Status.CANCELLED),
    ],
)
def test_what_people_want_in_the_last_moment_counts_more_than_a_failure(
    database: Database,
    enqueue: Callable[..., SessionId],
    claim: Callable[..., Claim],
    heard: Wanted | None,
    wanted: Wanted,
    status: Status,
    max_tries: int,
) -> None:
    held = claim(enqueue(request(max_tries=max_tries)))
    want(database, held, wanted)
    ended = settle(database, held, FAILED, heard)
    assert (ended.status, ended.wanted, ended.tries) == (status, None, 0)


def test_people_may_change_their_mind_while_the_outcome_is_written(
    database: Database, claim: Callable[..., Claim], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look at what they want and the writing, twice: paused, resumed, and paused again."""
    held, real = claim(), transitions.settle
    minds: list[Callable[..., bool]] = [sessions.take_back_pause, partial(sessions.want, wanted=Wanted.PAUSE)]

    def changing(connection: Any, claim: Claim, verdict: Any, *, heard: int) -> bool:
        if minds:
            assert minds.pop(0)(connection, claim.session.id)
        return real(connection, claim, verdict, heard=heard)

    want(database, held, Wanted.PAUSE)
    monkeypatch.setattr(transitions, "settle", changing)
    assert settle(database, held, TOLD, Wanted.PAUSE).status is Status.PAUSED


@pytest.mark.parametrize("wanted", [None, *Wanted])
@pytest.mark.parametrize("ending", [FAILED, LOST, Ending(reason=Reason.LEASE_LOST)])
def test_who_was_taken_for_silent_does_not_hear_that_it_has_settled(
    database: Database, claim: Callable[..., Claim], wanted: Wanted | None, ending: Ending
) -> None:
    """The attempt has ended, and not as its holder would have it."""
    held = claim()
    with database.connection() as connection:
        assert transitions.recover(connection, leases.all_held(connection))
    before = now(database, held.session.id)
    with pytest.raises(Fenced):
        settling.settle(database, held, ending, wanted, on_lost=OnLost.REQUEUE)
    assert now(database, held.session.id) == before


def test_what_ended_well_stays_so_whatever_people_want(database: Database, claim: Callable[..., Claim]) -> None:
    held = claim()
    want(database, held, Wanted.CANCEL)
    done = settle(database, held, Ending(reason=Reason.FINISHED, succeeded=True))
    assert (done.status, done.wanted) == (Status.COMPLETED, None)


@pytest.mark.parametrize("status", [Status.QUEUED, Status.PAUSED])
def test_an_outcome_that_takes_people_to_want_something_else_is_not_written(
    database: Database, claim: Callable[..., Claim], status: Status
) -> None:
    held = claim()
    wanted = Wanted.PAUSE if status is Status.PAUSED else None
    verdict = decide(LOST, wanted=wanted, on_lost=OnLost.REQUEUE, budget=Budget.of(held.session))
    assert verdict.status is status
    want(database, held, Wanted.CANCEL)
    with database.connection() as connection:
        assert not transitions.settle(connection, held, verdict)
    assert now(database, held.session.id).wanted is Wanted.CANCEL
