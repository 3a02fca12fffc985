"""What happens to all sessions, in order, from a cursor: read from the history, so that nothing is missed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from gsd_tasks.domain.errors import InvalidValue
from gsd_tasks.domain.recovery import Recovery
from gsd_tasks.domain.state import Status
from gsd_tasks.service.bell import HISTORY, Ear
from gsd_tasks.store import history, outputs, sessions

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterator

    from gsd_tasks.domain.session import HistoryEntry, OutputRow, SessionId
    from gsd_tasks.store import Database

PAGE: Final = 500
LOOK_S: Final = 1.0
OUTPUT: Final = "session:output"
ADOPTED: Final = "session:adopted"
RECOVERED: Final = "recovery:complete"


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened: a transition (`entry`), new rows of a running session (`rows`), or a `recovery`.

    `cursor` goes on after it. Rows are given from where the listener first saw the session run. A recovery comes after
    the transitions that it consists of, and belongs to no one session: its `session_id` is None.
    """

    name: str
    session_id: SessionId | None
    cursor: str
    entry: HistoryEntry | None = None
    rows: tuple[OutputRow, ...] = ()
    recovery: Recovery | None = None


@dataclass(slots=True)
class _Places:
    """How far one `listen` has given each session's rows: of those that run, and of those that will run again.

    Remembered over a pause, because who comes late reads the rows of the next attempt before the news of it.
    """

    running: dict[SessionId, int] = field(default_factory=dict)
    resting: dict[SessionId, int] = field(default_factory=dict)

    def begin(self, session_id: SessionId, rows_before: int) -> None:
        given = max(self.running.get(session_id, 0), self.resting.pop(session_id, 0))
        self.running[session_id] = max(given, rows_before)

    def end(self, session_id: SessionId, *, for_good: bool) -> None:
        given = self.running.pop(session_id, None)
        if for_good:
            self.resting.pop(session_id, None)
        elif given is not None:
            self.resting[session_id] = given


def name_of(entry: HistoryEntry) -> str:
    """`session:started` and so on: what a transition is called."""
    if entry.to_status is Status.QUEUED:
        return "session:enqueued" if entry.from_status is None else "session:requeued"
    if entry.to_status is Status.RUNNING:
        return ADOPTED if entry.from_status is Status.RUNNING else "session:started"
    return f"session:{entry.to_status}"


NAMES: Final = frozenset(
    {"session:enqueued", "session:requeued", "session:started", ADOPTED, OUTPUT, RECOVERED}
    | {f"session:{status}" for status in Status if status not in (Status.QUEUED, Status.RUNNING)}
)


class Listener:
    """Gives events to whoever asked for them, one after the other, in one thread."""

    def __init__(self, database: Database, redis_url: str) -> None:
        self._database = database
        self._redis_url = redis_url
        self._handlers: dict[str, list[Callable[[Event], object]]] = {}

    def on(self, name: str) -> Callable[[Callable[[Event], object]], Callable[[Event], object]]:
        """A decorator: call this function for that event. Raises `InvalidValue` for a name that no event has."""
        if name not in NAMES:
            raise InvalidValue("event", f"{name!r} is none of {', '.join(sorted(NAMES))}")

        def register(handler: Callable[[Event], object]) -> Callable[[Event], object]:
            self._handlers.setdefault(name, []).append(handler)
            return handler

        return register

    def listen(self, *, after: str | None, stop: threading.Event | None) -> Iterator[Event]:
        """Events after the cursor, without end. What a handler raises comes out here, before its event is yielded."""
        cursor = history.Cursor.parse(after) if after is not None else self._now()
        places = _Places()
        with Ear(self._redis_url, HISTORY) as ear:
            ear.listen()
            while stop is None or not stop.is_set():
                entries, following = self._read(cursor)
                for place, happened in entries:
                    if isinstance(happened, Recovery):
                        yield self._told(Event(name=RECOVERED, session_id=None, cursor=str(place), recovery=happened))
                    else:
                        yield from self._happened(happened, str(place), places)
                cursor = following
                for session_id in list(places.running):
                    yield from self._rows_of(session_id, str(cursor), places)
                if not entries:
                    ear.wait(LOOK_S / 5 if places.running else LOOK_S)

    def _happened(self, entry: HistoryEntry, cursor: str, places: _Places) -> Iterator[Event]:
        if OUTPUT in self._handlers:
            # What it printed comes before the news that it has ended.
            if entry.session_id in places.running:
                yield from self._rows_of(entry.session_id, cursor, places)
            if entry.to_status is Status.RUNNING:
                places.begin(entry.session_id, self._rows_before(entry))
            else:
                places.end(entry.session_id, for_good=entry.to_status.is_final)
        yield self._told(Event(name=name_of(entry), session_id=entry.session_id, cursor=cursor, entry=entry))

    def _rows_of(self, session_id: SessionId, cursor: str, places: _Places) -> Iterator[Event]:
        while True:
            with self._database.connection() as connection:
                rows = outputs.read(connection, session_id, after_seq=places.running[session_id], limit=PAGE)
            if not rows:
                return
            places.running[session_id] = rows[-1].seq
            yield self._told(Event(name=OUTPUT, session_id=session_id, cursor=cursor, rows=tuple(rows)))

    def _told(self, event: Event) -> Event:
        for handler in self._handlers.get(event.name, ()):
            handler(event)
        return event

    def _rows_before(self, entry: HistoryEntry) -> int:
        """Where this attempt's rows begin."""
        with self._database.connection() as connection:
            return sessions.rows_before(connection, entry.session_id, entry.attempt)

    def _now(self) -> history.Cursor:
        with self._database.connection() as connection:
            return history.now(connection)

    def _read(self, cursor: history.Cursor) -> tuple[list[tuple[history.Cursor, history.Happened]], history.Cursor]:
        with self._database.connection() as connection:
            return history.read(connection, cursor, limit=PAGE)
