"""What happened to sessions, for whoever shows it: what lies behind first, and then all that comes, as it comes.

Read from Postgres alone. A database that is away is waited for, and what happened meanwhile comes afterwards.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from gsd_tasks.domain.session import HistoryEntry
from gsd_tasks.service.bell import HISTORY, Ear
from gsd_tasks.store import history, schema, showing
from gsd_tasks.store.showing import Label
from gsd_tasks.telemetry import get_log

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterator

    from gsd_tasks.domain.session import SessionId
    from gsd_tasks.store import Connection, Database

PAGE: Final = 500
LOOK_S: Final = 1.0
PAUSE_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class Page:
    """Some entries in order, each with the label of its session. `is_past`: they happened before anybody looked."""

    entries: tuple[tuple[HistoryEntry, Label], ...]
    is_past: bool


class Showing:
    """One reader's way through it, from the `latest` newest sessions on. For one thread."""

    def __init__(self, database: Database, redis_url: str, *, latest: int) -> None:
        self._database = database
        self._redis_url = redis_url
        self._latest = latest
        self._cursor: history.Cursor | None = None
        self._past: deque[SessionId] = deque()
        self._told: dict[SessionId, int] = {}  # the last entry of each that was read as past

    def pages(self, stop: threading.Event) -> Iterator[Page]:
        """Without end, until `stop` is set; looks at it once a second or so. No entry comes twice."""
        log, is_away = get_log("showing"), False
        with Ear(self._redis_url, HISTORY) as ear:
            while not stop.is_set():
                try:
                    page = self._next()
                except Exception as error:  # noqa: BLE001  (the loop's boundary: what is shown would stand still)
                    if not is_away:
                        log.warning("what happens is not shown", why=" ".join(str(error).split()))
                    is_away = True
                    stop.wait(PAUSE_S)
                    continue
                is_away = False
                if page is None:
                    ear.wait(LOOK_S)
                elif page.entries:
                    yield page

    def _next(self) -> Page | None:
        """None: nothing has happened."""
        with self._database.connection() as connection:
            if self._cursor is None:
                schema.check(connection)
                # Before the past is read: what happens in between comes after it.
                cursor = history.now(connection)
                self._past.extend(showing.latest(connection, self._latest))
                self._cursor = cursor
            return self._read_past(connection) if self._past else self._read_on(connection, self._cursor)

    def _read_past(self, connection: Connection) -> Page:
        chosen = [self._past[index] for index in range(min(PAGE, len(self._past)))]
        entries = history.of_sessions(connection, chosen)
        page = Page(_labelled(connection, entries), is_past=True)
        for _ in chosen:
            self._past.popleft()
        self._told |= {entry.session_id: entry.id for entry in entries}
        return page

    def _read_on(self, connection: Connection, cursor: history.Cursor) -> Page | None:
        found, following = history.read(connection, cursor, limit=PAGE)
        entries = [
            happened
            for _, happened in found
            if isinstance(happened, HistoryEntry) and happened.id > self._told.get(happened.session_id, 0)
        ]
        page = Page(_labelled(connection, entries), is_past=False)
        self._cursor = following
        return page if found else None


def _labelled(connection: Connection, entries: list[HistoryEntry]) -> tuple[tuple[HistoryEntry, Label], ...]:
    """One whose session is gone is left out."""
    labels = showing.labels(connection, {entry.session_id for entry in entries}) if entries else {}
    return tuple((entry, labels[entry.session_id]) for entry in entries if entry.session_id in labels)
