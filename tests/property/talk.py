"""What is said to a Claude session, and what its holder writes down of the conversation: more operations."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple

from gsd_tasks.domain.errors import NoSuchSession
from gsd_tasks.domain.session import OnLost, SessionId, Submission
from gsd_tasks.domain.state import FINAL, Reason, Status
from gsd_tasks.domain.transcript import PROMPT, Entry
from gsd_tasks.store import Connection, messages, transcript, transitions
from tests.property import model as modelled
from tests.property.model import Model, Modelled
from tests.property.operations import ByHolder, OfAll, Waits, held_in

#: What came into the conversation while a turn ran.
QUEUED: Final = "attachment"
#: Each line of an attempt's file.
LINE_BYTES: Final = 10
#: A fork's source was deleted. Nothing is written then.
GONE: Final = "the source is gone"
FORK: Final = Submission(prompt="Go on from here", working_dir="/", on_lost=OnLost.REQUEUE)


class Line(NamedTuple):
    """An entry to be appended; it may bring a message into the conversation, as a prompt or while a turn runs."""

    text: str
    kind: str = PROMPT
    uuid: str | None = None
    brings: int | None = None


@dataclass(frozen=True)
class Say(Waits):
    """A message, or an interrupt, which has no words."""

    words: str | None

    def run(self, connection: Connection) -> int | None:
        return messages.send(connection, self.session_id, self.words)

    def apply(self, model: Model) -> int | None:
        session = model.sessions.get(self.session_id)
        listening = {Status.RUNNING} if self.words is None else {Status.QUEUED, Status.RUNNING, Status.PAUSED}
        if session is None or not session.is_claude or session.status not in listening:
            return None
        session.messages.append(self.words)
        return len(session.messages)


@dataclass(frozen=True)
class FollowUp(Waits):
    words: str

    def run(self, connection: Connection) -> bool:
        return transitions.follow_up(connection, self.session_id, self.words)

    def apply(self, model: Model) -> bool:
        session = model.sessions.get(self.session_id)
        if session is None or not session.is_claude or session.status not in {*FINAL, Status.PAUSED}:
            return False
        session.messages.append(self.words)
        session.begin_anew(Reason.FOLLOW_UP)
        return True


@dataclass(frozen=True)
class Fork(Waits):
    """A new session with the conversation of another."""

    source: SessionId

    def run(self, connection: Connection) -> Any:
        request = replace(FORK, parent_id=self.source)
        try:
            born = transitions.enqueue(connection, self.session_id, request, b"", forked_from=self.source)
        except NoSuchSession:
            return GONE
        return born is not None

    def apply(self, model: Model) -> Any:
        source = model.sessions.get(self.source)
        if source is None:
            return GONE
        session = Modelled(OnLost.REQUEUE, FORK.max_tries, FORK.max_recoveries, is_claude=True)
        session.entries = [entry._replace(attempt=0, position=number) for number, entry in enumerate(source.entries, 1)]
        session.move(Status.QUEUED, Reason.ENQUEUED)
        model.sessions[self.session_id] = session
        return True


@dataclass(frozen=True)
class Note(ByHolder):
    """Lines of the attempt's file, from `before` bytes on."""

    before: int
    lines: tuple[Line, ...]

    @property
    def after(self) -> int:
        return self.before + LINE_BYTES * len(self.lines)

    def run(self, connection: Connection) -> bool:
        batch = transcript.Entries()
        for position, line in zip(range(self.before, self.after, LINE_BYTES), self.lines, strict=True):
            batch.add(position, Entry(line.kind, line.uuid), line.text)
        return transcript.append(connection, self.claim, batch, before=self.before, after=self.after)

    def apply(self, model: Model) -> bool:
        session, lease = held_in(model, self.claim)
        if lease is None or lease.transcript_bytes != self.before:
            return False
        session.entries += [
            modelled.Entry(lease.attempt, position, line.kind, line.uuid, line.text)
            for position, line in zip(range(self.before, self.after, LINE_BYTES), self.lines, strict=True)
        ]
        brought = [(line.brings, line.kind) for line in self.lines if line.brings is not None]
        session.delivered |= {number for number, _ in brought}
        session.prompted |= {number for number, kind in brought if kind == PROMPT}
        lease.last_entry, lease.transcript_bytes = len(session.entries), self.after
        return True


@dataclass(frozen=True)
class BeginAt(ByHolder):
    """The attempt's file begins with what Postgres has."""

    size: int

    def run(self, connection: Connection) -> bool:
        return transcript.begin_at(connection, self.claim, self.size)

    def apply(self, model: Model) -> bool:
        _, lease = held_in(model, self.claim)
        if lease is None or lease.transcript_bytes not in {0, self.size}:
            return False
        lease.transcript_bytes = self.size
        return True


@dataclass(frozen=True)
class Listen(OfAll):
    """What a holder looks at before it settles: the newest message, and those that have not come in, in this order."""

    about: SessionId

    def run(self, connection: Connection) -> tuple[int, tuple[int, ...]]:
        newest = messages.newest(connection, self.about)
        return newest, tuple(message.number for message in messages.waiting(connection, self.about))

    def apply(self, model: Model) -> tuple[int, tuple[int, ...]]:
        session = model.sessions.get(self.about)
        return (len(session.messages), session.waiting) if session else (0, ())


def brought_in(connection: Connection, session_id: SessionId, kind: str = PROMPT) -> tuple[Line, ...]:
    """All that waits to come into the conversation, as lines that bring it in."""
    return tuple(
        Line(f"brings {message.number} of {session_id}", kind, str(message.uuid), message.number)
        for message in messages.waiting(connection, session_id)
    )
