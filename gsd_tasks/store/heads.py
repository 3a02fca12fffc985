"""How far many sessions are, in one statement: what whoever follows a thousand of them asks once a second."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy import func, select

from gsd_tasks.domain.session import SessionId
from gsd_tasks.domain.state import Status
from gsd_tasks.store.ids import any_id
from gsd_tasks.store.tables import leases, session_history, sessions

if TYPE_CHECKING:
    from collections.abc import Collection

    from sqlalchemy import Connection


class Head(NamedTuple):
    """The last of everything that a session has."""

    seq: int
    history_id: int
    status: Status


def of_sessions(connection: Connection, session_ids: Collection[SessionId]) -> dict[SessionId, Head]:
    """The head of each of them; one that is not there, or not any more, is left out."""
    last_entry = select(func.max(session_history.c.id)).where(session_history.c.session_id == sessions.c.id)
    found = (
        select(
            sessions.c.id,
            func.coalesce(leases.c.last_seq, sessions.c.last_seq).label("seq"),
            func.coalesce(last_entry.scalar_subquery(), 0).label("history_id"),
            sessions.c.status,
        )
        .join_from(sessions, leases, leases.c.session_id == sessions.c.id, isouter=True)
        .where(sessions.c.id == any_id(session_ids))
    )
    return {SessionId(row.id): Head(row.seq, row.history_id, Status(row.status)) for row in connection.execute(found)}
