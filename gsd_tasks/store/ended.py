"""Removing ended sessions: which of them may go, and the statement that removes some with all that belongs to them.

What may go has ended, and nobody can still need it: no session waits for it, or would do so if it were tried again,
and none of its children goes on. That is judged anew by the statement that removes it, which passes over what somebody
has locked: so whoever retries, resumes or refers to a session in that moment either has it, or finds it gone.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from uuid import UUID

from psycopg.errors import DeadlockDetected, ForeignKeyViolation, LockNotAvailable
from sqlalchemy import (
    ARRAY,
    DateTime,
    Integer,
    Uuid,
    and_,
    any_,
    case,
    delete,
    func,
    literal,
    not_,
    null,
    or_,
    select,
    true,
    tuple_,
)
from sqlalchemy.exc import IntegrityError, OperationalError

from gsd_tasks.domain.retention import Prunable, Rule
from gsd_tasks.domain.session import Awaited, SessionId
from gsd_tasks.domain.state import FINAL, Status
from gsd_tasks.store.ids import any_id
from gsd_tasks.store.tables import NOW, dependencies, interval, session_outputs, sessions, transcript

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import CTE, ColumnElement, Connection, FromClause, Select
    from sqlalchemy.sql.dml import ReturningDelete

#: Postgres keeps a long value in pieces of this size, each a row of its own.
PIECE_BYTES: Final = 1996
#: Beside its output and its transcript, a session has a few rows: its own, its attempts, its history.
OWN_ROWS: Final = 10
#: Those who remove sessions take turns, statement by statement: a parent of one's and a child of another's would lock
#: each other out else.
TURN_LOCK: Final = 0x6773645F7072756E


class Place(NamedTuple):
    """Where a session stands in the order in which they ended."""

    ended_at: datetime
    id: UUID


class Found(NamedTuple):
    """A session that may go. `weight` is how many rows of Postgres's it is; None: more than were counted."""

    place: Place
    rows: int
    weight: int | None

    @property
    def id(self) -> SessionId:
        return SessionId(self.place.id)


class Page(NamedTuple):
    """Those of some sessions that may go; `last` is the last that was looked at, None: there are no more.

    `needed`: how many others of these statuses stay as they are needed.
    """

    found: list[Found]
    last: Place | None
    needed: int


LAST_ID: Final = UUID(int=2**128 - 1)


def bound(connection: Connection, rule: Rule) -> Place | None:
    """Those that ended before this place may go by the rule, as the database's clock stands now. None: nothing may."""
    if rule.keeps_all:
        return None
    aged = connection.execute(select(NOW - interval(rule.older_than_s or 0))).scalar_one()
    places = [Place(aged, LAST_ID)]
    if rule.keep:
        # Of those that stay, the one that ended first.
        newest = select(sessions.c.ended_at, sessions.c.id).where(_ended(rule.statuses))
        newest = newest.order_by(sessions.c.ended_at.desc(), sessions.c.id.desc()).offset(rule.keep - 1).limit(1)
        row = connection.execute(newest).one_or_none()
        if row is None:
            return None
        places.append(Place(row.ended_at, row.id))
    return min(places)


def page(
    connection: Connection,
    statuses: frozenset[Status],
    *,
    before: Place,
    after: Place | None,
    limit: int,
    counted_rows: int,
) -> Page:
    """Look at the next `limit` sessions, in the order in which they ended. Those of more rows are not weighed."""
    # A query by itself: where more is asked of them, they may be looked for by another index, and be sorted.
    columns = sessions.c.ended_at, sessions.c.id, sessions.c.last_seq, sessions.c.status
    looked_at = select(*columns, _own_weight().label("weight")).where(
        sessions.c.ended_at.is_not(None), *_between(after, before)
    )
    some = looked_at.order_by(sessions.c.ended_at, sessions.c.id).limit(limit).cte("page")
    goes = and_(some.c.status.in_(sorted(statuses)), not_(_is_needed(some)))
    is_counted = and_(goes, some.c.last_seq <= counted_rows)
    weight = case((is_counted, some.c.weight + _output(some) + _entries(some) + _children(some)), else_=null())
    columns_of_each = some.c.ended_at, some.c.id, some.c.last_seq, some.c.status
    each = select(*columns_of_each, goes, weight).order_by(some.c.ended_at, some.c.id)
    rows = connection.execute(each).all()
    found = [
        Found(Place(ended_at, id_), last_seq, weighs) for ended_at, id_, last_seq, _, may_go, weighs in rows if may_go
    ]
    meant = sum(Status(status) in statuses for _, _, _, status, _, _ in rows)
    return Page(found, Place(rows[-1][0], rows[-1][1]) if len(rows) == limit else None, meant - len(found))


def count(connection: Connection, statuses: frozenset[Status], before: Place) -> Prunable:
    """What may go before this place."""
    is_needed = _is_needed(sessions)
    old = select(sessions.c.last_seq, is_needed.label("is_needed")).where(_ended(statuses), *_between(None, before))
    each = old.subquery()
    goes = not_(each.c.is_needed)
    counted = select(
        func.count().filter(goes),
        func.coalesce(func.sum(each.c.last_seq).filter(goes), 0),
        func.count().filter(each.c.is_needed),
    )
    went, rows, needed = connection.execute(counted.select_from(each)).one()
    return Prunable(sessions=went, rows=int(rows), needed=needed)


