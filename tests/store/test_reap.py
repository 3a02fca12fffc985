from __future__ import annotations

from collections.abc import Callable

import pytest
from sqlalchemy import text

from gsd_tasks.domain.session import OnLost, SessionId, Submission
from gsd_tasks.domain.state import Reason, Status, Wanted
from gsd_tasks.service.reap import Reaper
from gsd_tasks.store import Claim, Database, history, leases, sessions

LEASE_S = 30


class Clock:
    """The reaper's own clock, moved by hand."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def reaper(clock: Clock) -> Reaper:
    return Reaper(lease_s=LEASE_S, clock=clock)


def expire(database: Database) -> None:
    with database.connection() as connection:
        connection.execute(text("UPDATE leases SET expires_at = now() - interval '1 second'"))


def launch(database: Database, held: Claim) -> None:
    with database.connection() as connection:
        assert leases.mark_launching(connection, held)


def request(on_lost: OnLost) -> Submission:
    return Submission(command=("true",), working_dir="/", on_lost=on_lost)


@pytest.mark.parametrize(
    ("on_lost", "launched", "wanted", "status", "reason"),
    [
        (OnLost.REQUEUE, True, None, Status.QUEUED, Reason.LEASE_LOST),
        (OnLost.FAIL, True, None, Status.FAILED, Reason.LEASE_LOST),
        (OnLost.FAIL, False, None, Status.QUEUED, Reason.LEASE_LOST),
        (OnLost.REQUEUE, True, Wanted.CANCEL, Status.CANCELLED, Reason.CANCELLED),
    ],
)
def test_what_a_silent_worker_held_is_recovered_as_its_producer_said(
    database: Database,
    enqueue: Callable[..., SessionId],
    claim: Callable[..., Claim],
    reaper: Reaper,
    clock: Clock,
    on_lost: OnLost,
    launched: bool,
    wanted: Wanted | None,
    status: Status,
    reason: Reason,
) -> None:
    held = claim(enqueue(request(on_lost)))
    if launched:
        launch(database, held)
    with database.connection() as connection:
        if wanted:
            sessions.want(connection, held.session.id, wanted)
        expire(database)
        assert reaper.sweep(database) == []
        clock.now += LEASE_S
        assert [(one.session_id, one.status) for one in reaper.sweep(database)] == [(held.session.id, status)]

        session = sessions.get(connection, held.session.id)
        assert session is not None
        assert (session.status, session.reason, session.wanted) == (status, reason, None)
        assert history.of_session(connection, held.session.id)[-1].reason is reason
        assert leases.renew(connection, held, lease_s=LEASE_S) is None


def test_after_an_outage_every_holder_has_a_whole_lease_to_come_back(
    database: Database, claim: Callable[..., Claim], reaper: Reaper, clock: Clock
) -> None:
    """All leases are expired when the database is back: a renewal in time keeps the session."""
    held = claim()
    launch(database, held)
    expire(database)
    reaper.sweep(database)
    clock.now += LEASE_S - 1
    with database.connection() as connection:
        assert leases.renew(connection, held, lease_s=LEASE_S) is not None
    expire(database)
    clock.now += 1
    assert reaper.sweep(database) == []
    clock.now += LEASE_S
    assert len(reaper.sweep(database)) == 1


def test_a_lease_that_is_not_expired_is_left_alone(
    database: Database, claim: Callable[..., Claim], reaper: Reaper, clock: Clock
) -> None:
    claim()
    reaper.sweep(database)
    clock.now += 10 * LEASE_S
    assert reaper.sweep(database) == []


def test_a_session_that_loses_one_worker_after_the_other_is_failed(
    database: Database,
    enqueue: Callable[..., SessionId],
    claim: Callable[..., Claim],
    reaper: Reaper,
    clock: Clock,
) -> None:
    session_id = enqueue(request(OnLost.REQUEUE))
    outcomes = []
    for _ in range(4):
        launch(database, claim(session_id))
        expire(database)
        reaper.sweep(database)
        clock.now += LEASE_S
        outcomes += [one.status for one in reaper.sweep(database)]
    assert outcomes == [Status.QUEUED, Status.QUEUED, Status.QUEUED, Status.FAILED]


def test_two_reapers_recover_once(
    database: Database, claim: Callable[..., Claim], reaper: Reaper, clock: Clock
) -> None:
    other = Reaper(lease_s=LEASE_S, clock=clock)
    claim()
    expire(database)
    assert reaper.sweep(database) + other.sweep(database) == []
    clock.now += LEASE_S
    assert len(reaper.sweep(database) + other.sweep(database)) == 1
