"""Output rows whose session is gone: it is removed first where they are too many for one statement.

So nobody finds a session of which a part is missing. Whoever is cut off before the rows are gone leaves them to the
next one, who walks over the index from session to session.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple
from uuid import UUID

from sqlalchemy import BigInteger, cast, delete, func, select, true

from gsd_tasks.domain.session import SessionId
from gsd_tasks.store.ended import row_weight
from gsd_tasks.store.ids import any_id
from gsd_tasks.store.tables import session_outputs, sessions

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy import ColumnElement, Connection, Select

#: Before every id.
FIRST: Final = SessionId(UUID(int=0))


class Walked(NamedTuple):
    """Sessions that are gone and have rows still, and how far the walk came; None: to the end."""

    gone: list[SessionId]
    last: SessionId | None


class Trimmed(NamedTuple):
    """How many rows were removed, and the first of them."""

    rows: int
    first_seq: int | None


def walk(connection: Connection, after: SessionId, *, limit: int) -> Walked:
    """Look at the next `limit` sessions that have rows, by one step in the index for each."""
    found = connection.execute(_walking(after, limit)).all()
    gone = [SessionId(row.session_id) for row in found if row.is_gone]
    return Walked(gone, SessionId(found[-1].session_id) if len(found) == limit else None)


def trim(connection: Connection, session_id: SessionId, *, before_seq: int | None, weight: int) -> Trimmed:
    """Remove the last rows of a session that is gone, some of this weight; of those before a row, if there is one.

    The last ones first: whoever is reading them finds that they end, and never a gap.
    """
    last = select(session_outputs.c.seq, row_weight(session_outputs.c.data, session_outputs.c.raw).label("weight"))
    last = last.where(session_outputs.c.session_id == session_id)
    if before_seq is not None:
        # Those behind it are gone, but stand in the index still.
        last = last.where(session_outputs.c.seq < before_seq)
    page = last.order_by(session_outputs.c.seq.desc()).limit(weight).subquery()
    before = (func.sum(page.c.weight).over(order_by=page.c.seq.desc()) - page.c.weight).label("before")
    summed = select(page.c.seq, before).subquery()
    first = select(func.min(summed.c.seq)).where(summed.c.before < weight).scalar_subquery()
    behind = session_outputs.c.seq >= cast(first, BigInteger)
    gone = delete(session_outputs).where(session_outputs.c.session_id == session_id, behind, is_gone(session_id))
    if before_seq is not None:
        gone = gone.where(session_outputs.c.seq < before_seq)
    removed = gone.returning(session_outputs.c.seq).cte("removed")
    return Trimmed(*connection.execute(select(func.count(), func.min(removed.c.seq))).one())


def is_gone(session_id: SessionId | ColumnElement[Any]) -> ColumnElement[bool]:
    """Whether there is no such session; asked of each by itself, and never of all that there are."""
    found = select(true()).where(sessions.c.id == session_id).correlate_except(sessions)
    return found.limit(1).scalar_subquery().is_(None)


def has_gone(connection: Connection, session_id: SessionId) -> bool:
    """Whether there is no such session any more."""
    return bool(connection.execute(select(is_gone(session_id))).scalar_one())


def known(connection: Connection, session_ids: Iterable[SessionId]) -> set[SessionId]:
    """Those of these that there are."""
    found = select(sessions.c.id).where(sessions.c.id == any_id(session_ids))
    return {SessionId(id_) for id_ in connection.execute(found).scalars()}


def _walking(after: SessionId, limit: int) -> Select[Any]:
    """A step is asked for when it is needed: Postgres takes no more of a recursion than its reader does."""
    rows = session_outputs.alias("rows")
    first = select(rows.c.session_id).where(rows.c.session_id > after).order_by(rows.c.session_id).limit(1)
    steps = select(first.subquery().c.session_id).cte("steps", recursive=True)
    following = session_outputs.alias("following")
    step = (
        select(following.c.session_id)
        .where(following.c.session_id > steps.c.session_id)
        .order_by(following.c.session_id)
        .limit(1)
        .correlate(steps)
        .scalar_subquery()
    )
    steps = steps.union_all(select(step).where(steps.c.session_id.is_not(None)))
    taken = select(steps.c.session_id).where(steps.c.session_id.is_not(None)).limit(limit).subquery()
    return select(taken.c.session_id, is_gone(taken.c.session_id).label("is_gone"))
