"""What a follower is told next, read from Postgres and encoded, many events at a time. Synchronous: for a thread."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Generic, Protocol, TypeVar

from gsd_tasks.domain.errors import InvalidValue, NoSuchSession
from gsd_tasks.domain.events import RECOVERED, name_of
from gsd_tasks.domain.recovery import Recovery
from gsd_tasks.domain.session import OutputRow
from gsd_tasks.http.live import sse
from gsd_tasks.http.live.row_events import row_event
from gsd_tasks.http.live.story import Position, tell
from gsd_tasks.store import heads, history, leftovers, outputs
from gsd_tasks.store.history import Cursor
from gsd_tasks.wire.plain import plain

if TYPE_CHECKING:
    from gsd_tasks.domain.session import HistoryEntry, SessionId
    from gsd_tasks.store import Connection, Database

P = TypeVar("P")

#: A page of rows ends at a multiple of this, so that followers who come from different places meet.
ROWS: Final = 512
#: No row begins after so many bytes of them; a row has 1 MiB at most.
ROW_BYTES: Final = 128 * 1024
ENTRIES: Final = 500


@dataclass(frozen=True, slots=True)
class Page(Generic[P]):
    """Events as bytes, and the position after them.

    `is_last`: nothing followed them when it was read, or nothing up to the bound. `has_ended`: nothing ever will, as
    it stands.
    """

    body: bytes
    position: P
    is_last: bool = True
    has_ended: bool = False


class Pages(Protocol[P]):
    """Something that can be followed. Positions are values, and equal when the same follows them."""

    def check(self, position: P) -> None:
        """Raise `InvalidValue` for a position that nobody can have been given."""

    def read(self, position: P, bound: P | None) -> Page[P]:
        """What follows `position`; with a bound, a position further on that was read to, no further than that."""

    def is_behind(self, position: P, other: P) -> bool:
        """Whether `other` can be reached from `position`, and is not the same."""


class SessionPages:
    """A session's rows and transitions."""

    def __init__(self, database: Database, session_id: SessionId) -> None:
        self._database = database
        self._id = session_id

    def check(self, position: Position) -> None:
        """Raises also `NoSuchSession`."""
        with self._database.connection() as connection:
            head = heads.of_sessions(connection, [self._id]).get(self._id)
        if head is None:
            raise NoSuchSession(str(self._id))
        if position.seq > head.seq or position.history_id > head.history_id:
            raise InvalidValue("after", f"{position} lies ahead of all that has happened")

    def read(self, position: Position, bound: Position | None) -> Page[Position]:
        with self._database.connection() as connection:
            # The transitions first: see `story.tell`.
            stood, entries = history.since(connection, self._id, position.history_id, limit=ENTRIES)
            rows, has_all_rows = self._rows(connection, position.seq, bound)
            last = entries[-1] if entries else stood
            # Removed while it was read, it seems to have ended with fewer rows than it had: then no end is told.
            is_over = last is None or (last.to_status.is_final and has_all_rows)
            if is_over and leftovers.has_gone(connection, self._id):
                return Page(b"", position, has_ended=True)
        if last is None:
            return Page(b"", position, has_ended=True)
        has_all_entries = len(entries) < ENTRIES or (bound is not None and last.id >= bound.history_id)
        if bound is not None:
            entries = [entry for entry in entries if entry.id <= bound.history_id]
        told = list(tell(position, stood, entries, rows, has_all_rows=has_all_rows, has_all_entries=has_all_entries))
        body = _events(told)
        after = told[-1][0] if told else position
        if last.to_status.is_final and last.id == after.history_id and has_all_rows:
            end = sse.event(sse.END, after, {"status": last.to_status.value, "reason": last.reason.value})
            return Page(body + end, after, has_ended=True)
        return Page(body, after, is_last=has_all_rows and has_all_entries)

    def is_behind(self, position: Position, other: Position) -> bool:
        return position != other and position.seq <= other.seq and position.history_id <= other.history_id

    def _rows(self, connection: Connection, after_seq: int, bound: Position | None) -> tuple[list[OutputRow], bool]:
        """The next rows, and whether they are all, up to the bound if there is one."""
        limit = 2 * ROWS - after_seq % ROWS
        wanted = limit if bound is None else min(limit, bound.seq - after_seq)
        if wanted == 0:
            return [], True
        rows = outputs.read(connection, self._id, after_seq=after_seq, limit=wanted, largest_bytes=ROW_BYTES)
        if bound is not None and len(rows) == wanted < limit:
            return rows, True
        return rows, len(rows) < limit and sum(len(row.body) for row in rows) < ROW_BYTES


class StatusPages:
    """Whether a session has ended: nothing is told, and `has_ended` says it."""

    def __init__(self, database: Database, session_id: SessionId) -> None:
        self._database = database
        self._id = session_id

    def check(self, position: None) -> None:
        """Any will do."""

    def read(self, position: None, bound: None) -> Page[None]:  # noqa: ARG002 (there is but one position)
        with self._database.connection() as connection:
            head = heads.of_sessions(connection, [self._id]).get(self._id)
        return Page(b"", None, has_ended=head is None or head.status.is_final)

    def is_behind(self, position: None, other: None) -> bool:  # noqa: ARG002
        return False


class HistoryPages:
    """The transitions and recoveries of all sessions."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def check(self, position: Cursor) -> None:
        now = self.now()
        if position.low > position.high or position.high > now.high:
            raise InvalidValue("after", f"{position} lies ahead of all that has happened")

    def now(self) -> Cursor:
        """What follows is all that happens from now on."""
        with self._database.connection() as connection:
            return history.now(connection)

    def read(self, position: Cursor, bound: Cursor | None) -> Page[Cursor]:
        horizon = None if bound is None else bound.high
        with self._database.connection() as connection:
            happened, after = history.read(connection, position, limit=ENTRIES, horizon=horizon)
        return Page(_events(happened), after, is_last=len(happened) < ENTRIES)

    def is_behind(self, position: Cursor, other: Cursor) -> bool:
        return position != other and position.high <= other.high


def _events(told: Iterable[tuple[object, OutputRow | HistoryEntry | Recovery]]) -> bytes:
    return b"".join(_event(place, what) for place, what in told)


def _event(place: object, what: OutputRow | HistoryEntry | Recovery) -> bytes:
    if isinstance(what, OutputRow):
        return row_event(place, what)
    return sse.event(RECOVERED if isinstance(what, Recovery) else name_of(what), place, plain(what))
