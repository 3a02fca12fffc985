"""A session's output as bytes: how many there are, and in which row the one at some offset stands."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import BigInteger, Integer, cast, func, select

from gsd_tasks.store.tables import session_outputs

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement, Connection, Select

    from gsd_tasks.domain.session import SessionId, Stream

#: What a row stands for, its newline included. The length of a long value is read from its header.
_SIZE: ColumnElement[int] = func.coalesce(
    func.octet_length(session_outputs.c.data), func.octet_length(session_outputs.c.raw)
) + cast(session_outputs.c.eol, Integer)


class Place(NamedTuple):
    """The row in which some byte stands, and how many there are before that row."""

    seq: int
    before: int


def count_bytes(connection: Connection, session_id: SessionId, stream: Stream | None) -> int:
    """How many there are until now, of one stream or of both. Reads every row's head."""
    counted = _rows(select(cast(func.coalesce(func.sum(_SIZE), 0), BigInteger)), session_id, stream)
    return int(connection.execute(counted).scalar_one())


def find_byte(connection: Connection, session_id: SessionId, stream: Stream | None, offset: int) -> Place | None:
    """Where the byte at `offset` stands, from 0. None: there are not so many. Reads on from the first row."""
    before = func.sum(_SIZE).over(order_by=session_outputs.c.seq) - _SIZE
    summed = _rows(
        select(session_outputs.c.seq, cast(before, BigInteger).label("before"), _SIZE.label("size")), session_id, stream
    ).subquery()
    found = select(summed.c.seq, summed.c.before).where(summed.c.before + summed.c.size > offset)
    row = connection.execute(found.order_by(summed.c.seq).limit(1)).one_or_none()
    return None if row is None else Place(row.seq, row.before)


def _rows(query: Select[Any], session_id: SessionId, stream: Stream | None) -> Select[Any]:
    of_session = query.where(session_outputs.c.session_id == session_id)
    return of_session if stream is None else of_session.where(session_outputs.c.stream == stream)
