"""A session's output as the child wrote it, from any byte to any other, in bounded memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gsd_tasks.service.control import check_is_there
from gsd_tasks.store import outputs, raw

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gsd_tasks.domain.session import SessionId, Stream
    from gsd_tasks.store import Database

#: A chunk is a page of rows: so many, none of which begins after so many bytes.
CHUNK_ROWS: Final = 1000
CHUNK_BYTES: Final = 256 * 1024


def count_bytes(database: Database, session_id: SessionId, stream: Stream | None) -> int:
    """How many bytes there are until now."""
    with database.connection() as connection:
        return raw.count_bytes(connection, session_id, stream)


def chunks(
    database: Database, session_id: SessionId, stream: Stream | None, *, first: int = 0, most: int | None = None
) -> Iterator[bytes]:
    """The bytes from `first` on, `most` of them or all that there are; none of the connections is held in between.

    Raises:
        NoSuchSession: it was removed before all was read.
    """
    after_seq, skipped = 0, 0
    if first:
        with database.connection() as connection:
            place = raw.find_byte(connection, session_id, stream, first)
            if place is None:
                check_is_there(connection, session_id)
                return
        after_seq, skipped = place.seq - 1, first - place.before
    while most is None or most > 0:
        with database.connection() as connection:
            page = outputs.read(
                connection,
                session_id,
                after_seq=after_seq,
                limit=CHUNK_ROWS,
                stream=stream,
                largest_bytes=CHUNK_BYTES,
            )
            if not page:
                check_is_there(connection, session_id)
                return
        chunk = b"".join(row.as_bytes() for row in page)[skipped:][:most]
        after_seq, skipped = page[-1].seq, 0
        most = None if most is None else most - len(chunk)
        yield chunk
