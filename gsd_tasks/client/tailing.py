"""What is done with a live stream, apart from reading it: rows out of events, going on after a break, waiting."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, Self, TypeAlias, TypeVar

from gsd_tasks.client import calls
from gsd_tasks.client.sse import Reader
from gsd_tasks.domain.errors import ApiUnavailable, TooMany, Unavailable
from gsd_tasks.domain.events import OUTPUT, RECOVERED, Event, Places
from gsd_tasks.domain.recovery import Recovery
from gsd_tasks.domain.session import HistoryEntry, OutputRow
from gsd_tasks.domain.state import Status
from gsd_tasks.wire.parse import parse

if TYPE_CHECKING:
    from gsd_tasks.client.calls import Call, Given
    from gsd_tasks.client.sse import Message
    from gsd_tasks.domain.session import Session, SessionId

T = TypeVar("T")

#: A stream says something at least every 15 s: when it has said nothing for so long, nobody is there.
SILENT_S: Final = 25.0
#: How soon a broken stream is asked for again, doubling.
FIRST_PAUSE_S: Final = 0.2
LONGEST_PAUSE_S: Final = 2.0
#: Whoever asks to be left alone is, for so long at most.
LONGEST_REST_S: Final = 30.0
#: How long without any success until it is given up.
GIVE_UP_S: Final = 300.0
#: How often the rows of sessions that run are looked for, besides with each event.
LOOK_S: Final = 0.2
PAGE_ROWS: Final = 500
#: The same for a download, which somebody waits for.
RAW_GIVE_UP_S: Final = 30.0
#: What an API answers: all was told; a part, as was asked for; there is no such part.
NO_CONTENT: Final = 204
PARTIAL: Final = 206
NOTHING_MORE: Final = 416
#: The last event of a session's stream: it has ended, and all was told.
END: Final = "end"

#: What there is to do: ask this and send the answer back, or give this event to whoever listens.
Step: TypeAlias = "Call[Any] | Event"
Steps: TypeAlias = Generator[Step, Any, None]


def advance(steps: Steps, answer: object) -> Step | None:
    """What is next, given the answer to what was asked for last; None: nothing is."""
    try:
        return steps.send(answer)
    except StopIteration:
        return None


def is_stream(status: int) -> bool:
    """Whether what follows is what was asked for, if it is anything."""
    return status in {200, NO_CONTENT, PARTIAL, NOTHING_MORE}


class Patience:
    """How long to wait after each failure, until it has been in vain for too long.

    An API that has never answered is not waited for: its address may be wrong.
    """

    def __init__(self, *, give_up_s: float = GIVE_UP_S) -> None:
        self._give_up_s = give_up_s
        self._pause_s = FIRST_PAUSE_S
        self._since: float | None = None
        self._has_answered = False
        self._was_connected = False

    def answered(self) -> Self:
        """Somebody is there."""
        self._has_answered = True
        self._since = None
        return self

    def connected(self) -> None:
        """A stream has begun."""
        self.answered()
        self._was_connected = True

    def worked(self) -> None:
        """And says something."""
        self._pause_s = FIRST_PAUSE_S

    def failed(self, error: Unavailable, now: float) -> float:
        """How many seconds to wait before the next try. Raises the error, when it is no use, or has been too long.

        Of too many streams none is let go by waiting; but one's own, which broke, may not be counted out yet.
        """
        if not self._has_answered or (isinstance(error, TooMany) and not self._was_connected):
            raise error
        if self._since is None:
            self._since = now
        if now - self._since >= self._give_up_s:
            raise ApiUnavailable(f"{error} (given up after {self._give_up_s:g} s)") from error
        pause_s, self._pause_s = self._pause_s, min(2 * self._pause_s, LONGEST_PAUSE_S)
        return max(pause_s, min(error.retry_after_s or 0.0, LONGEST_REST_S))


class Tail:
    """One session's rows, out of the events of its stream."""

    def __init__(self, session: Session, *, after_seq: int, stream: str | None) -> None:
        self._stream = stream
        self._after_seq = after_seq
        self.patience = Patience().answered()
        self._call = calls.events(session.id)
        # The API refuses a place that lies ahead of all that there is.
        self._last_id = f"{min(after_seq, session.seq)}.0"
        self._reader = Reader()
        self.has_ended = False

    def call(self) -> Call[bytes]:
        """For the rest of the stream, which begins anew."""
        self._reader = Reader()
        return replace(self._call, query=(("after", self._last_id),))

    def rows(self, piece: bytes) -> Iterator[OutputRow]:
        """The rows in this piece of the stream that were asked for."""
        for message in self._reader.feed(piece):
            self._last_id = message.last_id or self._last_id
            if message.name == END:
                self.has_ended = True
            elif message.name == OUTPUT:
                row = parse(OutputRow, message.data)
                if row.seq > self._after_seq and self._stream in {None, row.stream}:
                    yield row


