"""Every change of a session's status: one function each, one statement each, its guard and its history row inside.

Nothing else writes `sessions.status`. Each statement has the same form:

    before   the row (and its lease, where somebody must hold it), locked, if the guard holds
    moved    that row, updated
    ...      the lease and the attempt that belong to it
    history  what happened, in the same transaction

Locked, that is against all but foreign keys (`key_share`): what only refers to a session, as a fork does or an entry of
its transcript, is written meanwhile. A holder that appends has locked its lease before it refers to its session, so
each would else wait for the other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from psycopg.errors import ForeignKeyViolation
from sqlalchemy import and_, case, delete, func, insert, literal, null, or_, select, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.exc import IntegrityError

from gsd_tasks.domain.errors import NoSuchSession
from gsd_tasks.domain.session import Holder, Kind, SessionId, Submission, WorkerId
from gsd_tasks.domain.state import FINAL, Reason, Status, Wanted
from gsd_tasks.store import history, messages, silence, transcript
from gsd_tasks.store.holding import Claim, Held, Recovered
from gsd_tasks.store.rows import from_submission, to_session
from gsd_tasks.store.tables import MOMENT, NOW, attempts, interval, leases, session_history, sessions, workers

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy import CTE, ColumnElement, Connection
    from sqlalchemy.sql.dml import ReturningInsert

    from gsd_tasks.domain.policy import Verdict

LOST = Reason.LEASE_LOST.value
#: Queued once more, as if nothing had been tried.
_ANEW: dict[str, Any] = {
    "status": Status.QUEUED,
    "tries": 0,
    "recoveries": 0,
    **{name: null() for name in ("detail", "run_at", "expires_at", "ended_at", "exit_code", "exit_signal", "result")},
}

#: Written out, not sent as a value: a plan for all values could not use the index of what is queued.
QUEUED: ColumnElement[bool] = sessions.c.status == literal(Status.QUEUED.value, literal_execute=True)
#: What may run now. The claim and the re-publisher share it, so that neither waits for what the other refuses.
CLAIMABLE: ColumnElement[bool] = and_(
    QUEUED,
    or_(sessions.c.run_at.is_(None), sessions.c.run_at <= NOW),
    # What has begun does not expire any more: `expires_at` bounds the wait for the beginning.
    or_(sessions.c.expires_at.is_(None), sessions.c.expires_at > NOW, sessions.c.attempt > 0),
)
#: What will never run: too late, and not begun. Too late when the statement began: an index cannot search by a clock
#: that goes on.
EXPIRED: ColumnElement[bool] = and_(
    QUEUED, sessions.c.expires_at <= func.statement_timestamp(type_=MOMENT), sessions.c.attempt == 0
)


def enqueue(
    connection: Connection,
    session_id: SessionId,
    request: Submission,
    digest: bytes,
    *,
    forked_from: SessionId | None = None,
) -> SessionId | None:
    """(new) -> queued. None, and nothing written, when the idempotency key has a session already.

    With `forked_from` it begins with that session's conversation, as it stands.

    Raises:
        NoSuchSession: the parent is not there, or not any more.
    """
    born = (
        upsert(sessions)
        .values(
            id=session_id,
            status=Status.QUEUED,
            reason=Reason.ENQUEUED,
            digest=digest,
            forked_from=forked_from,
            **from_submission(request),
        )
        .on_conflict_do_nothing(index_elements=[sessions.c.key])
        .returning(sessions.c.id)
        .cte("born")
    )
    note = insert(session_history).from_select(
        ["session_id", "to_status", "attempt", "reason"],
        select(born.c.id, literal(Status.QUEUED.value), literal(0), literal(Reason.ENQUEUED.value)),
    )
    statement = note.returning(session_history.c.session_id)
    if forked_from is not None:
        statement = statement.add_cte(transcript.copied(born, forked_from))
    try:
        written = connection.execute(statement).scalar_one_or_none()
    except IntegrityError as error:
        if request.parent_id is not None and isinstance(error.orig, ForeignKeyViolation):
            raise NoSuchSession(str(request.parent_id)) from error
        raise
    return None if written is None else SessionId(written)


def claim(
    connection: Connection, session_id: SessionId, *, holder: Holder, worker_id: WorkerId, slot: int, lease_s: float
) -> Claim | None:
    """queued -> running, if it is claimable: a new attempt with this holder. None: it is not ours to run."""
    # The row is locked as it is by now, the transcript read as it was when the statement began: both of one attempt.
    begun_with = sessions.alias()
    attempt = select(begun_with.c.attempt).where(begun_with.c.id == session_id).scalar_subquery()
    guard = sessions.c.id == session_id, CLAIMABLE, sessions.c.attempt == attempt
    before = select(sessions.c.id, sessions.c.status).where(*guard)
    locked = before.with_for_update(skip_locked=True, key_share=True).cte("before")
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
            result=null(),
            started_at=func.coalesce(sessions.c.started_at, NOW),
        )
        .returning(*sessions.c)
        .cte("moved")
    )
    held = insert(leases).from_select(
        ["session_id", "attempt", "holder", "worker_id", "slot", "last_seq", "last_entry", "expires_at"],
        select(
            moved.c.id,
            moved.c.attempt,
            literal(holder),
            literal(worker_id),
            literal(slot),
            moved.c.last_seq,
            transcript.last_entry(moved.c.id),
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


def settle(connection: Connection, claim: Claim, verdict: Verdict, *, heard: int = 0) -> bool:
    """running -> completed, failed, cancelled, paused, or queued again; by its holder alone.

    `wanted` is consumed in the same statement. False: somebody else holds it now; or people want something else than
    the verdict took them to want, or have said more than the `heard` messages, and another verdict is due.
    """
    ending = verdict.ending
    locked = _held(claim, *_still_wanted(verdict, heard))
    moved = (
        update(sessions)
        .where(sessions.c.id == locked.c.id)
        .values(
            status=verdict.status,
            reason=verdict.reason,
            detail=verdict.detail,
            wanted=null(),
            tries=verdict.tries,
            recoveries=verdict.recoveries,
            last_seq=locked.c.last_seq,
            exit_code=ending.exit_code,
            exit_signal=ending.exit_signal,
            result=null() if ending.result is None else ending.result,
            run_at=NOW + interval(verdict.delay_s) if verdict.delay_s else sessions.c.run_at,
            ended_at=NOW if verdict.status.is_final else null(),
        )
        .returning(*sessions.c)
        .cte("moved")
    )
    how = {"reason": moved.c.reason, "exit_code": ending.exit_code, "exit_signal": ending.exit_signal}
    along = (*_left_running(moved, how), history.note(moved, locked).cte("history"))
    return connection.execute(select(moved.c.id).add_cte(*along)).first() is not None


def recover(connection: Connection, silent: Sequence[Held]) -> Recovered:
    """running -> queued, failed, cancelled or paused: taken from holders that have not renewed since they were seen.

    Cancelled or paused where that was asked for; queued again where no child can have begun, which counts nothing, or
    where the producer allows it and `max_recoveries` is not used up; else failed. What somebody else has in hand just
    now, and whose holder has come back, is left out. Whether a lease has expired is for the caller to say: on a clock
    that was set back it does not, for as long as it was set back.
    """
    if not silent:
        return Recovered()
    locked = silence.locked(silent)
    ended = {Status.FAILED.value, Status.CANCELLED.value}
    moved = (
        update(sessions)
        .where(sessions.c.id == locked.c.id)
        .values(
            status=locked.c.becomes,
            reason=case(
                (locked.c.becomes == Status.CANCELLED.value, Reason.CANCELLED.value),
                (locked.c.becomes == Status.PAUSED.value, Reason.PAUSED.value),
                else_=LOST,
            ),
            detail=locked.c.because,
            wanted=null(),
            recoveries=sessions.c.recoveries + locked.c.counts,
            last_seq=locked.c.last_seq,
            ended_at=case((locked.c.becomes.in_(ended), NOW), else_=null()),
        )
        .returning(*sessions.c)
        .cte("moved")
    )
    noted = history.note(moved, locked).returning(session_history.c.session_id).cte("history")
    event = silence.event(moved, noted)
    ended_attempts, freed = _left_running(moved, {"reason": LOST})
    statement = select(event).add_cte(ended_attempts, freed)
    row = connection.execute(statement).mappings().one_or_none()
    if row is None:
        return Recovered()
    return Recovered(id=row["id"], **{name: tuple(row[name]) for name in silence.RECOVERED})


def cancel_idle(connection: Connection, session_id: SessionId) -> bool:
    """queued, waiting_checkpoint or paused -> cancelled. False: it is in none of these states."""
    idle = [Status.QUEUED, Status.WAITING_CHECKPOINT, Status.PAUSED]
    guard = and_(sessions.c.id == session_id, sessions.c.status.in_(idle))
    return bool(_end_idle(connection, guard, Status.CANCELLED, Reason.CANCELLED, _while_idle("cancelled")))


def pause_idle(connection: Connection, session_id: SessionId) -> bool:
    """queued -> paused. False: it is not queued."""
    guard = and_(sessions.c.id == session_id, sessions.c.status == Status.QUEUED)
    changes = {"status": Status.PAUSED, "reason": Reason.PAUSED, "detail": _while_idle("paused")}
    return bool(_move_idle(connection, guard, changes))


def resume(connection: Connection, session_id: SessionId) -> bool:
    """paused -> queued. False: it is not paused."""
    guard = and_(sessions.c.id == session_id, sessions.c.status == Status.PAUSED)
    return bool(_move_idle(connection, guard, {"status": Status.QUEUED, "reason": Reason.RESUMED, "detail": null()}))


def retry(connection: Connection, session_id: SessionId) -> bool:
    """failed or cancelled -> queued: to run at once, as if nothing had been tried. False: it is neither of them.

    Attempts and rows count on.
    """
    guard = and_(sessions.c.id == session_id, sessions.c.status.in_([Status.FAILED, Status.CANCELLED]))
    return bool(_move_idle(connection, guard, _ANEW | {"reason": Reason.RETRIED}))


def follow_up(connection: Connection, session_id: SessionId, text: str) -> bool:
    """completed, failed, cancelled or paused -> queued, with one more message: to run at once, with all of its tries.

    False: it is in none of these states, or is a command.
    """
    guard = and_(
        sessions.c.id == session_id,
        sessions.c.kind == Kind.CLAUDE,
        sessions.c.status.in_([*FINAL, Status.PAUSED]),
    )
    changes = _ANEW | {"reason": Reason.FOLLOW_UP, "last_message": sessions.c.last_message + 1}
    moved, note = _moving_idle(guard, changes)
    said = messages.adding(moved, text).cte("said")
    return connection.execute(note.add_cte(said)).first() is not None


def expire(connection: Connection, *, limit: int = 1000) -> Sequence[SessionId]:
    """queued -> failed, for those whose `expires_at` has passed before they ran; at most `limit` of them."""
    detail = literal("it did not begin before expires_at")
    return _end_idle(connection, EXPIRED, Status.FAILED, Reason.EXPIRED, detail, limit=limit)


def _end_idle(
    connection: Connection,
    guard: ColumnElement[bool],
    to: Status,
    reason: Reason,
    detail: ColumnElement[str],
    *,
    limit: int | None = None,
) -> Sequence[SessionId]:
    changes = {"status": to, "reason": reason, "detail": detail, "ended_at": NOW}
    return _move_idle(connection, guard, changes, limit=limit)


def _move_idle(
    connection: Connection, guard: ColumnElement[bool], changes: Mapping[str, Any], *, limit: int | None = None
) -> Sequence[SessionId]:
    """Nobody holds these: the guard over the session's own row is enough."""
    _, note = _moving_idle(guard, changes, limit=limit)
    return [SessionId(row[0]) for row in connection.execute(note)]


