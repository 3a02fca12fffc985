"""Which sessions wait for which, and letting go of those that need to wait no longer.

`sessions.waits` keeps a session from being claimed. It is set as the session is enqueued, and taken away by `let_go`
alone, whose guard is that everything has come about that the session waits for. That is no change of its status; where
it will never come about, `transitions.give_up` ends the session.

Both pass over what somebody else has in hand: two who look at the same sessions never wait for each other, and what is
passed over is looked at by the next sweep.
"""

from __future__ import annotations

import re
from contextlib import contextmanager
from datetime import datetime
from functools import cache
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from uuid import UUID

from psycopg.errors import ForeignKeyViolation
from sqlalchemy import (
    ARRAY,
    Integer,
    Text,
    Uuid,
    and_,
    any_,
    bindparam,
    column,
    func,
    insert,
    literal,
    not_,
    or_,
    select,
    true,
    update,
)
from sqlalchemy.dialects.postgresql import aggregate_order_by
from sqlalchemy.exc import IntegrityError

from gsd_tasks.domain.errors import NoSuchSession
from gsd_tasks.domain.session import Awaited, SessionId
from gsd_tasks.domain.state import FINAL, Status
from gsd_tasks.store.ids import any_id
from gsd_tasks.store.rows import maybe_utc
from gsd_tasks.store.tables import dependencies, sessions

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from sqlalchemy import CTE, ColumnElement, Connection, Insert, ScalarSelect, Select
    from sqlalchemy.sql.dml import ReturningInsert

    from gsd_tasks.domain.session import Submission

#: What one statement writes.
PAGE_EDGES: Final = 20_000
_ID: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
#: Before every id.
FIRST: Final = SessionId(UUID(int=0))

#: The one that is waited for.
awaited = sessions.alias("awaited")
#: Written out, not sent as values: a plan for all values could not use the index of what waits.
WAITING: Final[ColumnElement[bool]] = and_(
    sessions.c.status == literal(Status.QUEUED.value, literal_execute=True), sessions.c.waits
)
#: Of an edge and the one that is waited for: it has come about.
MET: Final[ColumnElement[bool]] = or_(
    awaited.c.status == Status.COMPLETED,
    and_(dependencies.c.kind == Awaited.ENDED, awaited.c.status.in_(sorted(FINAL))),
)


class LetGo(NamedTuple):
    """A session that waits for nothing any more, as its message needs it."""

    id: SessionId
    queue: str
    priority: int
    run_at: datetime | None


def add(connection: Connection, several: Iterable[tuple[SessionId, Submission]]) -> None:
    """Have each of these wait for what it was asked to.

    Raises:
        NoSuchSession: one of those is not there, or not any more.
    """
    edges = ((id_, *edge) for id_, request in several for edge in _edges(request).items())
    with naming_missing():
        while page := list(islice(edges, PAGE_EDGES)):
            connection.execute(_adding([list(values) for values in zip(*page, strict=True)]))


def adding(born: CTE, request: Submission) -> ReturningInsert[UUID]:
    """The statement that has the session in `born` wait for what was asked."""
    edges = _edges(request)
    asked = (
        func.unnest(literal(list(edges), ARRAY(Uuid)), literal(list(edges.values()), ARRAY(Text)))
        .table_valued(column("before_id", Uuid), column("kind", Text))
        .render_derived(name="asked")
    )
    return (
        insert(dependencies)
        .from_select(
            ["session_id", "before_id", "kind"],
            select(born.c.id, asked.c.before_id, asked.c.kind).join_from(born, asked, true()),
        )
        .returning(dependencies.c.session_id)
    )


def ripe(connection: Connection, after: SessionId, limit: int) -> list[SessionId]:
    """Those that wait for something that has ended, or for nothing that there is any more; a page, as below.

    Only these may have to be let go, or given up: the many that wait for what still goes on are passed over.
    """
    of_each = select(func.coalesce(func.bool_or(awaited.c.status.in_(sorted(FINAL))), true())).select_from(
        dependencies.join(awaited, awaited.c.id == dependencies.c.before_id)
    )
    has_news = of_each.where(dependencies.c.session_id == sessions.c.id).correlate(sessions).scalar_subquery()
    return _page(connection, and_(sessions.c.id > after, has_news), limit)


def waiting_for(ids: Sequence[SessionId], connection: Connection, after: SessionId, limit: int) -> list[SessionId]:
    """Those that wait for one of these."""
    found = connection.execute(_waiting_for(), {"ended": list(ids), "last": after, "most": limit})
    return [SessionId(waiting) for waiting in found.scalars()]


