"""What happened: written with each transition; read of one session, or of all by a cursor that misses nothing.

Transactions commit in another order than they number their rows, so "greater than the last id" would pass over a row
that becomes visible late. A reader therefore takes windows of transaction ids: everything below the oldest
transaction that is still under way is settled for good. Within a window the order is that of the ids, which is right
for each session: a later transition waited for the earlier one's row lock before it drew its id.

A cursor is `low.high.id`: the window being read, and the last row of it that was seen.

What reapers recovered stands in a table of its own, with ids of the same sequence, and is read along.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Final, Self, TypeAlias

from sqlalchemy import (
    BigInteger,
    Integer,
    Text,
    any_,
    bindparam,
    cast,
    exists,
    func,
    insert,
    literal,
    or_,
    select,
    union_all,
)

from gsd_tasks.domain.errors import InvalidValue
from gsd_tasks.domain.recovery import Recovery
from gsd_tasks.domain.session import HistoryEntry, SessionId
from gsd_tasks.store.ids import any_id
from gsd_tasks.store.recoveries import to_recovery
from gsd_tasks.store.rows import to_history
from gsd_tasks.store.tables import Xid8, recoveries, session_history, workers

if TYPE_CHECKING:
    from collections.abc import Collection

    from sqlalchemy import CTE, ColumnElement, Connection, Insert, RowMapping, Select, Table

#: As many as any number of Postgres's has that fits into 63 bits whatever its digits are.
DIGITS: Final = 18

#: How many rows are looked at, for one that is wanted, before the rest of a window is looked for by its transactions.
MOST_BESIDE: Final = 4

#: An entry of the stream of all that happens.
Happened: TypeAlias = HistoryEntry | Recovery


@dataclass(frozen=True, slots=True)
class Cursor:
    """A place in the history of all sessions."""

    low: int
    high: int
    last_id: int

    def __str__(self) -> str:
        return f"{self.low}.{self.high}.{self.last_id}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """The cursor that `str` gave. Raises `InvalidValue` for anything else."""
        parts = text.split(".")
        if len(parts) != 3 or not all(part.isascii() and part.isdigit() and len(part) <= DIGITS for part in parts):
            raise InvalidValue("after", f"{text!r} is no cursor")
        return cls(*map(int, parts))


def of_session(connection: Connection, session_id: SessionId) -> list[HistoryEntry]:
    """Every transition of one session, in order."""
    rows = _view().where(session_history.c.session_id == session_id).order_by(session_history.c.id)
    return [to_history(row) for row in connection.execute(rows).mappings()]


def of_sessions(connection: Connection, session_ids: Collection[SessionId]) -> list[HistoryEntry]:
    """Every transition of these sessions, in the order of their numbers."""
    chosen = session_history.c.session_id == any_id(session_ids)
    rows = _view().where(chosen).order_by(session_history.c.id)
    return [to_history(row) for row in connection.execute(rows).mappings()]


def since(
    connection: Connection, session_id: SessionId, last_id: int, *, limit: int
) -> tuple[HistoryEntry | None, list[HistoryEntry]]:
    """The session's latest transition up to `last_id`, and at most `limit` after it: where it stood, and what followed.

    Neither where there is no such session, as each has its first transition from its beginning on.
    """
    asked = {"session_id": session_id, "last_id": last_id, "most": limit}
    entries = [to_history(row) for row in connection.execute(_since(), asked).mappings()]
    return (entries[0], entries[1:]) if entries and entries[0].id <= last_id else (None, entries)


def moved(connection: Connection, after: Cursor) -> bool:
    """Whether there is something to read after a cursor whose window is read to its end."""
    horizon = cast(func.pg_snapshot_xmin(func.pg_current_snapshot()), Xid8)
    found = (
        exists().where(table.c.xid >= _xid(after.high), table.c.xid < horizon)
        for table in (session_history, recoveries)
    )
    return bool(connection.execute(select(or_(*found))).scalar_one())


def now(connection: Connection) -> Cursor:
    """Where the history stands: what is read after it includes everything that happens from here on."""
    horizon = _horizon(connection)
    return Cursor(horizon, horizon, 0)


def read(
    connection: Connection, after: Cursor, *, limit: int, horizon: int | None = None
) -> tuple[list[tuple[Cursor, Happened]], Cursor]:
    """At most `limit` transitions and recoveries after a cursor, each with its own, and the cursor to go on from.

    With a `horizon`, the `high` of another cursor, no further than there.
    """
    entries = _window(connection, after, limit)
    if len(entries) == limit:
        return entries, entries[-1][0]
    horizon = _horizon(connection) if horizon is None else horizon
    following = Cursor(after.high, max(after.high, horizon), 0)
    entries += _window(connection, following, limit - len(entries))
    return entries, entries[-1][0] if len(entries) == limit else Cursor(following.high, following.high, 0)


def note(moved: CTE, before: CTE) -> Insert:
    """The row that goes along with a transition, within its statement: `before` it, and `moved` after it."""
    return insert(session_history).from_select(
        ["session_id", "from_status", "to_status", "attempt", "worker_id", "reason", "detail"],
        select(
            moved.c.id,
            before.c.status,
            moved.c.status,
            moved.c.attempt,
            moved.c.worker_id,
            moved.c.reason,
            moved.c.detail,
        ).join_from(moved, before, before.c.id == moved.c.id),
    )


def _window(connection: Connection, window: Cursor, limit: int) -> list[tuple[Cursor, Happened]]:
    if window.low >= window.high:
        return []
    # What is within a window does not change any more: several statements see the same.
    entries = _page(connection, _view(), session_history, window, limit)
    recovered = _page(connection, select(recoveries), recoveries, window, limit)
    found: list[Happened] = [*map(to_history, entries), *map(to_recovery, recovered)]
    found.sort(key=lambda happened: happened.id)
    return [(Cursor(window.low, window.high, happened.id), happened) for happened in found[:limit]]


def _page(connection: Connection, view: Select[Any], table: Table, window: Cursor, limit: int) -> list[RowMapping]:
    """The next rows of the window. Asked for as one, Postgres may look for them from the table's first row on.

    In the middle of a window the next ones of the table are, nearly all of them, the next ones of the window: so of one
    with a million rows no page costs more than the first. That one, and the last one, look at all ids of the window.
    """
    within = table.c.xid >= _xid(window.low), table.c.xid < _xid(window.high)
    found: list[RowMapping] = []
    if window.last_id:
        beside = select(table.c.id, table.c.xid).where(table.c.id > window.last_id).order_by(table.c.id)
        some = beside.limit(MOST_BESIDE * limit).subquery("some")
        among = some.c.xid >= _xid(window.low), some.c.xid < _xid(window.high)
        found = _those(connection, view, table, select(some.c.id).where(*among), limit)
    if len(found) < limit:
        last_id = found[-1]["id"] if found else window.last_id
        # By itself, so that it is read by the index of the transactions, whatever is asked of it further.
        ids = select(table.c.id).where(*within, table.c.id > last_id).offset(0).subquery("ids")
        found += _those(connection, view, table, select(ids.c.id), limit - len(found))
    return found


def _those(connection: Connection, view: Select[Any], table: Table, ids: Select[Any], limit: int) -> list[RowMapping]:
    """The first of these, in the order of their ids."""
    (id_,) = ids.selected_columns
    first = func.array(ids.order_by(id_).limit(limit).scalar_subquery())
    return list(connection.execute(view.where(table.c.id == any_(first)).order_by(table.c.id)).mappings())


def _horizon(connection: Connection) -> int:
    oldest = func.pg_snapshot_xmin(func.pg_current_snapshot())
    return int(connection.execute(select(cast(oldest, Text))).scalar_one())


def _xid(number: int) -> ColumnElement[str]:
    return cast(literal(str(number), Text), Xid8)


@cache
def _since() -> Select[Any]:
    """Built once: the live tail asks it a hundred times a second, and building takes longer than all the rest."""
    # Its own are numbered in the order in which they were committed (see above): none comes to be seen late.
    table, last_id = session_history.c, bindparam("last_id", type_=BigInteger)
    own = _view().where(table.session_id == bindparam("session_id"))
    stood = own.where(table.id <= last_id).order_by(table.id.desc()).limit(1).subquery()
    following = own.where(table.id > last_id).order_by(table.id)
    next_ones = following.limit(bindparam("most", type_=Integer)).subquery()
    both = union_all(select(stood), select(next_ones)).subquery()
    return select(both).order_by(both.c.id)


def _view() -> Select[Any]:
    name = workers.c.name.label("worker")
    return select(session_history, name).join_from(
        session_history, workers, workers.c.id == session_history.c.worker_id, isouter=True
    )
