"""Writing down traces: of each session that has ended, by whoever ended it, from what Postgres has of it.

Whoever ends a session only says so (`ended`), which takes no time and never fails. A thread reads the record and sends
the spans. What cannot be sent is dropped: nothing waits for a collector, but a process that ends, and that for
`FLUSH_S` at most.
"""

from __future__ import annotations

import queue
import threading
import time
from typing import TYPE_CHECKING, Final

from gsd_tasks.domain.tracing import spans_of
from gsd_tasks.store import traces
from gsd_tasks.telemetry import get_log
from gsd_tasks.telemetry.otlp import Exporter, is_on

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gsd_tasks.domain.session import SessionId
    from gsd_tasks.store import Database

LOG: Final = "tracing"
#: Sessions whose traces wait to be sent. More are not remembered.
MOST: Final = 1000
#: What a process that ends gives a collector.
FLUSH_S: Final = 2.0


class Tracer:
    """One of these per database. It begins when the first session ends."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiting: queue.Queue[SessionId | None] = queue.Queue(MOST)
        self._thread = threading.Thread(target=self._run, name="gsd-tracer", daemon=True)
        self._starting = threading.Lock()
        self._dropped = 0
        self._is_stopping = False

    def ended(self, session_ids: Iterable[SessionId]) -> None:
        """These have ended. Returns at once, whatever becomes of their traces."""
        if not is_on() or self._is_stopping:
            return
        with self._starting:
            if self._thread.ident is None:
                self._thread.start()
        for session_id in session_ids:
            try:
                self._waiting.put_nowait(session_id)
            except queue.Full:
                self._dropped += 1

    def stop(self) -> None:
        """Send what waits, for `FLUSH_S` at most. Call it before the database is closed."""
        self._is_stopping = True
        if self._thread.ident is None:
            return
        give_up_at = time.monotonic() + FLUSH_S
        try:
            self._waiting.put(None, timeout=FLUSH_S)
        except queue.Full:
            return
        self._thread.join(max(0.0, give_up_at - time.monotonic()))
        if self._thread.is_alive():
            get_log(LOG).warning("traces are given up", sessions=self._waiting.qsize())

    def _run(self) -> None:
        exporter: Exporter | None = None
        while (session_id := self._waiting.get()) is not None:
            try:
                exporter = exporter or Exporter()
                self._write(exporter, session_id)
            except Exception as error:  # noqa: BLE001  (a loop's boundary: a trace is never worth more than a line)
                get_log(LOG).warning("no trace", session=str(session_id), why=f"{type(error).__name__}: {error}")
        if exporter is not None:
            exporter.close()

    def _write(self, exporter: Exporter, session_id: SessionId) -> None:
        with self._database.connection() as connection:
            story = traces.story(connection, session_id)
        spans = [] if story is None else spans_of(story)
        if spans and not exporter.export(spans):
            get_log(LOG).warning("no trace", session=str(session_id), why="the collector has not taken it")
        if self._dropped:
            dropped, self._dropped = self._dropped, 0
            get_log(LOG).warning("the collector is too slow: traces are dropped", sessions=dropped)