@cache
def _waiting_for() -> Select[Any]:
    """Built once: this is asked after the end of each session."""
    following = select(dependencies.c.session_id).where(
        dependencies.c.before_id == any_(bindparam("ended", type_=ARRAY(Uuid))),
        dependencies.c.session_id > bindparam("last", type_=Uuid),
    )
    # A query by itself: joined, all that wait may be read, to be asked whether they wait for these.
    return _some(sessions.c.id == any_(func.array(following.scalar_subquery())), bindparam("most", type_=Integer))


def waiting_of(ids: Sequence[SessionId], connection: Connection, after: SessionId, limit: int) -> list[SessionId]:
    """Those of these that wait."""
    these = sessions.c.id == any_id(ids)
    return _page(connection, and_(these, sessions.c.id > after), limit)


def let_go(connection: Connection, ids: Sequence[SessionId]) -> list[LetGo]:
    """Those of these that wait, and for which everything has come about: from now on they may be claimed."""
    unmet_edge = (
        select(dependencies.c.session_id)
        .join(awaited, awaited.c.id == dependencies.c.before_id)
        .where(dependencies.c.session_id == sessions.c.id, not_(MET))
        .correlate(sessions)
    )
    ready = (
        select(sessions.c.id)
        .where(WAITING, sessions.c.id == any_id(ids), not_(unmet_edge.exists()))
        .with_for_update(of=sessions, skip_locked=True, key_share=True)
        .cte("ready")
    )
    statement = (
        update(sessions)
        .where(sessions.c.id == ready.c.id)
        .values(waits=False)
        .returning(sessions.c.id, sessions.c.queue, sessions.c.priority, sessions.c.run_at)
    )
    rows = connection.execute(statement)
    return [LetGo(SessionId(row.id), row.queue, row.priority, maybe_utc(row.run_at)) for row in rows]


@contextmanager
def naming_missing() -> Iterator[None]:
    """Around whatever writes something new, which refers to sessions.

    Raises:
        NoSuchSession: one of them is not there, or not any more.
    """
    try:
        yield
    except IntegrityError as error:
        if (unknown := _missing(error)) is not None:
            raise NoSuchSession(unknown) from error
        raise


def _missing(error: IntegrityError) -> str | None:
    """Postgres names it, whatever language it speaks. None: the error is another one."""
    if not isinstance(error.orig, ForeignKeyViolation):
        return None
    named = _ID.search(error.orig.diag.message_detail or "")
    return None if named is None else named.group()


def _edges(request: Submission) -> dict[SessionId, str]:
    """Given twice is given once."""
    return {
        **dict.fromkeys(request.after, Awaited.COMPLETED.value),
        **dict.fromkeys(request.after_any, Awaited.ENDED.value),
    }


def _adding(columns: list[list[Any]]) -> Insert:
    kinds = (Uuid, Uuid, Text)
    arrays: list[Any] = [literal(values, ARRAY(kind)) for values, kind in zip(columns, kinds, strict=True)]
    names = ["session_id", "before_id", "kind"]
    asked = func.unnest(*arrays).table_valued(*names).render_derived(name="asked")
    return insert(dependencies).from_select(names, select(*asked.c))


def _page(connection: Connection, which: ColumnElement[bool], limit: int) -> list[SessionId]:
    return [SessionId(found) for found in connection.execute(_some(which, limit)).scalars()]


def _some(which: ColumnElement[bool], limit: int | ColumnElement[int]) -> Select[Any]:
    return select(sessions.c.id).where(WAITING, which).order_by(sessions.c.id).limit(limit)


def befores(kind: Awaited) -> ScalarSelect[list[UUID]]:
    """What a session of a query over `sessions` was to wait for in this way; null, where that is nothing."""
    ids = func.array_agg(aggregate_order_by(dependencies.c.before_id, dependencies.c.before_id.asc()))
    of_session = select(ids).where(dependencies.c.session_id == sessions.c.id, dependencies.c.kind == kind)
    return of_session.correlate(sessions).scalar_subquery()


def in_vain(connection: Connection, session_id: SessionId) -> SessionId | None:
    """A session that waits for this one in vain, as it stands, or would do so if it were tried again."""
    following = connection.execute(unmet(session_id).order_by(dependencies.c.session_id).limit(1)).first()
    return None if following is None else SessionId(following.id)


def unmet(session_id: SessionId) -> Select[Any]:
    """Those to which this one stands in the way, whether they are queued or were given up."""
    following = sessions.alias("following")
    return (
        select(following.c.id)
        .join_from(dependencies, awaited, awaited.c.id == dependencies.c.before_id)
        .join(following, following.c.id == dependencies.c.session_id)
        .where(dependencies.c.before_id == session_id, following.c.waits, not_(MET))
    )
