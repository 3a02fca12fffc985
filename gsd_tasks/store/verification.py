"""The facts about one session that `domain.verification` judges: all in one transaction, to be of one instant."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import Text, and_, cast, func, not_, select

from gsd_tasks.domain.soundness import judge, read
from gsd_tasks.domain.spans import holes
from gsd_tasks.domain.state import Status
from gsd_tasks.domain.verification import Disorder, Facts
from gsd_tasks.store import history
from gsd_tasks.store.snapshots import to_snapshot, to_spans, up_to
from gsd_tasks.store.tables import attempts, leases, session_outputs, sessions, snapshots, transcript
from gsd_tasks.store.transcript import last_entry

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sqlalchemy import Connection

    from gsd_tasks.domain.session import SessionId
    from gsd_tasks.domain.snapshot import Snapshot
    from gsd_tasks.domain.soundness import Entries, Judged
    from gsd_tasks.domain.spans import Span

PAGE_ENTRIES: Final = 1000
PAGE_BYTES: Final = 8 * 1024 * 1024
#: Of more holes than these, the first ones are enough to know.
MOST_HOLES: Final = 100


def facts(connection: Connection, session_id: SessionId) -> Facts | None:
    """Everything that can be verified. None: there is no such session."""
    stands = _stands(connection, session_id)
    if stands is None:
        return None
    read_entries = entries(connection, session_id)
    return Facts(
        session_id=session_id,
        status=Status(stands.status),
        attempt=stands.attempt,
        last_seq=stands.last_seq,
        missing_rows=_missing_rows(connection, session_id, stands.last_seq),
        uncounted=_uncounted(connection, session_id, stands.last_seq),
        disordered=_disordered(connection, session_id),
        entries=read_entries,
        live=to_spans(stands.live),
        snapshots=judged(connection, session_id, read_entries),
        open_attempts=_open_attempts(connection, session_id),
        history=tuple(history.of_session(connection, session_id)),
    )


def entries(connection: Connection, session_id: SessionId) -> Entries:
    """Every entry of the session, read and hashed, in bounded memory."""
    return {row.seq: read(row.entry, bytes(row.sha256)) for row in _entries(connection, session_id)}


def judged(connection: Connection, session_id: SessionId, read_entries: Entries) -> tuple[Judged, ...]:
    """Every snapshot of the session, in the order in which they were taken."""
    context = cast(snapshots.c.context, Text).label("context_text")
    of_session = select(snapshots, context).where(snapshots.c.session_id == session_id)
    rows = connection.execute(of_session.order_by(snapshots.c.at, snapshots.c.id)).mappings()
    return tuple(judge(to_snapshot(row), row["context_text"], read_entries) for row in rows)


def judged_one(connection: Connection, snapshot: Snapshot) -> Judged:
    """This snapshot, with the entries that it consists of read and hashed anew."""
    context = select(cast(snapshots.c.context, Text)).where(snapshots.c.id == snapshot.id)
    text = connection.execute(context).scalar_one_or_none()
    return judge(snapshot, text or "", entries(connection, snapshot.session_id))


def orphaned_rows(connection: Connection, session_id: SessionId) -> int:
    """How many output rows there are of a session that there is not."""
    there_is = select(sessions.c.id).where(sessions.c.id == session_id).exists()
    counted = select(func.count()).where(session_outputs.c.session_id == session_id, not_(there_is))
    return connection.execute(counted).scalar_one()


def _stands(connection: Connection, session_id: SessionId) -> Any:
    # What a holder has committed is counted in its lease, until the session is settled.
    last = func.greatest(last_entry(sessions.c.id), func.coalesce(leases.c.last_entry, 0))
    return connection.execute(
        select(
            sessions.c.status,
            sessions.c.attempt,
            func.coalesce(leases.c.last_seq, sessions.c.last_seq).label("last_seq"),
            sessions.c.conversation.op("*")(up_to(last)).label("live"),
        )
        .join_from(sessions, leases, leases.c.session_id == sessions.c.id, isouter=True)
        .where(sessions.c.id == session_id)
    ).one_or_none()


def _entries(connection: Connection, session_id: SessionId) -> Iterator[Any]:
    seq = 0
    while page := _page(connection, session_id, seq):
        yield from page
        seq = page[-1].seq


def _page(connection: Connection, session_id: SessionId, after_seq: int) -> Sequence[Any]:
    columns = (transcript.c.seq, transcript.c.entry, transcript.c.sha256)
    page = select(*columns).where(transcript.c.session_id == session_id, transcript.c.seq > after_seq)
    ordered = page.order_by(transcript.c.seq).limit(PAGE_ENTRIES).subquery()
    # The length of a long text is read from its header; only what is in the page is fetched.
    size = func.octet_length(ordered.c.entry)
    summed = select(ordered, (func.sum(size).over(order_by=ordered.c.seq) - size).label("before")).subquery()
    bounded = select(summed.c.seq, summed.c.entry, summed.c.sha256).where(summed.c.before < PAGE_BYTES)
    return connection.execute(bounded.order_by(summed.c.seq)).all()


def _missing_rows(connection: Connection, session_id: SessionId, last_seq: int) -> tuple[Span, ...]:
    counted = and_(session_outputs.c.session_id == session_id, session_outputs.c.seq <= last_seq)
    before = func.lag(session_outputs.c.seq, 1, 0).over(order_by=session_outputs.c.seq).label("before")
    rows = select(session_outputs.c.seq, before).where(counted).subquery()
    gaps = select(rows.c.before + 1, rows.c.seq - 1).where(rows.c.seq > rows.c.before + 1).order_by(rows.c.seq)
    inside = [(first, last) for first, last in connection.execute(gaps.limit(MOST_HOLES))]
    newest = connection.execute(select(func.coalesce(func.max(session_outputs.c.seq), 0)).where(counted)).scalar_one()
    return (*inside, *holes([(newest + 1, last_seq)], []))


def _uncounted(connection: Connection, session_id: SessionId, last_seq: int) -> Span | None:
    ends = select(func.min(session_outputs.c.seq), func.max(session_outputs.c.seq))
    beyond = ends.where(session_outputs.c.session_id == session_id, session_outputs.c.seq > last_seq)
    first, last = connection.execute(beyond).one()
    return None if first is None else (first, last)


def _disordered(connection: Connection, session_id: SessionId) -> tuple[Disorder, ...]:
    stream = (session_outputs.c.attempt, session_outputs.c.stream)
    before = func.lag(session_outputs.c.written_at).over(partition_by=stream, order_by=session_outputs.c.seq)
    columns = (*stream, session_outputs.c.seq, (session_outputs.c.written_at < before).label("is_older"))
    rows = select(*columns).where(session_outputs.c.session_id == session_id).subquery()
    of_stream = (rows.c.attempt, rows.c.stream)
    found = select(*of_stream, func.count(), func.min(rows.c.seq)).where(rows.c.is_older)
    return tuple(Disorder(*row) for row in connection.execute(found.group_by(*of_stream).order_by(*of_stream)))


def _open_attempts(connection: Connection, session_id: SessionId) -> tuple[int, ...]:
    runs = and_(sessions.c.status == Status.RUNNING, sessions.c.attempt == attempts.c.attempt)
    found = (
        select(attempts.c.attempt)
        .join(sessions, sessions.c.id == attempts.c.session_id)
        .where(attempts.c.session_id == session_id, attempts.c.ended_at.is_(None), not_(runs))
    )
    return tuple(connection.execute(found.order_by(attempts.c.attempt)).scalars())
