"""How a Claude session's attempt begins: with its first prompt, or where its conversation stands.

Which one it is, is read from Postgres alone, so any worker can go on with any conversation. What people have said and
the conversation does not have yet is said first thing. If something was under way when the last attempt ended, the
conversation is told so: a tool call may have taken effect without its result having been recorded.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from uuid import UUID, uuid5

from gsd_tasks.domain.errors import Fenced
from gsd_tasks.domain.session import SnapshotReason
from gsd_tasks.domain.state import Reason
from gsd_tasks.domain.transcript import ANSWER, Standing, notice, standing_of, user_message
from gsd_tasks.process.record import write_record
from gsd_tasks.store import messages, sessions, snapshots, transcript

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from gsd_tasks.domain.session import SessionId
    from gsd_tasks.store import Claim, Connection, Database

#: How the last attempt ended, in words for the model. What is not here has a sentence of its own.
WHY: Final = {
    Reason.LEASE_LOST: "its worker or host was lost",
    Reason.CHILD_LOST: "its process was killed",
    Reason.WORKER_STOPPED: "its worker was stopped",
    Reason.PAUSED: "it was paused",
    Reason.CANCELLED: "it was cancelled",
    Reason.INTERRUPTED: "somebody interrupted it",
    Reason.TIMEOUT: "its time was over",
    Reason.IDLE_TIMEOUT: "it had printed nothing for too long",
    Reason.OUTPUT_LIMIT: "it had printed too much",
    Reason.MAX_TURNS: "its turns were used up",
    Reason.MAX_BUDGET: "its budget was used up",
    Reason.RATE_LIMITED: "the API limits how much may be asked for",
    Reason.OVERLOADED: "the API was overloaded",
    Reason.API_FAILED: "the API failed",
    Reason.UNREACHABLE: "the API could not be reached",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Beginning:
    """What a Claude child is started with.

    `stdin` brings `said` messages, `messages` is the number of the last one. `record_bytes` is the length of the record
    from which it goes on.
    """

    resumes: bool
    stdin: bytes
    said: int
    messages: int
    record_bytes: int


def begin(
    database: Database, claim: Claim, private_dir: Path, turned: Callable[[], None], *, kept: int | None = None
) -> Beginning:
    """Where the session stands, as a record in `private_dir` and as the first lines of the child's standard input.

    Doing it again does no harm. `turned` is called now and then; `kept` is how many automatic snapshots stay. Raises
    `DatabaseUnavailable`, `Fenced`, `OSError`.
    """
    session = claim.session
    with database.connection() as connection:
        resumes, size = transcript.can_be_resumed(connection, session.id), 0
        if resumes:
            snapshots.take(connection, session.id, SnapshotReason.BEFORE_REQUEUE, kept=kept)
            size = write_record(private_dir, session.id, _lines(connection, session.id, turned))
            if not transcript.begin_at(connection, claim, size):
                raise Fenced(f"session {session.id} was taken before its child began")
        waiting = messages.waiting(connection, session.id)
        standing = standing_of(transcript.last(connection, session.id) or "") if resumes else None
        why = _why(connection, claim) if resumes else ""
    said = [(message.uuid, message.text or "") for message in waiting]
    if standing is not None:
        said = _going_on(said, standing, uuid5(session.id, f"attempt {claim.attempt}"), why)
    stdin = b"".join(user_message(uuid, text) for uuid, text in said)
    # What has a lower number is in the conversation, or was an interrupt of an attempt that is over.
    numbers = [session.messages, *(message.number for message in waiting)]
    return Beginning(resumes=resumes, stdin=stdin, said=len(said), messages=max(numbers), record_bytes=size)


def _going_on(said: list[tuple[UUID, str]], standing: Standing, own: UUID, why: str) -> list[tuple[UUID, str]]:
    """What a conversation is told that goes on; `own` is the uuid of what nobody but us has to say."""
    if standing is not Standing.UNDER_WAY and said:
        return said
    if standing is Standing.UNANSWERED:
        return [(own, ANSWER)]
    # In one message with what is said anyway: as one of its own it would cost a turn.
    uuid, text = said[0] if said else (own, "")
    return [(uuid, notice(why, text)), *said[1:]]


def _lines(connection: Connection, session_id: SessionId, turned: Callable[[], None]) -> Iterator[str]:
    for page in transcript.live(connection, session_id):
        turned()
        yield from (line.text for line in page)


def _why(connection: Connection, claim: Claim) -> str:
    """A few words for how the attempt before this one ended."""
    ended = sessions.how_ended(connection, claim.session.id, claim.attempt - 1)
    if ended is None:
        return "it is the copy of a session that was at work"
    reason, detail = ended
    return WHY.get(reason) or detail or str(reason)
