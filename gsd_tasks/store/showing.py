"""What a monitor may show of sessions: what they are called, and where they queue.

No prompt, command, environment or result is read here: what is not asked for is shown nowhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy import select, union

from gsd_tasks.domain.session import SessionId
from gsd_tasks.domain.state import Status
from gsd_tasks.store.ids import any_id
from gsd_tasks.store.rows import utc
from gsd_tasks.store.tables import sessions

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import datetime

    from sqlalchemy import Connection

_UNDER_WAY = (Status.RUNNING, Status.WAITING_CHECKPOINT, Status.PAUSED)


class Label(NamedTuple):
    """What stands on a session, for everybody to read."""

    name: str | None
    queue: str
    created_at: datetime


def labels(connection: Connection, session_ids: Collection[SessionId]) -> dict[SessionId, Label]:
    """The label of each of them; one that is not there, or not any more, is left out."""
    found = select(sessions.c.id, sessions.c.name, sessions.c.queue, sessions.c.created_at).where(
        sessions.c.id == any_id(session_ids)
    )
    return {SessionId(row.id): Label(row.name, row.queue, utc(row.created_at)) for row in connection.execute(found)}


def latest(connection: Connection, limit: int) -> list[SessionId]:
    """The newest ones, and as many at most of those that are under way however old they are; the oldest first."""
    newest = select(sessions.c.id).order_by(sessions.c.id.desc()).limit(limit).subquery()
    under_way = select(sessions.c.id).where(sessions.c.status.in_(_UNDER_WAY)).order_by(sessions.c.id.desc())
    both = union(select(newest.c.id), select(under_way.limit(limit).subquery().c.id)).subquery()
    return [SessionId(row.id) for row in connection.execute(select(both.c.id).order_by(both.c.id))]
