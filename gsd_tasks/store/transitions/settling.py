"""Out of running, by whoever holds the session."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from sqlalchemy import Double, Integer, Text, bindparam, delete, null, select, update
from sqlalchemy.dialects.postgresql import JSONB

from gsd_tasks.domain.state import Reason, Status, Wanted
from gsd_tasks.store import history
from gsd_tasks.store.leases import HELD_BY, claim_values, is_held_by
from gsd_tasks.store.tables import MOMENT, NOW, attempts, interval, leases, sessions

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from sqlalchemy import CTE, ColumnElement, Connection, Select

    from gsd_tasks.domain.policy import Verdict
    from gsd_tasks.store.holding import Claim


def settle(connection: Connection, claim: Claim, verdict: Verdict, *, heard: int = 0) -> bool:
    """running -> completed, failed, cancelled, paused, or queued again; by its holder alone.

    `wanted` is consumed in the same statement. False: somebody else holds it now; or people want something else than
    the verdict took them to want, or have said more than the `heard` messages, and another verdict is due.
    """
    ending, delay_s = verdict.ending, verdict.delay_s
    statement = _settling(
        verdict.status,
        is_interrupted=verdict.reason is Reason.INTERRUPTED,
        has_result=ending.result is not None,
        is_delayed=bool(delay_s),
    )
    values = {
        **claim_values(claim),
        "to_reason": verdict.reason,
        "to_detail": verdict.detail,
        "to_tries": verdict.tries,
        "to_recoveries": verdict.recoveries,
        "with_code": ending.exit_code,
        "with_signal": ending.exit_signal,
        "from_moment": ending.began_at,
        "to_moment": ending.exited_at,
    }
    if ending.result is not None:
        values["with_result"] = ending.result
    if delay_s:
        values["in_s"] = delay_s
    if _counts_messages(verdict.status, is_interrupted=verdict.reason is Reason.INTERRUPTED):
        values["heard"] = heard
    return connection.execute(statement, values).first() is not None


@cache
def _settling(status: Status, *, is_interrupted: bool, has_result: bool, is_delayed: bool) -> Select[Any]:
    """Built once for each of the few forms that there are: that takes longer than Postgres takes over it."""
    locked = _held(*_still_wanted(status, is_interrupted=is_interrupted))
    exit_code, exit_signal = bindparam("with_code", type_=Integer), bindparam("with_signal", type_=Integer)
    moved = (
        update(sessions)
        .where(sessions.c.id == locked.c.id)
        .values(
            status=status,
            reason=bindparam("to_reason", type_=Text),
            detail=bindparam("to_detail", type_=Text),
            wanted=null(),
            tries=bindparam("to_tries", type_=Integer),
            recoveries=bindparam("to_recoveries", type_=Integer),
            last_seq=locked.c.last_seq,
            exit_code=exit_code,
            exit_signal=exit_signal,
            result=bindparam("with_result", type_=JSONB) if has_result else null(),
            run_at=NOW + interval(bindparam("in_s", type_=Double)) if is_delayed else sessions.c.run_at,
            ended_at=NOW if status.is_final else null(),
        )
        .returning(*sessions.c)
        .cte("moved")
    )
    how = {
        "reason": moved.c.reason,
        "exit_code": exit_code,
        "exit_signal": exit_signal,
        "began_at": bindparam("from_moment", type_=MOMENT),
        "exited_at": bindparam("to_moment", type_=MOMENT),
    }
    along = (*left_running(moved, how), history.note(moved, locked).cte("history"))
    return select(moved.c.id).add_cte(*along)


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


def _still_wanted(status: Status, *, is_interrupted: bool) -> Iterator[ColumnElement[bool]]:
    """What a verdict takes people to want. A wish does not matter to what went well, and a cancel is never taken back.

    A message does: it was accepted, so it is answered, also where it comes after an interrupt.
    """
    if _counts_messages(status, is_interrupted=is_interrupted):
        yield sessions.c.last_message <= bindparam("heard", type_=Integer)
    match status:
        case Status.QUEUED | Status.FAILED:
            yield sessions.c.wanted.is_(None)
        case Status.PAUSED:
            yield sessions.c.wanted == Wanted.PAUSE
        case _:
            pass


def _counts_messages(status: Status, *, is_interrupted: bool) -> bool:
    return status is Status.COMPLETED or (status is Status.FAILED and is_interrupted)


def _held(*guard: ColumnElement[bool]) -> CTE:
    """The session and its lease, locked, if this claim still holds it."""
    return (
        select(sessions.c.id, sessions.c.status, leases.c.last_seq)
        .join_from(sessions, leases, leases.c.session_id == sessions.c.id)
        .where(is_held_by(*HELD_BY), sessions.c.status == Status.RUNNING, *guard)
        .with_for_update(key_share=True)
        .cte("before")
    )
