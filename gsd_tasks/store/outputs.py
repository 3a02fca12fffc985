"""Output rows: the guarded statement that appends them, and reading them back."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, LiteralString

from sqlalchemy import func, select

from gsd_tasks.domain.session import OutputRow, SessionId, Stream
from gsd_tasks.store.leases import Progress
from gsd_tasks.store.rows import to_output
from gsd_tasks.store.tables import session_outputs

if TYPE_CHECKING:
    from sqlalchemy import Connection, Select, Subquery

    from gsd_tasks.store.holding import Claim

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


@dataclass(slots=True)
class Batch:
    """Rows to append, column by column, and how much of each stream the attempt has after them."""

    streams: list[str] = field(default_factory=list)
    written_at: list[datetime] = field(default_factory=list)
    data: list[str | None] = field(default_factory=list)
    raw: list[bytes | None] = field(default_factory=list)
    eol: list[bool] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.streams)

    def add(self, stream: Stream, written_at: datetime, body: bytes, *, eol: bool) -> None:
        """One row: as text where it is text that Postgres can hold."""
        data, raw = _as_text(body)
        self.streams.append(stream.value)
        self.written_at.append(written_at)
        self.data.append(data)
        self.raw.append(raw)
        self.eol.append(eol)


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
    order = session_outputs.c.seq.desc() if newest_first else session_outputs.c.seq
    page = select(session_outputs).where(session_outputs.c.session_id == session_id, session_outputs.c.seq > after_seq)
    if stream is not None:
        page = page.where(session_outputs.c.stream == stream)
    if since is not None:
        page = page.where(session_outputs.c.written_at >= since)
    bounded = _within(page.order_by(order).limit(limit).subquery(), largest_bytes, newest_first=newest_first)
    return [to_output(row) for row in connection.execute(bounded)]


def _within(page: Subquery, largest_bytes: int, *, newest_first: bool) -> Select[Any]:
    """The rows of `page` that begin within its first `largest_bytes`: never a thousand rows of 1 MiB at once."""
    order = page.c.seq.desc() if newest_first else page.c.seq
    # The length of a long value is read from its header, the value itself is not fetched.
    size = func.coalesce(func.octet_length(page.c.data), func.octet_length(page.c.raw))
    summed = select(page, (func.sum(size).over(order_by=order) - size).label("before")).subquery()
    return (
        select(*(summed.c[column.name] for column in session_outputs.c))
        .where(summed.c.before < largest_bytes)
        .order_by(summed.c.seq.desc() if newest_first else summed.c.seq)
    )


def _as_text(body: bytes) -> tuple[str | None, bytes | None]:
    if b"\0" in body:
        return None, body
    try:
        return body.decode(), None
    except UnicodeDecodeError:
        return None, body
