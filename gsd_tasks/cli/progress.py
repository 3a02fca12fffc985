"""What happens around a session's output, in words: queued, waiting, started, ended. Each once, on stderr."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from gsd_tasks.domain.errors import NoSuchSession
from gsd_tasks.domain.session import HistoryEntry, Session, WorkerStatus
from gsd_tasks.domain.state import Reason, Status
from gsd_tasks.domain.units import print_time

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from gsd_tasks.cli.screen import Screen
    from gsd_tasks.client import Client
    from gsd_tasks.domain.session import SessionId

#: Of the sessions that one waits for.
_TOLD: Final = 5


class Progress:
    """Reads the history from where it left off, so that nothing is said twice or left out."""

    def __init__(self, client: Client, session: Session, screen: Screen) -> None:
        self._client = client
        self._session = session
        self._screen = screen
        self._told = 0
        self._shown_attempt = 0
        self._shown_seq = 0
        self._explained = 0

    def reached(self, attempt: int, seq: int) -> None:
        """The output is shown up to this row, and the next one is of this attempt or a later one."""
        self._shown_attempt, self._shown_seq = attempt, seq

    def refresh(self) -> None:
        """Say what is new. When there is nothing new and the session still waits: why it does.

        That an attempt has ended is said below the last row of it, however late that is shown.

        Raises:
            Unavailable: the history cannot be read now; nothing is lost by asking again.
        """
        with self._screen.lock:
            history = self._client.history(str(self._session.id))
            nothing_new = len(history) == self._told
            for entry in history[self._told :]:
                if not self._may_say(entry):
                    return
                self._screen.say(in_words(entry))
                self._told += 1
            waits = bool(history) and history[-1].to_status is Status.QUEUED
            if waits and nothing_new and self._explained < self._told:
                self._screen.say(self._why_it_waits())
                self._explained = self._told

    def _may_say(self, entry: HistoryEntry) -> bool:
        has_ended = entry.from_status is Status.RUNNING and entry.to_status is not Status.RUNNING
        if not has_ended or self._shown_attempt > entry.attempt:
            return True
        return self._shown_seq >= self._client.get(str(self._session.id)).seq

    def _why_it_waits(self) -> str:
        session = self._client.get(str(self._session.id))
        if session.waits:
            return self._whom_it_waits_for(session)
        if session.run_at is not None and session.run_at > datetime.now(UTC):
            return f"not before {print_time(session.run_at)}"
        alive = [worker for worker in self._client.workers() if worker.status is WorkerStatus.ALIVE]
        takers = [worker for worker in alive if session.queue in worker.queues]
        if not alive:
            return "no worker is alive: it waits until there is one. `gsd-tasks up` starts one on this machine"
        if not takers:
            return f"no worker that is alive takes from the queue {session.queue!r}: it waits until one does"
        busy, slots = sum(len(worker.busy) for worker in takers), sum(worker.slots for worker in takers)
        return f"waiting for a worker: {busy} of {slots} slots are busy"

    def _whom_it_waits_for(self, session: Session) -> str:
        awaited = [*session.after, *session.after_any]
        if len(awaited) > _TOLD:
            return f"it waits for {len(awaited)} sessions: `gsd-tasks tree {session.id}` shows them"
        told = " and ".join(f"session {other.id} ({other.status})" for other in self._open_ones(awaited))
        return f"it waits for {told}" if told else "it waits for what has just ended"

    def _open_ones(self, awaited: Iterable[SessionId]) -> Iterator[Session]:
        for session_id in awaited:
            # It may have been deleted meanwhile.
            with suppress(NoSuchSession):
                session = self._client.get(str(session_id))
                if not session.status.is_final:
                    yield session


def in_words(entry: HistoryEntry) -> str:
    """One transition as a sentence."""
    because = f": {entry.detail}" if entry.detail else ""
    if entry.reason is Reason.ADOPTED:
        return f"its worker was lost or stopped; it goes on with {entry.worker}, still attempt {entry.attempt}"
    if entry.to_status is Status.RUNNING:
        return f"started on {entry.worker}, attempt {entry.attempt}"
    if entry.to_status is Status.QUEUED and entry.reason is Reason.ENQUEUED:
        return f"session {entry.session_id} is queued"
    if entry.to_status is Status.QUEUED:
        return f"queued again ({entry.reason}){because}"
    if str(entry.reason) == str(entry.to_status):
        return f"{entry.to_status}{because}"
    return f"{entry.to_status} ({entry.reason}){because}"
