"""What happens to sessions, as those hear of it who listen: its names, and how far each session's rows were given."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from gsd_tasks.domain.errors import InvalidValue
from gsd_tasks.domain.recovery import Recovery
from gsd_tasks.domain.session import HistoryEntry, OutputRow, SessionId
from gsd_tasks.domain.state import Status

OUTPUT: Final = "session:output"
ADOPTED: Final = "session:adopted"
RECOVERED: Final = "recovery:complete"
NAMES: Final = frozenset(
    {"session:enqueued", "session:requeued", "session:started", ADOPTED, OUTPUT, RECOVERED}
    | {f"session:{status}" for status in Status if status not in (Status.QUEUED, Status.RUNNING)}
)


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


Handler: TypeAlias = Callable[[Event], object]


def name_of(entry: HistoryEntry) -> str:
    """`session:started` and so on: what a transition is called."""
    if entry.to_status is Status.QUEUED:
        return "session:enqueued" if entry.from_status is None else "session:requeued"
    if entry.to_status is Status.RUNNING:
        return ADOPTED if entry.from_status is Status.RUNNING else "session:started"
    return f"session:{entry.to_status}"


class Handlers:
    """The functions that are to be called, by the name of the event."""

    def __init__(self) -> None:
        self._handlers: dict[str, list[Handler]] = {}

    def on(self, name: str) -> Callable[[Handler], Handler]:
        """A decorator: call this function for that event. Raises `InvalidValue` for a name that no event has."""
        if name not in NAMES:
            raise InvalidValue("event", f"{name!r} is none of {', '.join(sorted(NAMES))}")

        def register(handler: Handler) -> Handler:
            self._handlers.setdefault(name, []).append(handler)
            return handler

        return register

    def of(self, name: str) -> tuple[Handler, ...]:
        """Those for this event, in the order in which they were registered."""
        return tuple(self._handlers.get(name, ()))


@dataclass(slots=True)
class Places:
    """How far one `listen` has given each session's rows: of those that run, and of those that will run again.

    Remembered over a pause, because who comes late reads the rows of the next attempt before the news of it.
    """

    running: dict[SessionId, int] = field(default_factory=dict)
    resting: dict[SessionId, int] = field(default_factory=dict)

    def begin(self, session_id: SessionId, rows_before: int) -> None:
        """It runs; the rows of this attempt come after so many."""
        given = max(self.running.get(session_id, 0), self.resting.pop(session_id, 0))
        self.running[session_id] = max(given, rows_before)

    def end(self, session_id: SessionId, *, for_good: bool) -> None:
        """It runs no longer; `for_good`: nor will it by itself."""
        given = self.running.pop(session_id, None)
        if for_good:
            self.resting.pop(session_id, None)
        elif given is not None:
            self.resting[session_id] = given