class Feed:
    """What happens to all sessions, out of the events of the stream of that; and the rows of those that run.

    Rows are looked for only if `wants_rows`. What a session printed is told before the news that it has ended.
    """

    def __init__(self, after: str | None, *, wants_rows: Callable[[], bool]) -> None:
        self.patience = Patience()
        self._last_id = after or ""
        self._wants_rows = wants_rows
        self._places = Places()
        self._reader = Reader()

    def call(self) -> Call[bytes]:
        """For what comes next, in a stream that begins anew."""
        self._reader = Reader()
        return replace(calls.all_events(), query=(("after", self._last_id),) if self._last_id else ())

    def heard(self, answer: T) -> T:
        """An answer to one of the steps."""
        self.patience.answered()
        return answer

    def steps(self, piece: bytes | None) -> Steps:
        """What a piece of the stream, or None for its silence, is to those who listen."""
        for message in self._reader.feed(piece or b""):
            yield from self._happened(message)
        # The API says where the stream begins, so that one that breaks before anything happened goes on there.
        self._last_id = self._reader.last_id or self._last_id
        for session_id in list(self._places.running):
            yield from self._rows_of(session_id, self._last_id)

    def _happened(self, message: Message) -> Steps:
        self._last_id = cursor = message.last_id
        if message.name == RECOVERED:
            recovery = parse(Recovery, message.data)
            yield Event(name=message.name, session_id=None, cursor=cursor, recovery=recovery)
            return
        entry = parse(HistoryEntry, message.data)
        if self._wants_rows():
            yield from self._move(entry, cursor)
        yield Event(name=message.name, session_id=entry.session_id, cursor=cursor, entry=entry)

    def _move(self, entry: HistoryEntry, cursor: str) -> Steps:
        if entry.session_id in self._places.running:
            yield from self._rows_of(entry.session_id, cursor)
        if entry.to_status is Status.RUNNING:
            attempts = yield calls.attempts(entry.session_id)
            first = next((attempt.first_seq for attempt in attempts if attempt.attempt == entry.attempt), 1)
            self._places.begin(entry.session_id, first - 1)
        else:
            self._places.end(entry.session_id, for_good=entry.to_status.is_final)

    def _rows_of(self, session_id: SessionId, cursor: str) -> Steps:
        while True:
            after_seq = self._places.running[session_id]
            rows = yield calls.output(session_id, after_seq=after_seq, limit=PAGE_ROWS, stream=None)
            if not rows:
                return
            self._places.running[session_id] = rows[-1].seq
            yield Event(name=OUTPUT, session_id=session_id, cursor=cursor, rows=tuple(rows))


class Waiting:
    """Waits for a session's end, by calls that the API answers late."""

    def __init__(self, session: Session, timeout_s: float | None, now: float) -> None:
        self.session = session
        self._timeout_s = timeout_s
        self._give_up_at = None if timeout_s is None else now + timeout_s
        self._patience = Patience().answered()

    def call(self, now: float) -> Call[Session] | None:
        """What to ask next; None: it has ended. Raises `TimeoutError` when it is time."""
        if self.session.status.is_final:
            return None
        left_s = self._left_s(now)
        if left_s <= 0:
            raise TimeoutError(f"session {self.session.id} is {self.session.status} after {self._timeout_s:g} s")
        return calls.ended(self.session.id, min(left_s, calls.WAIT_S))

    def heard(self, session: Session) -> None:
        """As it is now."""
        self.session = session
        self._patience = Patience().answered()

    def failed(self, error: Unavailable, now: float) -> float:
        """How many seconds to wait before the next try. Raises `ApiUnavailable` when it has been too long."""
        return max(0.0, min(self._patience.failed(error, now), self._left_s(now)))

    def _left_s(self, now: float) -> float:
        return calls.WAIT_S if self._give_up_at is None else self._give_up_at - now


class Raw:
    """The bytes that a session wrote, in pieces that go on where they broke off."""

    def __init__(self, wanted: Given, stream: str | None) -> None:
        self._call = calls.raw_output(wanted, stream)
        self._patience = Patience(give_up_s=RAW_GIVE_UP_S)
        self._given = 0
        self._skip = 0
        self.has_ended = False

    def call(self) -> Call[bytes]:
        """For what is not there yet."""
        headers = (("Range", f"bytes={self._given}-"),) if self._given else ()
        return replace(self._call, headers=headers)

    def begin(self, status: int) -> None:
        """An answer has begun."""
        self._patience.connected()
        self.has_ended = status == NOTHING_MORE
        # One that knows no ranges begins at the beginning.
        self._skip = 0 if status == PARTIAL else self._given

    def take(self, piece: bytes) -> bytes:
        """What is new in it."""
        new = piece[self._skip :]
        self._skip -= len(piece) - len(new)
        self._given += len(new)
        return new

    def failed(self, error: Unavailable, now: float) -> float:
        """How many seconds to wait before the next try. Raises `ApiUnavailable` when it has been too long."""
        return self._patience.failed(error, now)