def remove(connection: Connection, several: Sequence[Found]) -> list[SessionId]:
    """Those of these that may go still, with all that belongs to them: one statement. The ids of those that went.

    Left are those that somebody needs or has locked by now.
    """
    locked = _locked(several)
    ids = any_(func.array(select(locked.c.id).scalar_subquery()))
    rows = delete(session_outputs).where(session_outputs.c.session_id == ids).returning(session_outputs.c.seq)
    return _removed(connection, _removing(locked).add_cte(rows.cte("rows")))


def remove_without_rows(connection: Connection, one: Found) -> list[SessionId]:
    """The same for one session, but for its output rows, which are too many at once.

    They are nobody's from then on, and found by nobody but `leftovers`.
    """
    return _removed(connection, _removing(_locked([one])))


def _removed(connection: Connection, statement: Select[Any]) -> list[SessionId]:
    while True:
        try:
            return [SessionId(id_) for id_ in connection.execute(statement).scalars()]
        except IntegrityError as error:
            # In this very moment something was enqueued that waits for one of them: that is seen now.
            if not isinstance(error.orig, ForeignKeyViolation):
                raise
        except OperationalError as error:
            # A child of theirs is in somebody's hands: they may go another time.
            if isinstance(error.orig, (LockNotAvailable, DeadlockDetected)):
                return []
            raise


def _locked(several: Sequence[Found]) -> CTE:
    """Those of these that may go still, locked. As each ended then, it is the session that was found."""
    ids = any_id(found.place.id for found in several)
    ends = any_(literal([found.place.ended_at for found in several], ARRAY(DateTime(timezone=True))))
    my_turn = select(literal(1)).select_from(func.pg_advisory_xact_lock(TURN_LOCK)).scalar_subquery()
    return (
        select(sessions.c.id)
        .where(
            my_turn == 1, sessions.c.id == ids, sessions.c.ended_at == ends, _ended(FINAL), not_(_is_needed(sessions))
        )
        .with_for_update(of=sessions, skip_locked=True)
        .cte("locked")
    )


def _removing(locked: CTE) -> Select[Any]:
    ids = any_(func.array(select(locked.c.id).scalar_subquery()))
    # What waited for one of them and has no need to any more.
    edges = delete(dependencies).where(dependencies.c.before_id == ids).returning(dependencies.c.session_id)
    gone: ReturningDelete[Any] = delete(sessions).where(sessions.c.id == ids).returning(sessions.c.id)
    removed = gone.cte("gone")
    return select(removed.c.id).add_cte(edges.cte("edges"))


def _ended(statuses: frozenset[Status]) -> ColumnElement[bool]:
    return and_(sessions.c.ended_at.is_not(None), sessions.c.status.in_(sorted(statuses)))


def _between(after: Place | None, before: Place) -> list[ColumnElement[bool]]:
    """Written twice: by the time alone the index finds them."""
    order = tuple_(sessions.c.ended_at, sessions.c.id)
    bounds = [sessions.c.ended_at <= before.ended_at, order < tuple_(*_literals(before))]
    if after is not None:
        bounds += [sessions.c.ended_at >= after.ended_at, order > tuple_(*_literals(after))]
    return bounds


def _literals(place: Place) -> tuple[ColumnElement[Any], ColumnElement[Any]]:
    return literal(place.ended_at, DateTime(timezone=True)), literal(place.id, Uuid)


def _is_needed(ended: FromClause) -> ColumnElement[bool]:
    """Of an ended session: somebody waits for it, or would do so once more; or what it began goes on.

    Asked of each by itself: as `EXISTS`, Postgres may answer it for all that there are.
    """
    following, child = sessions.alias("following"), sessions.alias("child")
    is_unmet = and_(dependencies.c.kind == Awaited.COMPLETED, ended.c.status != Status.COMPLETED)
    awaited = (
        select(true())
        .select_from(dependencies.join(following, following.c.id == dependencies.c.session_id))
        .where(
            dependencies.c.before_id == ended.c.id,
            or_(following.c.status.not_in(sorted(FINAL)), and_(following.c.waits, is_unmet)),
        )
    )
    has_child = select(true()).where(child.c.parent_id == ended.c.id, child.c.status.not_in(sorted(FINAL)))
    return or_(*(one.correlate(ended).limit(1).scalar_subquery().is_not(None) for one in (awaited, has_child)))


def row_weight(*values: ColumnElement[Any]) -> ColumnElement[int]:
    """How many rows of Postgres's one with one of these values is at most, as it may be compressed.

    The length of a long value is read from its header, the value itself is not fetched.
    """
    return 1 + func.coalesce(*(func.octet_length(value) for value in values), 0) // PIECE_BYTES


def _own_weight() -> ColumnElement[int]:
    documents = (sessions.c.context, sessions.c.result)
    size = sum(func.coalesce(func.pg_column_size(one, type_=Integer), 0) for one in documents)
    return OWN_ROWS + row_weight(sessions.c.prompt) + size // PIECE_BYTES


def _output(some: CTE) -> ColumnElement[int]:
    weight = func.sum(row_weight(session_outputs.c.data, session_outputs.c.raw))
    return select(func.coalesce(weight, 0)).where(session_outputs.c.session_id == some.c.id).scalar_subquery()


def _entries(some: CTE) -> ColumnElement[int]:
    weight = func.sum(row_weight(transcript.c.entry))
    return select(func.coalesce(weight, 0)).where(transcript.c.session_id == some.c.id).scalar_subquery()


def _children(some: CTE) -> ColumnElement[int]:
    """They forget their parent."""
    return select(func.count()).where(sessions.c.parent_id == some.c.id).correlate(some).scalar_subquery()
