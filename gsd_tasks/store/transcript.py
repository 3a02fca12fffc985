"""The transcript of a conversation: appended to by the holder alone, read back to go on from it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, LiteralString, NamedTuple

from sqlalchemy import Boolean, func, insert, literal, select, type_coerce, update

from gsd_tasks.domain.record import TranscriptEntry
from gsd_tasks.domain.transcript import PROMPT, SPOKEN
from gsd_tasks.store.leases import holds
from gsd_tasks.store.rows import utc
from gsd_tasks.store.tables import leases, sessions, transcript

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from uuid import UUID

    from sqlalchemy import CTE, ColumnElement, Connection, ScalarSelect, Select

    from gsd_tasks.domain.session import SessionId
    from gsd_tasks.domain.transcript import Entry
    from gsd_tasks.store.holding import Claim

PAGE_ENTRIES: Final = 200
#: An entry may have megabytes: of a page only what begins within so many is read.
PAGE_BYTES: Final = 8 * 1024 * 1024
# Written out for the driver, as with the output rows: binary arrays, one statement, the offset as part of the guard.
APPEND: Final[LiteralString] = """
WITH held AS (
    UPDATE leases
       SET last_entry = last_entry + cardinality(%(entries)b::text[]), transcript_bytes = %(after)b
     WHERE session_id = %(session_id)b AND attempt = %(attempt)b AND holder = %(holder)b
       AND transcript_bytes = %(before)b
    RETURNING session_id, attempt, last_entry - cardinality(%(entries)b::text[]) AS last_entry
) INSERT INTO transcript (session_id, seq, attempt, position, kind, uuid, entry, sha256)
SELECT held.session_id, held.last_entry + line.n, held.attempt, line.position, line.kind, line.uuid, line.entry,
       line.sha256
  FROM held,
       unnest(%(positions)b::bigint[], %(kinds)b::text[], %(uuids)b::text[], %(entries)b::text[],
              %(digests)b::bytea[])
       WITH ORDINALITY AS line (position, kind, uuid, entry, sha256, n)
"""


@dataclass(slots=True)
class Entries:
    """Entries to append, column by column."""

    positions: list[int] = field(default_factory=list)
    kinds: list[str | None] = field(default_factory=list)
    uuids: list[str | None] = field(default_factory=list)
    entries: list[str] = field(default_factory=list)
    digests: list[bytes] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.entries)

    def add(self, position: int, entry: Entry, text: str) -> None:
        """The line that begins at `position` bytes of the attempt's file."""
        self.positions.append(position)
        self.kinds.append(entry.kind)
        self.uuids.append(entry.uuid)
        self.entries.append(text)
        self.digests.append(hashlib.sha256(text.encode()).digest())


class Line(NamedTuple):
    """An entry as it stands: `text` has no newline."""

    seq: int
    kind: str | None
    text: str


#: What the conversation consists of now.
LIVE: ColumnElement[bool] = sessions.c.conversation.op("@>")(transcript.c.seq)


def append(connection: Connection, claim: Claim, batch: Entries, *, before: int, after: int) -> bool:
    """Commit `batch`, if this claim holds the session and `before` bytes are what Postgres has. False: it does not."""
    appended = connection.exec_driver_sql(
        APPEND,
        {
            "session_id": claim.session.id,
            "attempt": claim.attempt,
            "holder": claim.holder,
            "before": before,
            "after": after,
            "positions": batch.positions,
            "kinds": batch.kinds,
            "uuids": batch.uuids,
            "entries": batch.entries,
            "digests": batch.digests,
        },
    )
    return bool(appended.rowcount)


def position(connection: Connection, claim: Claim) -> int | None:
    """How many bytes of the attempt's file Postgres has. None: the lease is not ours."""
    return connection.execute(select(leases.c.transcript_bytes).where(holds(claim))).scalar_one_or_none()


def begin_at(connection: Connection, claim: Claim, size: int) -> bool:
    """The attempt's file begins with so many bytes that Postgres has. False: the lease is not ours."""
    # From the beginning only: one that comes in late does not take back what has been appended since.
    guard = holds(claim), leases.c.transcript_bytes.in_([0, size])
    begun = update(leases).where(*guard).values(transcript_bytes=size).returning(leases.c.session_id)
    return connection.execute(begun).first() is not None


def can_be_resumed(connection: Connection, session_id: SessionId) -> bool:
    """Whether there is a conversation: the CLI finds none in a file without a prompt."""
    prompt = _live_of(session_id, transcript.c.seq).where(transcript.c.kind == PROMPT).limit(1)
    return connection.execute(prompt).first() is not None


