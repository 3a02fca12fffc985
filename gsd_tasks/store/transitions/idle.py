"""The changes of what nobody holds: what waits, is paused, or has ended."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, case, literal, null, select, update

from gsd_tasks.domain.session import Kind, SessionId
from gsd_tasks.domain.state import FINAL, Reason, Status
from gsd_tasks.store import history, messages
from gsd_tasks.store.tables import NOW, session_history, sessions
from gsd_tasks.store.transitions.claimable import EXPIRED

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy import CTE, ColumnElement, Connection
    from sqlalchemy.sql.dml import ReturningInsert

#: Queued once more, as if nothing had been tried.
_ANEW: dict[str, Any] = {
    "status": Status.QUEUED,
    "tries": 0,
    "recoveries": 0,
    **{name: null() for name in ("detail", "run_at", "expires_at", "ended_at", "exit_code", "exit_signal", "result")},
}


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
