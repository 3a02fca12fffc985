"""Snapshots: taken and restored in one statement each, pruned in pages.

None of them reads an entry's text: the checksums that stand beside the entries are what a snapshot's own is over
(`domain.snapshot` says how).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple
from uuid import UUID

import uuid_utils.compat as uuid_utils
from psycopg.errors import ForeignKeyViolation
from sqlalchemy import (
    BigInteger,
    LargeBinary,
    Text,
    and_,
    any_,
    cast,
    delete,
    exists,
    func,
    insert,
    literal,
    null,
    select,
    true,
    update,
)
from sqlalchemy.dialects.postgresql import INT8MULTIRANGE
from sqlalchemy.exc import IntegrityError

from gsd_tasks.domain.session import SnapshotReason
from gsd_tasks.domain.snapshot import FORMAT, Snapshot
from gsd_tasks.domain.state import FINAL, Status
from gsd_tasks.store.rows import utc
from gsd_tasks.store.tables import leases, sessions, snapshots, transcript
from gsd_tasks.store.transcript import last_entry

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from sqlalchemy import CTE, ColumnElement, Connection, RowMapping, Select
    from sqlalchemy.dialects.postgresql import Range

    from gsd_tasks.domain.session import SessionId
    from gsd_tasks.domain.spans import Span

BEFORE_RESTORE: Final = "before restore"
#: In which states a session's conversation may be set back: nobody goes on with it, and nobody is about to.
RESTORABLE: Final = frozenset({Status.PAUSED, *FINAL})
_BEGINNING: Final = f"gsd-tasks snapshot {FORMAT}\n"
_IS_AUTOMATIC: Final[ColumnElement[bool]] = snapshots.c.reason != SnapshotReason.MANUAL.value
#: By the database's clock; an id is made by that of whoever takes the snapshot.
_AGE: Final = (snapshots.c.at.desc(), snapshots.c.id.desc())


class SetBack(NamedTuple):
    """A session was restored; `before` is how it stood until then, unless it had no entry."""

    before: Snapshot | None


class Page(NamedTuple):
    """What a page of pruning did: the last snapshot that it looked at, None if there are no more, and how many went."""

    last: UUID | None
    removed: int


def take(
    connection: Connection,
    session_id: SessionId,
    reason: SnapshotReason,
    name: str | None = None,
    *,
    kept: int | None = None,
) -> Snapshot | None:
    """Write down where the conversation stands, at one instant. None: it has no entry, or there is no such session.

    One by hand (`manual`) is always written. An automatic one that would be equal to the newest one is not: then that
    is what comes back. Of automatic ones, only the newest `kept` of the session stay. Anybody may take one, as it says
    nothing but what is there.
    """
    last_seq = func.coalesce(leases.c.last_seq, sessions.c.last_seq).label("last_seq")
    columns = (sessions.c.id, sessions.c.attempt, last_seq, sessions.c.conversation, sessions.c.context)
    stands = select(*columns).join_from(sessions, leases, leases.c.session_id == sessions.c.id, isouter=True)
    source = stands.where(sessions.c.id == session_id).cte("source")
    point = _point(source, reason, name)
    newest = select(snapshots).where(snapshots.c.session_id == session_id).order_by(*_AGE).limit(1).cte("newest")
    is_known = and_(newest.c.sha256 == point.c.sha256, newest.c.format == FORMAT)
    is_new = true() if reason is SnapshotReason.MANUAL else ~exists().where(is_known)
    made = _writing(select(*point.c).where(is_new)).cte("made")
    known = select(*newest.c).join_from(newest, point, is_known).where(~exists().select_from(made))
    statement = select(*made.c).union_all(known)
    if kept is not None and reason is not SnapshotReason.MANUAL:
        statement = statement.add_cte(_surplus(session_id, made, kept))
    try:
        row = connection.execute(statement).mappings().one_or_none()
    except IntegrityError as error:
        if isinstance(error.orig, ForeignKeyViolation):
            return None  # deleted in this very moment
        raise
    return None if row is None else to_snapshot(row)


def restore(connection: Connection, snapshot: Snapshot, *, attempt: int) -> SetBack | None:
    """Set the session's conversation and context back to what they were; what comes from now on follows that.

    How it stood until then is kept as a snapshot by hand, in the same statement. None: nothing was done, as the session
    is not `RESTORABLE`, its last attempt is another one, or the snapshot is gone.
    """
    columns = (sessions.c.id, sessions.c.attempt, sessions.c.last_seq, sessions.c.conversation, sessions.c.context)
    # No entry comes without an attempt. So this guard, which is looked at again after a wait for the row, vouches for
    # the entries too, which are not.
    locked = (
        select(*columns)
        .where(
            sessions.c.id == snapshot.session_id,
            sessions.c.status.in_(RESTORABLE),
            sessions.c.attempt == attempt,
            exists().where(snapshots.c.id == snapshot.id),
        )
        .with_for_update()
        .cte("locked")
    )
    before = _writing(select(*_point(locked, SnapshotReason.MANUAL, BEFORE_RESTORE).c)).cte("before")
    moved = (
        update(sessions)
        .where(sessions.c.id == locked.c.id, snapshots.c.session_id == locked.c.id, snapshots.c.id == snapshot.id)
        .values(
            conversation=snapshots.c.entries.op("+")(after(last_entry(locked.c.id))),
            context=snapshots.c.context,
        )
        .returning(sessions.c.id.label("restored"))
        .cte("moved")
    )
    row = connection.execute(select(*before.c).join_from(moved, before, true(), isouter=True)).mappings().one_or_none()
    if row is None:
        return None
    return SetBack(None if row["id"] is None else to_snapshot(row))


def listed(connection: Connection, session_id: SessionId) -> list[Snapshot]:
    """All that the session has, the newest first."""
    rows = select(snapshots).where(snapshots.c.session_id == session_id).order_by(*_AGE)
    return [to_snapshot(row) for row in connection.execute(rows).mappings()]


def prune(connection: Connection, *, older_than: datetime, after_id: UUID | None, limit: int) -> Page:
    """Remove automatic ones that are too old, but never the newest of a session: a page of `limit`, in order of ids.

    Ids begin with the time: what is younger is not looked at.
    """
    page = select(snapshots.c.id, snapshots.c.session_id, _IS_AUTOMATIC.label("is_automatic"), snapshots.c.at)
    page = page.where(snapshots.c.id < _first_id(older_than)).order_by(snapshots.c.id).limit(limit)
    looked_at = (page if after_id is None else page.where(snapshots.c.id > after_id)).cte("page")
    # Asked of each by itself, and the ids as an array: joined, the whole table may be read.
    newest = _automatic(looked_at.c.session_id).limit(1).scalar_subquery()
    old = select(looked_at.c.id).where(looked_at.c.is_automatic, looked_at.c.at < older_than, looked_at.c.id != newest)
    gone = delete(snapshots).where(snapshots.c.id == any_(func.array(old.scalar_subquery())))
    removed = gone.returning(snapshots.c.id).cte("removed")
    last = select(looked_at.c.id).order_by(looked_at.c.id.desc()).limit(1).scalar_subquery()
    seen, went = (select(func.count()).select_from(cte).scalar_subquery() for cte in (looked_at, removed))
    last_id, number, gone = connection.execute(select(last, seen, went)).one()
    return Page(last_id if number == limit else None, gone)


def after(last: ColumnElement[int]) -> ColumnElement[Any]:
    """All entries that come after this one, whenever they come."""
    return func.int8multirange(func.int8range(last + 1, cast(null(), BigInteger)), type_=INT8MULTIRANGE)


def up_to(last: ColumnElement[int]) -> ColumnElement[Any]:
    """All entries from the first to this one."""
    return func.int8multirange(func.int8range(literal(1, BigInteger), last + 1), type_=INT8MULTIRANGE)


def to_spans(stored: Sequence[Range[int]]) -> tuple[Span, ...]:
    """A bounded set of numbers, as Postgres gives it: with its first, and without what follows its last."""
    return tuple((one.lower, one.upper - 1) for one in stored if one.lower is not None and one.upper is not None)


def to_snapshot(row: RowMapping) -> Snapshot:
    """A snapshot."""
    return Snapshot(
        id=row["id"],
        session_id=row["session_id"],
        reason=SnapshotReason(row["reason"]),
        name=row["name"],
        format=row["format"],
        attempt=row["attempt"],
        last_seq=row["last_seq"],
        last_entry=row["last_entry"],
        entries=to_spans(row["entries"]),
        context=row["context"],
        sha256=bytes(row["sha256"]).hex(),
        size_bytes=row["size_bytes"],
        at=utc(row["at"]),
    )


def _point(source: CTE, reason: SnapshotReason, name: str | None) -> CTE:
    """Where the conversation of the session in `source` stands, as a row of `snapshots`; none if it has no entry."""
    last = select(source, last_entry(source.c.id).label("last_entry")).cte("last")
    live = last.c.conversation.op("@>")(transcript.c.seq)
    read = (
        select(
            func.count().label("number"),
            func.sum(func.octet_length(transcript.c.entry) + 1).label("size_bytes"),
            func.string_agg(
                func.int8send(transcript.c.seq).op("||")(transcript.c.sha256), cast(literal(b""), LargeBinary)
            )
            .aggregate_order_by(transcript.c.seq)
            .label("digests"),
        )
        .where(transcript.c.session_id == last.c.id, live)
        .lateral("read")
    )
    content = _bytes(literal(_BEGINNING))
    for part in (func.int8send(read.c.number), read.c.digests, _bytes(cast(last.c.context, Text))):
        content = content.op("||")(part)
    return (
        select(
            literal(uuid_utils.uuid7()).label("id"),
            last.c.id.label("session_id"),
            literal(reason.value).label("reason"),
            literal(name, Text).label("name"),
            literal(FORMAT).label("format"),
            last.c.attempt,
            last.c.last_seq,
            last.c.last_entry,
            last.c.conversation.op("*")(up_to(last.c.last_entry)).label("entries"),
            last.c.context,
            func.sha256(content, type_=LargeBinary).label("sha256"),
            read.c.size_bytes,
        )
        .join_from(last, read, read.c.number > 0)
        .cte("point")
    )


def _writing(points: Any) -> Any:
    return (
        insert(snapshots)
        .from_select([column.name for column in points.selected_columns], points)
        .returning(*snapshots.c)
    )


def _surplus(session_id: SessionId, made: CTE, kept: int) -> CTE:
    """The automatic ones that there is no room for any more beside the new one, which this statement does not see."""
    beyond = _automatic(literal(session_id)).offset(max(0, kept - 1)).scalar_subquery()
    gone = delete(snapshots).where(snapshots.c.id == any_(func.array(beyond)), exists().select_from(made))
    return gone.returning(snapshots.c.id).cte("surplus")


def _automatic(session_id: ColumnElement[UUID]) -> Select[UUID]:
    """Those of that session that were not taken by hand, the newest first."""
    return select(snapshots.c.id).where(snapshots.c.session_id == session_id, _IS_AUTOMATIC).order_by(*_AGE)


def _bytes(text: ColumnElement[str]) -> ColumnElement[bytes]:
    return func.convert_to(text, "UTF8", type_=LargeBinary)


def _first_id(at: datetime) -> UUID:
    """The first of the ids that begin with this millisecond."""
    return UUID(int=round(at.timestamp() * 1000) << 80)
