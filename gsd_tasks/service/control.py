"""What people do to a session from outside: find it, cancel, pause, resume, retry and delete it, note something on it.

What they say to its conversation stands in `service.talk`.

Of a running session cancel and pause are wishes: its holder carries them out, and the wish that stands then counts. A
cancel is never taken back, nor replaced by a pause.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from gsd_tasks.domain.errors import AmbiguousId, NoSuchSession, NotAllowed
from gsd_tasks.domain.session import START_OF_ID, Kind, Session, SessionId, digits_of_id
from gsd_tasks.domain.state import Status, Wanted
from gsd_tasks.domain.submission import check_context
from gsd_tasks.service.dependencies import begin
from gsd_tasks.store import dependencies, leftovers, sessions, transitions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from gsd_tasks.service.announcing import Publish
    from gsd_tasks.store import Connection, Database

#: How a session stands that refuses what was asked, and what to do instead.
_STANDS: Final = {
    Status.QUEUED: ("is queued", "it runs as soon as a worker takes it"),
    Status.RUNNING: ("is running", "wait for its end, or cancel it first"),
    Status.WAITING_CHECKPOINT: ("waits for an answer", "answer it, or cancel it"),
    Status.PAUSED: ("is paused", "resume it"),
    Status.COMPLETED: ("has completed", "a Claude session is resumed with a further prompt, a command enqueued again"),
    Status.FAILED: ("has failed", "retry it"),
    Status.CANCELLED: ("was cancelled", "retry it"),
}


def resolve(connection: Connection, wanted: str | UUID) -> SessionId:
    """The id that `wanted` is, or is the unambiguous start of. Whether a whole id exists is not looked up.

    Raises:
        NoSuchSession, AmbiguousId
    """
    if isinstance(wanted, UUID):
        return SessionId(wanted)
    digits = digits_of_id(wanted)
    if not START_OF_ID.fullmatch(digits):
        raise NoSuchSession(wanted)
    found = sessions.starting_with(connection, digits, limit=4)
    if not found:
        raise NoSuchSession(wanted)
    if len(found) > 1:
        raise AmbiguousId(wanted, tuple(str(candidate) for candidate in found))
    return found[0]


def find(connection: Connection, wanted: str | UUID) -> Session:
    """The session. Raises `NoSuchSession` or `AmbiguousId`."""
    session = sessions.get(connection, resolve(connection, wanted))
    if session is None:
        raise NoSuchSession(str(wanted))
    return session


def check_is_there(connection: Connection, session_id: SessionId) -> None:
    """Raise `NoSuchSession` if it is not there, or not any more."""
    if leftovers.has_gone(connection, session_id):
        raise NoSuchSession(str(session_id))


def cancel(
    database: Database, wanted: str | UUID, ended: Callable[[Iterable[SessionId]], object] = lambda _ids: None
) -> Session:
    """Cancelled at once where nothing runs; else its holder is asked, and ends the child first.

    Cancelling what has ended changes nothing and is no error: the session comes back as it ended. `ended` hears of one
    that this has ended.
    """
    with database.connection() as connection:
        session = find(connection, wanted)
        # It may begin or end to run between two looks: each of the two statements has its own guard.
        while not session.status.is_final and session.wanted is not Wanted.CANCEL:
            if transitions.cancel_idle(connection, session.id):
                ended([session.id])
                return find(connection, session.id)
            if sessions.want(connection, session.id, Wanted.CANCEL):
                return find(connection, session.id)
            session = find(connection, session.id)
    return session


def pause(database: Database, wanted: str | UUID) -> Session:
    """Paused at once where it waits; else its holder is asked, and ends the child first. Pausing twice changes nothing.

    Raises:
        NotAllowed: it has ended, is being cancelled, waits for an answer, or is a command that runs.
    """
    with database.connection() as connection:
        session = find(connection, wanted)
        while not _is_pausing(session):
            if _ask_to_pause(connection, session):
                return find(connection, session.id)
            session = find(connection, session.id)
    return session


def resume(database: Database, publish: Publish, wanted: str | UUID) -> Session:
    """Queued again, if it is paused; a pause that its holder has not carried out yet is taken back.

    What is queued or running anyway stays as it is.

    Raises:
        NotAllowed: it has ended, or waits for an answer.
    """
    with database.connection() as connection:
        session, is_queued_again = find(connection, wanted), False
        while _is_pausing(session) and not is_queued_again:
            if session.status is Status.PAUSED:
                is_queued_again = transitions.resume(connection, session.id)
            else:
                sessions.take_back_pause(connection, session.id)
            session = find(connection, session.id)
    if is_queued_again:
        return begin(database, publish, session)
    if session.status not in {Status.QUEUED, Status.RUNNING}:
        raise refusal(session)
    return session


def retry(database: Database, publish: Publish, wanted: str | UUID) -> Session:
    """Queue what has failed or was cancelled once more, with all of its tries and recoveries.

    Raises:
        NotAllowed: it has completed, or has not ended.
    """
    with database.connection() as connection:
        session, is_queued_again = find(connection, wanted), False
        while session.status in {Status.FAILED, Status.CANCELLED} and not is_queued_again:
            is_queued_again = transitions.retry(connection, session.id)
            session = find(connection, session.id)
    if not is_queued_again:
        raise refusal(session)
    return begin(database, publish, session)


def delete(database: Database, wanted: str | UUID) -> SessionId:
    """Remove an ended session with everything that it printed.

    Raises:
        NotAllowed: it has not ended; or another one is to follow it, which could seem to have nothing to wait for then.
    """
    with database.connection() as connection:
        session = find(connection, wanted)
        if not sessions.delete_ended(connection, session.id):
            raise _not_deleted(connection, session)
        return session.id


def update_context(database: Database, wanted: str | UUID, changes: Mapping[str, Any]) -> Session:
    """Set these keys of the session's context; the others stay."""
    check_context(changes)
    with database.connection() as connection:
        session = find(connection, wanted)
        sessions.merge_context(connection, session.id, changes)
        return find(connection, session.id)


def _not_deleted(connection: Connection, session: Session) -> NotAllowed:
    following = dependencies.in_vain(connection, session.id) if session.status.is_final else None
    if following is None:
        return NotAllowed(str(session.id), f"is {session.status}: cancel it first")
    return NotAllowed(str(session.id), f"session {following} was to follow it, and has not run: delete that one first")


def _is_pausing(session: Session) -> bool:
    return session.status is Status.PAUSED or session.wanted is Wanted.PAUSE


def _ask_to_pause(connection: Connection, session: Session) -> bool:
    """Each of the two statements has its own guard. False: it stands otherwise by now."""
    if session.status is Status.QUEUED:
        return transitions.pause_idle(connection, session.id)
    if session.status is not Status.RUNNING:
        raise refusal(session, "there is nothing to pause")
    if session.wanted is Wanted.CANCEL:
        raise NotAllowed(str(session.id), "is being cancelled: it cannot be paused any more")
    if session.kind is Kind.COMMAND:
        problem = "is a running command, which could not go on where it was: let it run, or cancel it"
        raise NotAllowed(str(session.id), problem)
    return sessions.want(connection, session.id, Wanted.PAUSE)


def refusal(session: Session, instead: str | None = None) -> NotAllowed:
    """How the session stands, and what to do instead."""
    stands, usual = _STANDS[session.status]
    return NotAllowed(str(session.id), f"{stands}: {instead or usual}")
