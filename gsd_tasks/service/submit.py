"""Step 1: a request becomes a queued session, and a message says so."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol

import uuid_utils.compat as uuid_utils

from gsd_tasks.domain.credentials import are_there, may_come_with
from gsd_tasks.domain.errors import BrokerUnavailable, KeyReused, NoCredentials, NoSuchSession
from gsd_tasks.domain.session import Kind, SessionId
from gsd_tasks.domain.submission import digest, validate
from gsd_tasks.store import nodes, sessions, transitions
from gsd_tasks.telemetry import get_log

if TYPE_CHECKING:
    from gsd_tasks.domain.session import Session, Submission
    from gsd_tasks.store import Connection, Database


class Publish(Protocol):
    """Sends the message that lets a worker look at a session. Raises `BrokerUnavailable`."""

    def __call__(self, session_id: SessionId, *, queue: str, priority: int) -> None: ...


def submit(
    database: Database, publish: Publish, request: Submission, *, forked_from: SessionId | None = None
) -> Session:
    """Write the session, commit, publish. A key that was used for the very same request answers with its session.

    With `forked_from` it begins with that session's conversation.

    Without Redis the session is written all the same: the re-publisher sends the message when Redis is back.

    Raises:
        InvalidValue, KeyReused: nothing was written.
        DatabaseUnavailable: whether it was written is unknown; with a key, submitting again is safe.
    """
    validate(request)
    with database.connection() as connection:
        session_id, is_new = _write(connection, request, forked_from)
        session = sessions.get(connection, session_id)
    if session is None:
        raise NoSuchSession(str(session_id))
    if is_new:
        announce(publish, session)
    return session


def check_credentials(database: Database, request: Submission, *, silent_after_s: float) -> None:
    """Whether a Claude session could talk to Claude on any worker that takes from its queue.

    Where none is up, whichever comes decides: it may have credentials. A worker that has said nothing for
    `silent_after_s` is not up. Asked again with a key, the session that there is is no business of this.

    Raises:
        NoCredentials: the workers that are up have none, nor does the session bring any.
        DatabaseUnavailable: nothing is known.
    """
    if request.kind is not Kind.CLAUDE or are_there(request.env) or may_come_with(request.secrets):
        return
    with database.connection() as connection:
        if request.key is not None and sessions.by_key(connection, request.key) is not None:
            return
        have = nodes.have_credentials(connection, request.queue, silent_after_s=silent_after_s)
    if have is False:
        raise NoCredentials(f"no worker of the queue {request.queue!r} has credentials for Claude")


def announce(publish: Publish, session: Session) -> None:
    """Send the message for a session that is queued, if it is due. Without Redis the re-publisher does it later."""
    if session.run_at is not None and session.run_at > datetime.now(UTC):
        return
    try:
        publish(session.id, queue=session.queue, priority=session.priority)
    except BrokerUnavailable as error:
        get_log("submit").warning("queued without a message", session=str(session.id), why=str(error))


def _write(connection: Connection, request: Submission, forked_from: SessionId | None) -> tuple[SessionId, bool]:
    mark = digest(request)
    written = transitions.enqueue(connection, SessionId(uuid_utils.uuid7()), request, mark, forked_from=forked_from)
    if written is not None:
        return written, True
    key = request.key or ""
    existing = sessions.by_key(connection, key)
    if existing is None:
        # Deleted in this very moment: the key is free again.
        return _write(connection, request, forked_from)
    if existing[1] != mark:
        raise KeyReused(key, str(existing[0]))
    return existing[0], False
