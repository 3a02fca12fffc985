"""Every change of a session's status: one function each, one statement each, its guard and its history row inside.

Nothing else writes `sessions.status`. Each statement has the same form:

    before   the row (and its lease, where somebody must hold it), locked, if the guard holds
    moved    that row, updated
    ...      the lease and the attempt that belong to it
    history  what happened, in the same transaction
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from psycopg.errors import ForeignKeyViolation
from sqlalchemy import and_, case, delete, func, insert, literal, null, or_, select, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.exc import IntegrityError

from gsd_tasks.domain.errors import NoSuchSession
from gsd_tasks.domain.session import Holder, OnLost, SessionId, Submission, WorkerId
from gsd_tasks.domain.state import FINAL, Reason, Status, Wanted
from gsd_tasks.store import history
from gsd_tasks.store.holding import Claim, Held
from gsd_tasks.store.rows import from_submission, to_session
from gsd_tasks.store.tables import NOW, attempts, interval, leases, session_history, sessions, workers

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy import CTE, ColumnElement, Connection

    from gsd_tasks.domain.policy import Verdict

#: How many workers a session may lose before it is failed.
MAX_RECOVERIES = 3
LOST = Reason.LEASE_LOST.value

#: What may run now. The claim and the re-publisher share it, so that neither waits for what the other refuses.
CLAIMABLE: ColumnElement[bool] = and_(
    sessions.c.status == Status.QUEUED,
    or_(sessions.c.run_at.is_(None), sessions.c.run_at <= NOW),
    # What has begun does not expire any more: `expires_at` bounds the wait for the beginning.
    or_(sessions.c.expires_at.is_(None), sessions.c.expires_at > NOW, sessions.c.attempt > 0),
)
#: What will never run: too late, and not begun.
EXPIRED: ColumnElement[bool] = and_(
    sessions.c.status == Status.QUEUED, sessions.c.expires_at <= NOW, sessions.c.attempt == 0
)


def enqueue(connection: Connection, session_id: SessionId, request: Submission, digest: bytes) -> SessionId | None:
    """(new) -> queued. None, and nothing written, when the idempotency key has a session already.

    Raises:
        NoSuchSession: the parent is not there, or not any more.
    """
    born = (
        upsert(sessions)
        .values(id=session_id, status=Status.QUEUED, reason=Reason.ENQUEUED, digest=digest, **from_submission(request))
        .on_conflict_do_nothing(index_elements=[sessions.c.key])
        .returning(sessions.c.id)
        .cte("born")
    )
    note = insert(session_history).from_select(
        ["session_id", "to_status", "attempt", "reason"],
        select(born.c.id, literal(Status.QUEUED.value), literal(0), literal(Reason.ENQUEUED.value)),
    )
    try:
        written = connection.execute(note.returning(session_history.c.session_id)).scalar_one_or_none()
    except IntegrityError as error:
        if request.parent_id is not None and isinstance(error.orig, ForeignKeyViolation):
            raise NoSuchSession(str(request.parent_id)) from error
        raise
    return None if written is None else SessionId(written)


def claim(
    connection: Connection, session_id: SessionId, *, holder: Holder, worker_id: WorkerId, slot: int, lease_s: float
) -> Claim | None:
    """queued -> running, if it is claimable: a new attempt with this holder. None: it is not ours to run."""
    before = select(sessions.c.id, sessions.c.status).where(sessions.c.id == session_id, CLAIMABLE)
    locked = before.with_for_update(skip_locked=True).cte("before")
    moved = (
        update(sessions)
        .where(sessions.c.id == locked.c.id)
        .values(
            status=Status.RUNNING,
            reason=Reason.CLAIMED,
            detail=null(),
            wanted=null(),
            attempt=sessions.c.attempt + 1,
            worker_id=worker_id,
            slot=slot,
            exit_code=null(),
            exit_signal=null(),
            started_at=func.coalesce(sessions.c.started_at, NOW),
        )
        .returning(*sessions.c)
        .cte("moved")
    )
    held = insert(leases).from_select(
        ["session_id", "attempt", "holder", "worker_id", "slot", "last_seq", "expires_at"],
        select(
            moved.c.id,
            moved.c.attempt,
            literal(holder),
            literal(worker_id),
            literal(slot),
            moved.c.last_seq,
            NOW + interval(lease_s),
        ),
    )
    begun = insert(attempts).from_select(
        ["session_id", "attempt", "holder", "worker_id", "slot", "first_seq"],
        select(moved.c.id, moved.c.attempt, literal(holder), literal(worker_id), literal(slot), moved.c.last_seq + 1),
    )
    name = select(workers.c.name).where(workers.c.id == worker_id).scalar_subquery().label("worker")
    statement = select(*moved.c, name).add_cte(
        held.cte("held"), begun.cte("begun"), history.note(moved, locked).cte("history")
    )
    row = connection.execute(statement).mappings().one_or_none()
    if row is None:
        return None
    session = to_session(row, secrets=True)
    return Claim(session=session, attempt=session.attempt, holder=holder, worker_id=worker_id, slot=slot)


def find_claim(connection: Connection, session_id: SessionId, holder: Holder) -> Claim | None:
    """The claim that this holder has: the answer to a claim whose outcome stayed unknown."""
    row = (
        connection.execute(
            select(*sessions.c, workers.c.name.label("worker"), leases.c.holder)
            .join_from(sessions, leases, leases.c.session_id == sessions.c.id)
            .join(workers, workers.c.id == leases.c.worker_id)
            .where(sessions.c.id == session_id, leases.c.holder == holder)
        )
        .mappings()
        .one_or_none()
    )
    if row is None:
        return None
    session = to_session(row, secrets=True)
    return Claim(session=session, attempt=session.attempt, holder=holder, worker_id=row["worker_id"], slot=row["slot"])


def settle(connection: Connection, claim: Claim, verdict: Verdict) -> bool:
    """running -> completed, failed, cancelled, or queued again; by its holder alone. False: somebody else holds it now.

    `wanted` is consumed in the same statement, and a cancel that arrived after the verdict was made wins over another
    try.
    """
    ending = verdict.ending
    requeued = verdict.status is Status.QUEUED
    guard = [sessions.c.wanted.is_(None)] if requeued else []
    locked = _held(claim, *guard)
    moved = (
        update(sessions)
        .where(sessions.c.id == locked.c.id)
        .values(
            status=verdict.status,
            reason=verdict.reason,
            detail=verdict.detail,
            wanted=null(),
            last_seq=locked.c.last_seq,
            exit_code=ending.exit_code,
            exit_signal=ending.exit_signal,
            result=null() if ending.result is None else ending.result,
            ended_at=null() if requeued else NOW,
        )
        .returning(*sessions.c)
        .cte("moved")
    )
    how = {"reason": moved.c.reason, "exit_code": ending.exit_code, "exit_signal": ending.exit_signal}
    return _left_running(connection, moved, locked, how) is not None


def recover(connection: Connection, silent: Held) -> Status | None:
    """running -> queued, failed or cancelled: taken from a holder that has not renewed since it was seen as `silent`.

    Queued again where the producer allows it, or where no child can have begun; cancelled where that was asked for. A
    session that has lost so many workers already is failed: it may be what ends them. None: the holder came back.
    """
    lost_before = (
        select(func.count())
        .select_from(attempts)
        .where(attempts.c.session_id == sessions.c.id, attempts.c.reason == Reason.LEASE_LOST)
        .correlate(sessions)
        .scalar_subquery()
    )
    locked = (
        select(
            sessions.c.id,
            sessions.c.status,
            leases.c.last_seq,
            case(
                (sessions.c.wanted == Wanted.CANCEL, Status.CANCELLED.value),
                (attempts.c.launching_at.is_(None), Status.QUEUED.value),
                (and_(sessions.c.on_lost == OnLost.REQUEUE, lost_before < MAX_RECOVERIES), Status.QUEUED.value),
                else_=Status.FAILED.value,
            ).label("becomes"),
        )
        .join_from(sessions, leases, leases.c.session_id == sessions.c.id)
        .join(attempts, and_(attempts.c.session_id == leases.c.session_id, attempts.c.attempt == leases.c.attempt))
        .where(
            sessions.c.id == silent.session_id,
            sessions.c.status == Status.RUNNING,
            leases.c.holder == silent.holder,
            leases.c.renewals == silent.renewals,
            leases.c.expires_at < NOW,
        )
        .with_for_update(of=[sessions, leases], skip_locked=True)
        .cte("before")
    )
    requeued = locked.c.becomes == Status.QUEUED.value
    moved = (
        update(sessions)
        .where(sessions.c.id == locked.c.id)
        .values(
            status=locked.c.becomes,
            reason=case((locked.c.becomes == Status.CANCELLED.value, Reason.CANCELLED.value), else_=LOST),
            detail="its worker has fallen silent",
            wanted=null(),
            last_seq=locked.c.last_seq,
            ended_at=case((requeued, null()), else_=NOW),
        )
        .returning(*sessions.c)
        .cte("moved")
    )
    return _left_running(connection, moved, locked, {"reason": LOST})


def cancel_idle(connection: Connection, session_id: SessionId) -> bool:
    """queued, waiting_checkpoint or paused -> cancelled. False: it is in none of these states."""
    return (
        _end_idle(
            connection,
            and_(
                sessions.c.id == session_id,
                sessions.c.status.in_([Status.QUEUED, Status.WAITING_CHECKPOINT, Status.PAUSED]),
            ),
            Status.CANCELLED,
            Reason.CANCELLED,
            "cancelled before it ran",
        )
        != []
    )


def expire(connection: Connection, *, limit: int = 1000) -> Sequence[SessionId]:
    """queued -> failed, for those whose `expires_at` has passed before they ran; at most `limit` of them."""
    due = select(sessions.c.id).where(EXPIRED).limit(limit)
    guard = and_(sessions.c.id.in_(due), EXPIRED)
    return _end_idle(connection, guard, Status.FAILED, Reason.EXPIRED, "it did not begin before expires_at")


def _end_idle(
    connection: Connection, guard: ColumnElement[bool], to: Status, reason: Reason, detail: str
) -> Sequence[SessionId]:
    locked = select(sessions.c.id, sessions.c.status).where(guard).with_for_update(skip_locked=False).cte("before")
    moved = (
        update(sessions)
        .where(sessions.c.id == locked.c.id)
        .values(status=to, reason=reason, detail=detail, ended_at=NOW)
        .returning(*sessions.c)
        .cte("moved")
    )
    note = history.note(moved, locked).returning(session_history.c.session_id)
    return [SessionId(moved_id) for moved_id in connection.execute(note).scalars()]


def _held(claim: Claim, *guard: ColumnElement[bool]) -> CTE:
    """The session and its lease, locked, if this claim still holds it."""
    return (
        select(sessions.c.id, sessions.c.status, leases.c.last_seq)
        .join_from(sessions, leases, leases.c.session_id == sessions.c.id)
        .where(
            sessions.c.id == claim.session.id,
            sessions.c.status == Status.RUNNING,
            leases.c.attempt == claim.attempt,
            leases.c.holder == claim.holder,
            *guard,
        )
        .with_for_update()
        .cte("before")
    )


def _left_running(connection: Connection, moved: CTE, before: CTE, how: Mapping[str, Any]) -> Status | None:
    """Run it, with what goes along: its attempt has ended (`how`), its lease is free. The new status, if it moved."""
    ended = (
        update(attempts)
        .where(attempts.c.session_id == moved.c.id, attempts.c.attempt == moved.c.attempt)
        .values(ended_at=NOW, detail=moved.c.detail, last_seq=moved.c.last_seq, **how)
        .returning(attempts.c.attempt)
    )
    freed = delete(leases).where(leases.c.session_id == moved.c.id).returning(leases.c.session_id)
    note = history.note(moved, before)
    statement = select(moved.c.status).add_cte(ended.cte("ended"), freed.cte("freed"), note.cte("history"))
    status = connection.execute(statement).scalar_one_or_none()
    return None if status is None else Status(status)


__all__ = [
    "CLAIMABLE",
    "FINAL",
    "NOW",
    "Claim",
    "cancel_idle",
    "claim",
    "enqueue",
    "expire",
    "find_claim",
    "recover",
    "settle",
]
