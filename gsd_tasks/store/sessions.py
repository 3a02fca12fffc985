"""Reading sessions, and the changes of one that are no change of its status."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from psycopg.errors import DeadlockDetected, ForeignKeyViolation
from sqlalchemy import ARRAY, Text, any_, delete, func, literal, not_, null, select, union_all, update
from sqlalchemy.exc import IntegrityError, OperationalError

from gsd_tasks.domain.session import DIGITS_OF_ID, Awaited, Session, SessionId, Submission
from gsd_tasks.domain.state import FINAL, Reason, Status, Wanted
from gsd_tasks.store import dependencies
from gsd_tasks.store.ids import SKEW, any_id, first_id
from gsd_tasks.store.rows import to_session, to_submission
from gsd_tasks.store.tables import attempts, leases, session_outputs, sessions, workers
from gsd_tasks.store.tables import dependencies as edge
from gsd_tasks.store.transitions import CLAIMABLE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from sqlalchemy import ColumnElement, Connection, ScalarSelect, Select

KEYS_LOCK = 0x6773645F6B657973


def _view() -> Select[Any]:
    """A session with what stands elsewhere while it runs: its last row is counted in the lease."""
    last_seq = func.coalesce(leases.c.last_seq, sessions.c.last_seq).label("last_seq")
    columns = [column for column in sessions.c if column.name not in {"last_seq", "digest"}]
    return (
        select(
            *columns,
            last_seq,
            workers.c.name.label("worker"),
            dependencies.befores(Awaited.COMPLETED).label("after"),
            dependencies.befores(Awaited.ENDED).label("after_any"),
        )
        .join_from(sessions, leases, leases.c.session_id == sessions.c.id, isouter=True)
        .join(workers, workers.c.id == sessions.c.worker_id, isouter=True)
    )


def get(connection: Connection, session_id: SessionId) -> Session | None:
    """One session."""
    row = connection.execute(_view().where(sessions.c.id == session_id)).mappings().one_or_none()
    return None if row is None else to_session(row)


def several(connection: Connection, ids: Sequence[SessionId]) -> dict[SessionId, Session]:
    """Those of these that there are."""
    these = sessions.c.id == any_id(ids)
    return {SessionId(row["id"]): to_session(row) for row in connection.execute(_view().where(these)).mappings()}


def request_of(connection: Connection, session_id: SessionId) -> Submission:
    """What the session was asked for, the values of its variables included, without key and times: to ask it again."""
    row = connection.execute(_view().where(sessions.c.id == session_id)).mappings().one()
    return to_submission(to_session(row, secrets=True))


def by_key(connection: Connection, key: str) -> tuple[SessionId, bytes] | None:
    """The session that an idempotency key belongs to, and the digest of what it was to do."""
    row = connection.execute(select(sessions.c.id, sessions.c.digest).where(sessions.c.key == key)).one_or_none()
    return None if row is None else (SessionId(row.id), bytes(row.digest))


def by_keys(connection: Connection, keys: Sequence[str]) -> dict[str, tuple[SessionId, bytes]]:
    """The same for several, by the key."""
    found = select(sessions.c.key, sessions.c.id, sessions.c.digest)
    rows = connection.execute(found.where(sessions.c.key == any_(literal(list(keys), ARRAY(Text)))))
    return {row.key: (SessionId(row.id), bytes(row.digest)) for row in rows}


def lock_keys(connection: Connection) -> None:
    """For a transaction that writes many keys: two would each wait for a key of the other's, were they not in turn."""
    connection.execute(select(func.pg_advisory_xact_lock(KEYS_LOCK)))


def starting_with(connection: Connection, digits: str, *, limit: int) -> list[SessionId]:
    """Ids whose hexadecimal digits start so, read as a range of the primary key."""
    low, high = UUID(digits.ljust(DIGITS_OF_ID, "0")), UUID(digits.ljust(DIGITS_OF_ID, "f"))
    found = select(sessions.c.id).where(sessions.c.id.between(low, high)).order_by(sessions.c.id).limit(limit)
    return [SessionId(found_id) for found_id in connection.execute(found).scalars()]


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """Which sessions of all: those that have everything that is given. Times are those of their enqueueing."""

    statuses: tuple[Status, ...] = ()
    name: str | None = None
    thread: str | None = None
    parent_id: SessionId | None = None
    queue: str | None = None
    since: datetime | None = None
    until: datetime | None = None

    @property
    def is_narrow(self) -> bool:
        """Whether an index of its own has those that are meant, in the order of their ids, and few others."""
        return not (self.name is None and self.thread is None and self.parent_id is None)

    @property
    def is_by_status(self) -> bool:
        """Whether the indices of the statuses serve better than that of all ids, where much would be passed over."""
        return not self.is_narrow and (bool(self.statuses) or self.queue is not None or self.until is not None)


def listed(connection: Connection, chosen: Chosen, *, before: SessionId | None = None, limit: int) -> list[Session]:
    """The newest first; `before` is the last one of the page before."""
    view = _view().order_by(sessions.c.id.desc()).limit(limit)
    if chosen.is_by_status:
        # A query by itself: joined, all sessions that are newer than the page may be read, to be passed over.
        view = view.where(sessions.c.id == any_(func.array(_newest(chosen, before, limit))))
    else:
        if chosen.statuses:
            view = view.where(sessions.c.status.in_(chosen.statuses))
        view = view.where(*_chosen(chosen, before))
    return [to_session(row) for row in connection.execute(view).mappings()]