def _moving_idle(
    guard: ColumnElement[bool], changes: Mapping[str, Any], *, limit: int | None = None
) -> tuple[CTE, ReturningInsert[Any]]:
    """The rows that are moved, and the statement that moves them and notes it."""
    # The limit stands here: in a query of its own, compared by id, it may be run once for every row.
    before = select(sessions.c.id, sessions.c.status).where(guard).limit(limit)
    locked = before.with_for_update(key_share=True).cte("before")
    moved = update(sessions).where(sessions.c.id == locked.c.id).values(**changes).returning(*sessions.c).cte("moved")
    return moved, history.note(moved, locked).returning(session_history.c.session_id)


def _while_idle(what: str) -> ColumnElement[str]:
    return case((sessions.c.attempt == 0, f"{what} before it ran"), else_=f"{what} while it waited")


def _still_wanted(verdict: Verdict, heard: int) -> list[ColumnElement[bool]]:
    """What a verdict takes people to want. A wish does not matter to what went well, and a cancel is never taken back.

    A message does: it was accepted, so it is answered, also where it comes after an interrupt.
    """
    match verdict.status:
        case Status.COMPLETED:
            return [sessions.c.last_message <= heard]
        case Status.FAILED if verdict.reason is Reason.INTERRUPTED:
            return [sessions.c.wanted.is_(None), sessions.c.last_message <= heard]
        case Status.QUEUED | Status.FAILED:
            return [sessions.c.wanted.is_(None)]
        case Status.PAUSED:
            return [sessions.c.wanted == Wanted.PAUSE]
        case _:
            return []


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
        .with_for_update(key_share=True)
        .cte("before")
    )


def _left_running(moved: CTE, how: Mapping[str, Any]) -> tuple[CTE, CTE]:
    """What goes along when a session stops running: its attempt has ended (`how`), its lease is free."""
    ended = (
        update(attempts)
        .where(attempts.c.session_id == moved.c.id, attempts.c.attempt == moved.c.attempt)
        .values(ended_at=NOW, detail=moved.c.detail, last_seq=moved.c.last_seq, **how)
        .returning(attempts.c.attempt)
    )
    freed = delete(leases).where(leases.c.session_id == moved.c.id).returning(leases.c.session_id)
    return ended.cte("ended"), freed.cte("freed")


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
    "follow_up",
    "pause_idle",
    "recover",
    "resume",
    "retry",
    "settle",
]
