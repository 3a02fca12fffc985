"""Out of waiting for others, where it is in vain."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import Text, case, cast, func, select, true, update

from gsd_tasks.domain.session import Awaited, SessionId
from gsd_tasks.domain.state import Reason, Status
from gsd_tasks.store import history
from gsd_tasks.store.dependencies import WAITING, awaited
from gsd_tasks.store.ids import any_id
from gsd_tasks.store.tables import NOW, dependencies, session_history, sessions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection


def give_up(connection: Connection, ids: Sequence[SessionId]) -> list[SessionId]:
    """queued -> failed or cancelled: those of these that wait for what itself has failed or was cancelled to complete.

    They go on to wait, so to say: tried again, they wait again. What somebody else has in hand is passed over.
    """
    broken = (
        select(awaited.c.id, awaited.c.status, awaited.c.reason)
        .join_from(dependencies, awaited, awaited.c.id == dependencies.c.before_id)
        .where(
            dependencies.c.session_id == sessions.c.id,
            dependencies.c.kind == Awaited.COMPLETED,
            awaited.c.status.in_([Status.FAILED, Status.CANCELLED]),
        )
        # The first one of them is the reason.
        .order_by(awaited.c.ended_at)
        .limit(1)
        .correlate(sessions)
        .lateral("broken")
    )
    which = func.concat("session ", cast(broken.c.id, Text), ", which it was to follow, ")
    locked = (
        select(
            sessions.c.id,
            sessions.c.status,
            broken.c.status.label("becomes"),
            case(
                (broken.c.status == Status.CANCELLED, func.concat(which, "was cancelled")),
                else_=func.concat(which, "failed (", broken.c.reason, ")"),
            ).label("because"),
        )
        .join_from(sessions, broken, true())
        .where(WAITING, sessions.c.id == any_id(ids))
        .with_for_update(of=sessions, skip_locked=True, key_share=True)
        .cte("before")
    )
    moved = (
        update(sessions)
        .where(sessions.c.id == locked.c.id)
        .values(
            status=locked.c.becomes,
            reason=case((locked.c.becomes == Status.CANCELLED.value, Reason.CANCELLED), else_=Reason.DEPENDENCY),
            detail=locked.c.because,
            ended_at=NOW,
        )
        .returning(*sessions.c)
        .cte("moved")
    )
    note = history.note(moved, locked).returning(session_history.c.session_id)
    return [SessionId(given_up) for given_up in connection.execute(note).scalars()]