def _chosen(chosen: Chosen, before: SessionId | None) -> Iterator[ColumnElement[bool]]:
    """All conditions but that of the status."""
    for column in (sessions.c.name, sessions.c.thread, sessions.c.parent_id, sessions.c.queue):
        wanted = getattr(chosen, column.name)
        if wanted is not None:
            yield column == wanted
    # By the ids as well, which are ordered by time and what a page is read by: all that is older would be read else.
    if chosen.since is not None:
        yield sessions.c.created_at >= chosen.since
        yield sessions.c.id >= first_id(chosen.since - SKEW)
    if chosen.until is not None:
        yield sessions.c.created_at < chosen.until
        yield sessions.c.id < first_id(chosen.until + SKEW)
    if before is not None:
        yield sessions.c.id < before


def _newest(chosen: Chosen, before: SessionId | None, limit: int) -> ScalarSelect[Any]:
    """The ids of a page: the newest of as many of each status as it has rows, by the index of these.

    Of a queue all statuses are asked for, if none is named: whoever has few sessions among a million is found by that.
    """
    of_each = (
        select(sessions.c.id).where(sessions.c.status == status, *_chosen(chosen, before))
        for status in (chosen.statuses or Status)
    )
    pages = (ids.order_by(sessions.c.id.desc()).limit(limit).subquery() for ids in of_each)
    found = union_all(*(select(page.c.id) for page in pages)).subquery()
    return select(found.c.id).order_by(found.c.id.desc()).limit(limit).scalar_subquery()


def want(connection: Connection, session_id: SessionId, wanted: Wanted) -> bool:
    """Ask the holder of a running session for something. False: it is not running, or is to be cancelled already."""
    return _wish(connection, session_id, sessions.c.wanted.is_distinct_from(Wanted.CANCEL), wanted)


def take_back_pause(connection: Connection, session_id: SessionId) -> bool:
    """Let a running session go on that was asked to pause. False: it is not, or its holder has done so already."""
    return _wish(connection, session_id, sessions.c.wanted == Wanted.PAUSE, None)


def _wish(connection: Connection, session_id: SessionId, guard: ColumnElement[bool], wanted: Wanted | None) -> bool:
    statement = (
        update(sessions)
        .where(sessions.c.id == session_id, sessions.c.status == Status.RUNNING, guard)
        .values(wanted=null() if wanted is None else wanted)
        .returning(sessions.c.id)
    )
    return connection.execute(statement).first() is not None


def merge_context(connection: Connection, session_id: SessionId, changes: Mapping[str, Any]) -> bool:
    """Set these keys of the context, leave the others. False: there is no such session."""
    statement = (
        update(sessions)
        .where(sessions.c.id == session_id)
        .values(context=sessions.c.context.op("||")(dict(changes)))
        .returning(sessions.c.id)
    )
    return connection.execute(statement).first() is not None


def delete_ended(connection: Connection, session_id: SessionId) -> bool:
    """The session with its rows, attempts and history. False: it has not ended, is not there, or is waited for in vain.

    What waits for it and for others, too, goes on to wait for those.
    """
    guard = sessions.c.status.in_(FINAL), not_(dependencies.unmet(session_id).exists())
    gone = delete(sessions).where(sessions.c.id == session_id, *guard).returning(sessions.c.id)
    ended = gone.cte("ended")
    rows = delete(session_outputs).where(session_outputs.c.session_id == ended.c.id).returning(session_outputs.c.seq)
    edges = delete(edge).where(edge.c.before_id == ended.c.id).returning(edge.c.session_id)
    statement = select(ended.c.id).add_cte(rows.cte("rows"), edges.cte("edges"))
    while True:
        try:
            return connection.execute(statement).first() is not None
        except (IntegrityError, OperationalError) as error:
            # In this very moment something was enqueued that waits for it: that is seen now. Or those that belong
            # together are deleted at once: each may stand in the other's way, and Postgres lets one of them go on.
            if not isinstance(error.orig, (ForeignKeyViolation, DeadlockDetected)):
                raise


def count_claimable(connection: Connection) -> dict[str, int]:
    """How many sessions could be claimed now, of each queue that has any."""
    counted = select(sessions.c.queue, func.count().label("number")).where(CLAIMABLE).group_by(sessions.c.queue)
    return {row.queue: row.number for row in connection.execute(counted)}


def claimable(connection: Connection, queue: str, *, limit: int) -> list[tuple[SessionId, int]]:
    """(id, priority) of this queue's sessions that could be claimed now, the first to run first."""
    waiting = select(sessions.c.id, sessions.c.priority).where(CLAIMABLE, sessions.c.queue == queue)
    found = waiting.order_by(sessions.c.priority, sessions.c.id).limit(limit)
    return [(SessionId(row.id), row.priority) for row in connection.execute(found)]


def how_ended(connection: Connection, session_id: SessionId, attempt: int) -> tuple[Reason, str | None] | None:
    """Why that attempt ended, and the sentence beside it. None: it has not, or there was none."""
    ended = select(attempts.c.reason, attempts.c.detail).where(
        attempts.c.session_id == session_id, attempts.c.attempt == attempt, attempts.c.reason.is_not(None)
    )
    row = connection.execute(ended).one_or_none()
    return None if row is None else (Reason(row.reason), row.detail)


def rows_before(connection: Connection, session_id: SessionId, attempt: int) -> int:
    """The last row that the session had when this attempt began."""
    first = select(attempts.c.first_seq).where(attempts.c.session_id == session_id, attempts.c.attempt == attempt)
    return (connection.execute(first).scalar_one_or_none() or 1) - 1
