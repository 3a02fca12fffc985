"""What happens to all sessions, in order, from a cursor: read from the history, so that nothing is missed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gsd_tasks.domain.events import OUTPUT, RECOVERED, Event, Handlers, Places, name_of
from gsd_tasks.domain.recovery import Recovery
from gsd_tasks.domain.state import Status
from gsd_tasks.service.bell import HISTORY, Ear
from gsd_tasks.store import history, outputs, sessions

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterator

    from gsd_tasks.domain.events import Handler
    from gsd_tasks.domain.session import HistoryEntry, SessionId
    from gsd_tasks.store import Database

PAGE: Final = 500
LOOK_S: Final = 1.0


class Listener:
    """Gives events to whoever asked for them, one after the other, in one thread."""

    def __init__(self, database: Database, redis_url: str) -> None:
        self._database = database
        self._redis_url = redis_url
        self._handlers = Handlers()

    def on(self, name: str) -> Callable[[Handler], Handler]:
        """A decorator: call this function for that event. Raises `InvalidValue` for a name that no event has."""
        return self._handlers.on(name)

    def listen(self, *, after: str | None, stop: threading.Event | None) -> Iterator[Event]:
        """Events after the cursor, without end. What a handler raises comes out here, before its event is yielded."""
        cursor = history.Cursor.parse(after) if after is not None else self._now()
        places = Places()
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

    def _happened(self, entry: HistoryEntry, cursor: str, places: Places) -> Iterator[Event]:
        if self._handlers.of(OUTPUT):
            # What it printed comes before the news that it has ended.
            if entry.session_id in places.running:
                yield from self._rows_of(entry.session_id, cursor, places)
            if entry.to_status is Status.RUNNING:
                places.begin(entry.session_id, self._rows_before(entry))
            else:
                places.end(entry.session_id, for_good=entry.to_status.is_final)
        yield self._told(Event(name=name_of(entry), session_id=entry.session_id, cursor=cursor, entry=entry))

    def _rows_of(self, session_id: SessionId, cursor: str, places: Places) -> Iterator[Event]:
        while True:
            with self._database.connection() as connection:
                rows = outputs.read(connection, session_id, after_seq=places.running[session_id], limit=PAGE)
            if not rows:
                return
            places.running[session_id] = rows[-1].seq
            yield self._told(Event(name=OUTPUT, session_id=session_id, cursor=cursor, rows=tuple(rows)))

    def _told(self, event: Event) -> Event:
        for handler in self._handlers.of(event.name):
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
