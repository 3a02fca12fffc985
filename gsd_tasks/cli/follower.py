"""The thread that shows a session's output while the main thread minds the signals."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from queue import SimpleQueue
from typing import TYPE_CHECKING, Final

from gsd_tasks.domain.errors import Unavailable

if TYPE_CHECKING:
    from gsd_tasks.cli.display import Display
    from gsd_tasks.cli.progress import Progress
    from gsd_tasks.cli.screen import Screen
    from gsd_tasks.client import Client
    from gsd_tasks.domain.session import OutputRow, Session

# The session runs on without us: a database that fails over, or restarts, is waited for.
AWAY_BOUND_S: Final = 600
_AGAIN_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Ended:
    """Everything was shown; this is what became of the session."""

    session: Session


@dataclass(frozen=True, slots=True)
class Broke:
    """The thread ended by this error."""

    error: Exception


class Follower:
    """`Ended` or `Broke` is its last word, in `events`. `stop` may be called at any time, and more than once."""

    def __init__(self, client: Client, session: Session, screen: Screen, display: Display, progress: Progress) -> None:
        self._client = client
        self._id = str(session.id)
        self._screen = screen
        self._display = display
        self._progress = progress
        self._stopping = threading.Event()
        self._seq = 0
        self._attempt = 0
        self._away_since: float | None = None

    def start(self, events: SimpleQueue[object]) -> None:
        """Begin with the first row."""
        self._thread = threading.Thread(target=self._run, args=(events,), name="follower", daemon=True)
        self._thread.start()

    def stop(self, within_s: float) -> bool:
        """Ask it to end; whether it has."""
        self._stopping.set()
        self._thread.join(within_s)
        return not self._thread.is_alive()

    def _run(self, events: SimpleQueue[object]) -> None:
        try:
            events.put(Ended(self._follow()))
        except Exception as error:  # noqa: BLE001 - the main thread raises it again
            events.put(Broke(error))

    def _follow(self) -> Session:
        while True:
            try:
                for row in self._client.follow(self._id, after_seq=self._seq, stop=self._stopping):
                    self._show(row)
                self._display.finish()
                session = self._client.get(self._id)
                if session.status.is_final or self._stopping.is_set():
                    return session
            except Unavailable as error:
                self._bear(error)
            self._stopping.wait(_AGAIN_S)

    def _show(self, row: OutputRow) -> None:
        with self._screen.lock:
            if row.attempt != self._attempt:
                # So that "started" stands above what was written after it.
                self._progress.reached(row.attempt, self._seq)
                self._progress.refresh()
                self._attempt = row.attempt
            self._display.show(row)
            self._progress.reached(row.attempt, row.seq)
        self._seq = row.seq
        self._away_since = None

    def _bear(self, error: Unavailable) -> None:
        if self._away_since is None:
            self._away_since = time.monotonic()
            self._screen.say(f"{error} (the session goes on; trying again)")
        if self._stopping.is_set() or time.monotonic() - self._away_since > AWAY_BOUND_S:
            raise error