def page(connection: Connection, session_id: SessionId, *, after_seq: int, limit: int) -> list[TranscriptEntry]:
    """Entries after `after_seq`, those that are not live too: at most `limit`, none beginning after `PAGE_BYTES`."""
    following = (
        select(transcript, type_coerce(LIVE, Boolean).label("is_live"))
        .join_from(transcript, sessions, sessions.c.id == transcript.c.session_id)
        .where(transcript.c.session_id == session_id, transcript.c.seq > after_seq)
        .order_by(transcript.c.seq)
        .limit(limit)
        .subquery()
    )
    size = func.octet_length(following.c.entry)
    before = (func.sum(size).over(order_by=following.c.seq) - size).label("before")
    summed = select(following, before).subquery()
    bounded = select(summed).where(summed.c.before < PAGE_BYTES).order_by(summed.c.seq)
    return [
        TranscriptEntry(
            seq=row["seq"],
            attempt=row["attempt"],
            kind=row["kind"],
            uuid=row["uuid"],
            is_live=row["is_live"],
            entry=row["entry"],
            at=utc(row["at"]),
        )
        for row in connection.execute(bounded).mappings()
    ]


def live(connection: Connection, session_id: SessionId) -> Iterator[list[Line]]:
    """The conversation, page by page, in order."""
    seq = 0
    while page := _page(connection, session_id, seq):
        yield page
        seq = page[-1].seq


def last(connection: Connection, session_id: SessionId, kinds: Iterable[str] = SPOKEN) -> str | None:
    """The newest entry of one of these kinds that the conversation has."""
    said = _live_of(session_id, transcript.c.entry).where(transcript.c.kind.in_(list(kinds)))
    newest = said.order_by(transcript.c.seq.desc()).limit(1)
    return connection.execute(newest).scalar_one_or_none()


def delivered(connection: Connection, session_id: SessionId, uuids: Iterable[UUID]) -> set[tuple[str, str | None]]:
    """Which of these messages stand in the transcript, at restored points of it or not, each with the entry's kind."""
    known = select(transcript.c.uuid, transcript.c.kind).where(
        transcript.c.session_id == session_id, transcript.c.uuid.in_([str(uuid) for uuid in uuids])
    )
    return {(row.uuid, row.kind) for row in connection.execute(known)}


def last_entry(session_id: ColumnElement[UUID]) -> ScalarSelect[int]:
    """The number of the newest entry of that session, for a statement that needs it."""
    newest = select(func.coalesce(func.max(transcript.c.seq), 0)).where(transcript.c.session_id == session_id)
    return newest.scalar_subquery()


def copied(born: CTE, source: SessionId) -> CTE:
    """The conversation of `source` for the session in `born`, numbered anew, as if of an attempt before its first."""
    number = func.row_number().over(order_by=transcript.c.seq)
    lines = (
        select(
            born.c.id,
            number,
            literal(0),
            number,
            *(transcript.c[name] for name in ("kind", "uuid", "entry", "sha256", "at")),
        )
        .select_from(born)
        .join(transcript, transcript.c.session_id == source)
        .join(sessions, sessions.c.id == transcript.c.session_id)
        .where(LIVE)
    )
    columns = ["session_id", "seq", "attempt", "position", "kind", "uuid", "entry", "sha256", "at"]
    return insert(transcript).from_select(columns, lines).returning(transcript.c.seq).cte("copied")


def _page(connection: Connection, session_id: SessionId, after_seq: int) -> list[Line]:
    lines = _live_of(session_id, transcript.c.seq, transcript.c.kind, transcript.c.entry)
    page = lines.where(transcript.c.seq > after_seq).order_by(transcript.c.seq).limit(PAGE_ENTRIES).subquery()
    # The length of a long value is read from its header, the value itself is not fetched.
    size = func.octet_length(page.c.entry)
    summed = select(page, (func.sum(size).over(order_by=page.c.seq) - size).label("before")).subquery()
    within = select(summed.c.seq, summed.c.kind, summed.c.entry).where(summed.c.before < PAGE_BYTES)
    return [Line(*row) for row in connection.execute(within.order_by(summed.c.seq))]


def _live_of(session_id: SessionId, *columns: ColumnElement[Any]) -> Select[Any]:
    live = select(*columns).join_from(transcript, sessions, sessions.c.id == transcript.c.session_id)
    return live.where(transcript.c.session_id == session_id, LIVE)
