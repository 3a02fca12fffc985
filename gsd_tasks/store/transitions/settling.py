"""Out of running, by whoever holds the session."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import delete, null, select, update

from gsd_tasks.domain.state import Reason, Status, Wanted
from gsd_tasks.store import history
from gsd_tasks.store.holding import Claim
from gsd_tasks.store.tables import NOW, attempts, interval, leases, sessions

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import CTE, ColumnElement, Connection

    from gsd_tasks.domain.policy import Verdict


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
    how = {
        "reason": moved.c.reason,
        "exit_code": ending.exit_code,
        "exit_signal": ending.exit_signal,
        "began_at": ending.began_at,
        "exited_at": ending.exited_at,
    }
    along = (*left_running(moved, how), history.note(moved, locked).cte("history"))
    return connection.execute(select(moved.c.id).add_cte(*along)).first() is not None


def left_running(moved: CTE, how: Mapping[str, Any]) -> tuple[CTE, CTE]:
    """What goes along when a session stops running: its lease is free, its attempt has ended (`how`)."""
    bytes_of = (leases.c.stdout_bytes, leases.c.stderr_bytes)
    # As they are when it goes: somebody's batch may have been committed since the statement began.
    freed = (
        delete(leases).where(leases.c.session_id == moved.c.id).returning(leases.c.session_id, *bytes_of).cte("freed")
    )
    ours = freed.c.session_id == attempts.c.session_id
    written = {column.name: select(freed.c[column.name]).where(ours).scalar_subquery() for column in bytes_of}
    ended = (
        update(attempts)
        .where(attempts.c.session_id == moved.c.id, attempts.c.attempt == moved.c.attempt)
        .values(ended_at=NOW, detail=moved.c.detail, last_seq=moved.c.last_seq, **written, **how)
        .returning(attempts.c.attempt)
    )
    return freed, ended.cte("ended")


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
