"""What people say to a conversation after its first prompt: a message, an interrupt, a follow-up; and forking it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from gsd_tasks.domain.errors import NotAllowed
from gsd_tasks.domain.session import Kind
from gsd_tasks.domain.state import FINAL, Status
from gsd_tasks.domain.submission import check_message
from gsd_tasks.service.control import find, refusal
from gsd_tasks.service.dependencies import begin
from gsd_tasks.service.submit import submit
from gsd_tasks.store import messages, sessions, transcript, transitions

if TYPE_CHECKING:
    from uuid import UUID

    from gsd_tasks.domain.session import Session
    from gsd_tasks.service.announcing import Publish
    from gsd_tasks.store import Database

#: What a fork is told where nobody says anything else.
GO_ON: Final = "Go on from here."


def send(database: Database, wanted: str | UUID, text: str) -> tuple[Session, int]:
    """Say something more to a session that has not ended; it, and the message's number.

    The message comes into the conversation once: while a turn runs, at its next step; before it runs or while it is
    paused, as it goes on. One that comes too late for the running child begins another attempt; or, where the session
    has failed meanwhile, waits until it is resumed or retried.

    Raises:
        InvalidValue: it is empty or too long.
        NotAllowed: the session has ended, or is a command.
    """
    check_message(text)
    return _say(database, wanted, text)


def interrupt(database: Database, wanted: str | UUID) -> tuple[Session, int]:
    """End the turn that runs; what was sent before is answered next. Raises `NotAllowed` unless it is running."""
    return _say(database, wanted, None)


def follow_up(database: Database, publish: Publish, wanted: str | UUID, text: str) -> Session:
    """Go on with an ended or paused conversation: the same session, its next attempt.

    Raises:
        InvalidValue: the prompt is empty or too long.
        NotAllowed: it is queued or running, or is a command.
    """
    check_message(text)
    with database.connection() as connection:
        session = find(connection, wanted)
        _check_kind(session)
        while not transitions.follow_up(connection, session.id, text):
            if session.status not in FINAL | {Status.PAUSED}:
                raise refusal(session, "`gsd-tasks send` says something more to it")
            session = find(connection, session.id)
        session = find(connection, session.id)
    return begin(database, publish, session)


def fork(database: Database, publish: Publish, wanted: str | UUID, text: str | None, *, name: str | None) -> Session:
    """A new session that begins with this one's conversation as it stands, and with the same options.

    Raises:
        InvalidValue: the prompt is empty or too long.
        NotAllowed: it is a command, or has said nothing yet.
    """
    if text is not None:
        check_message(text)
    with database.connection() as connection:
        source = find(connection, wanted)
        _check_kind(source)
        if not transcript.can_be_resumed(connection, source.id):
            raise NotAllowed(str(source.id), "has no conversation yet: enqueue another one")
        request = sessions.request_of(connection, source.id)
    again = replace(request, prompt=text or GO_ON, name=name, parent_id=source.id)
    return submit(database, publish, again, forked_from=source.id)


def _say(database: Database, wanted: str | UUID, text: str | None) -> tuple[Session, int]:
    with database.connection() as connection:
        session = find(connection, wanted)
        _check_kind(session)
        while (number := messages.send(connection, session.id, text)) is None:
            _check_listens(session, text)
            session = find(connection, session.id)
        return find(connection, session.id), number


def _check_listens(session: Session, text: str | None) -> None:
    if session.status in FINAL:
        raise refusal(session, "`gsd-tasks resume` goes on with it")
    if text is None and session.status is not Status.RUNNING:
        raise refusal(session, "there is no turn to interrupt")


def _check_kind(session: Session) -> None:
    if session.kind is Kind.COMMAND:
        raise NotAllowed(str(session.id), "is a command: only a Claude session can be talked to")
