"""Output rows: the guarded statement that appends them, and reading them back."""

from __future__ import annotations

import struct
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING, Any, Final, LiteralString

from sqlalchemy import BigInteger, Integer, bindparam, func, select

from gsd_tasks.domain.session import OutputRow, SessionId, Stream
from gsd_tasks.store.arrays import Array
from gsd_tasks.store.leases import Progress
from gsd_tasks.store.rows import to_output
from gsd_tasks.store.tables import session_outputs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection, Select, Subquery

    from gsd_tasks.store.holding import Claim

# Types, by the numbers that they have in every Postgres (pg_type.dat).
BOOL: Final = 16
BYTEA: Final = 17
TEXT: Final = 25
TIMESTAMPTZ: Final = 1184
POSTGRES_EPOCH: Final = datetime(2000, 1, 1, tzinfo=UTC)
MICROSECOND: Final = timedelta(microseconds=1)
_MOMENT: Final = struct.Struct(">q")

# Written out, not built: binary arrays (`%b`) are what makes it fast, and the driver alone can send them. One
# statement, so that the lease's row is locked only when all of it has arrived. `last_seq` is the offset of the guard:
# it counts up with every batch, so a batch can be committed once only, and the bytes of both streams move with it.
APPEND: Final[LiteralString] = """
WITH held AS (
    UPDATE leases
       SET last_seq = last_seq + cardinality(%(streams)b::text[]),
           stdout_bytes = %(stdout_bytes)b,
           stderr_bytes = %(stderr_bytes)b
     WHERE session_id = %(session_id)b AND attempt = %(attempt)b AND holder = %(holder)b AND last_seq = %(last_seq)b
    RETURNING session_id, attempt
) INSERT INTO session_outputs (session_id, seq, attempt, stream, written_at, data, raw, eol) SELECT held.session_id,
%(last_seq)b + piece.n, held.attempt, piece.stream, piece.written_at, piece.data, piece.raw, piece.eol
  FROM held,
       unnest(%(streams)b::text[], %(written_at)b::timestamptz[], %(data)b::text[], %(raw)b::bytea[],
              %(eol)b::boolean[])
       WITH ORDINALITY AS piece (stream, written_at, data, raw, eol, n)
"""


class Batch:
    """Rows to append."""

    def __init__(self) -> None:
        self.streams = Array(TEXT)
        self.written_at = Array(TIMESTAMPTZ)
        self.data = Array(TEXT)
        self.raw = Array(BYTEA)
        self.eol = Array(BOOL)

    def __len__(self) -> int:
        return len(self.streams)

    def add(self, stream: Stream, written_at: datetime, body: bytes, *, eol: bool) -> None:
        """One row."""
        self.extend(stream, written_at, [body], eol=eol)

    def extend(self, stream: Stream, written_at: datetime, bodies: Sequence[bytes], *, eol: bool) -> None:
        """A row for each body: as text where it is text that Postgres can hold."""
        is_text = _are_text(bodies)
        if not is_text and len(bodies) > 1:
            for body in bodies:
                self.add(stream, written_at, body, eol=eol)
            return
        self.streams.repeat(stream.encode(), len(bodies))
        self.written_at.repeat(_MOMENT.pack((written_at - POSTGRES_EPOCH) // MICROSECOND), len(bodies))
        self.eol.repeat(b"\1" if eol else b"\0", len(bodies))
        filled, empty = (self.data, self.raw) if is_text else (self.raw, self.data)
        filled.extend(bodies)
        empty.repeat(None, len(bodies))


def append(connection: Connection, claim: Claim, batch: Batch, before: Progress, after: Progress) -> bool:
    """Commit `batch`, if this claim holds the session and `before` is what Postgres has. False: write nothing more."""
    # Through SQLAlchemy, not on the driver's cursor: what breaks must come out as what `Database.connection` knows.
    appended = connection.exec_driver_sql(
        APPEND,
        {
            "session_id": claim.session.id,
            "attempt": claim.attempt,
            "holder": claim.holder,
            "last_seq": before.last_seq,
            "stdout_bytes": after.stdout_bytes,
            "stderr_bytes": after.stderr_bytes,
            "streams": batch.streams,
            "written_at": batch.written_at,
            "data": batch.data,
            "raw": batch.raw,
            "eol": batch.eol,
        },
    )
    return bool(appended.rowcount)


def read(
    connection: Connection,
    session_id: SessionId,
    *,
    after_seq: int = 0,
    limit: int,
    stream: Stream | None = None,
    newest_first: bool = False,
    since: datetime | None = None,
    largest_bytes: int = 8 * 1024 * 1024,
) -> list[OutputRow]:
    """Rows in the order of `seq`, or the newest first; at most `limit`, and no more than some `largest_bytes` hold."""
    asked = {"id": session_id, "after_seq": after_seq, "most": limit, "largest_bytes": largest_bytes}
    further = {"stream": stream, "since": since}
    given = {name: value for name, value in further.items() if value is not None}
    statement = _reading(frozenset(given), newest_first=newest_first)
    return [to_output(row) for row in connection.execute(statement, asked | given)]


@cache
def _reading(given: frozenset[str], *, newest_first: bool) -> Select[Any]:
    """Built once: the live tail reads a hundred times a second, and building takes longer than all the rest."""
    order = session_outputs.c.seq.desc() if newest_first else session_outputs.c.seq
    page = select(session_outputs).where(
        session_outputs.c.session_id == bindparam("id"), session_outputs.c.seq > bindparam("after_seq")
    )
    if "stream" in given:
        page = page.where(session_outputs.c.stream == bindparam("stream"))
    if "since" in given:
        page = page.where(session_outputs.c.written_at >= bindparam("since"))
    return _within(page.order_by(order).limit(bindparam("most", type_=Integer)).subquery(), newest_first=newest_first)


def _within(page: Subquery, *, newest_first: bool) -> Select[Any]:
    """The rows of `page` that begin within its first `largest_bytes`: never a thousand rows of 1 MiB at once."""
    order = page.c.seq.desc() if newest_first else page.c.seq
    # The length of a long value is read from its header, the value itself is not fetched.
    size = func.coalesce(func.octet_length(page.c.data), func.octet_length(page.c.raw))
    summed = select(page, (func.sum(size).over(order_by=order) - size).label("before")).subquery()
    return (
        select(*(summed.c[column.name] for column in session_outputs.c))
        .where(summed.c.before < bindparam("largest_bytes", type_=BigInteger))
        .order_by(summed.c.seq.desc() if newest_first else summed.c.seq)
    )


def _are_text(bodies: Sequence[bytes]) -> bool:
    """Of a whole run at once: no character of UTF-8 goes over a newline."""
    together = b"\n".join(bodies)
    if b"\0" in together:
        return False
    try:
        together.decode()
    except UnicodeDecodeError:
        return False
    return True
