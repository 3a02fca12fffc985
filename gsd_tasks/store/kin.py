"""Which sessions belong together: by whose child each is, and by what it is to follow."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import func, literal, select, true, union_all

from gsd_tasks.domain.session import SessionId
from gsd_tasks.domain.tree import Kin
from gsd_tasks.store.ids import any_id
from gsd_tasks.store.tables import dependencies, sessions

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any
    from uuid import UUID

    from sqlalchemy import ColumnElement, CompoundSelect, Connection


def above(connection: Connection, session_id: SessionId, *, limit: int) -> list[SessionId]:
    """It, and whatever leads to it: the nearest first."""
    return _reached(
        connection,
        session_id,
        lambda at: union_all(
            select(sessions.c.parent_id.label("id")).where(sessions.c.id == at, sessions.c.parent_id.is_not(None)),
            select(dependencies.c.before_id).where(dependencies.c.session_id == at),
        ),
        limit,
    )


def below(connection: Connection, session_id: SessionId, *, limit: int) -> list[SessionId]:
    """It, and whatever it leads to: the nearest first."""
    return _reached(
        connection,
        session_id,
        lambda at: union_all(
            select(sessions.c.id).where(sessions.c.parent_id == at),
            select(dependencies.c.session_id).where(dependencies.c.before_id == at),
        ),
        limit,
    )


def of(connection: Connection, ids: Sequence[SessionId]) -> list[Kin]:
    """How these are related to others."""
    befores = select(func.array_agg(dependencies.c.before_id)).where(dependencies.c.session_id == sessions.c.id)
    found = select(sessions.c.id, sessions.c.parent_id, befores.scalar_subquery().label("befores"))
    rows = connection.execute(found.where(sessions.c.id == any_id(ids)))
    return [Kin(row.id, row.parent_id, tuple(row.befores or ())) for row in rows]


def _reached(
    connection: Connection,
    session_id: SessionId,
    step: Callable[[ColumnElement[UUID]], CompoundSelect[Any]],
    limit: int,
) -> list[SessionId]:
    reached: Any = select(literal(session_id).label("id")).cte("reached", recursive=True)
    onward = step(reached.c.id).lateral("onward")
    reached = reached.union(select(onward.c.id).join_from(reached, onward, true()))
    return [SessionId(found) for found in connection.execute(select(reached.c.id).limit(limit)).scalars()]
