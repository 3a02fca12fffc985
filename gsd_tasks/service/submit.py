"""Step 1: a request becomes a queued session, and a message says so."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol

import uuid_utils.compat as uuid_utils

from gsd_tasks.domain.errors import BrokerUnavailable, KeyReused, NoSuchSession
from gsd_tasks.domain.session import SessionId
from gsd_tasks.domain.submission import digest, validate
from gsd_tasks.store import sessions, transitions
from gsd_tasks.telemetry import get_log

if TYPE_CHECKING:
    from gsd_tasks.domain.session import Session, Submission
    from gsd_tasks.store import Connection, Database


class Publish(Protocol):
    """Sends the message that lets a worker look at a session. Raises `BrokerUnavailable`."""

    def __call__(self, session_id: SessionId, *, queue: str, priority: int) -> None: ...


def submit(database: Database, publish: Publish, request: Submission) -> Session:
    """Write the session, commit, publish. A key that was used for the very same request answers with its session.

    Without Redis the session is written all the same: the re-publisher sends the message when Redis is back.

    Raises:
        InvalidValue, KeyReused: nothing was written.
        DatabaseUnavailable: whether it was written is unknown; with a key, submitting again is safe.
    """
    validate(request)
    with database.connection() as connection:
        session_id, is_new = _write(connection, request)
        session = sessions.get(connection, session_id)
    if session is None:
        raise NoSuchSession(str(session_id))
    if is_new:
        announce(publish, session)
    return session


def announce(publish: Publish, session: Session) -> None:
    """Send the message for a session that is queued, if it is due. Without Redis the re-publisher does it later."""
    if session.run_at is not None and session.run_at > datetime.now(UTC):
        return
    try:
        publish(session.id, queue=session.queue, priority=session.priority)
    except BrokerUnavailable as error:
        get_log("submit").warning("queued without a message", session=str(session.id), why=str(error))


def _write(connection: Connection, request: Submission) -> tuple[SessionId, bool]:
    mark = digest(request)
    written = transitions.enqueue(connection, SessionId(uuid_utils.uuid7()), request, mark)
    if written is not None:
        return written, True
    key = request.key or ""
    existing = sessions.by_key(connection, key)
    if existing is None:
        # Deleted in this very moment: the key is free again.
        return _write(connection, request)
    if existing[1] != mark:
        raise KeyReused(key, str(existing[0]))
    return existing[0], False
