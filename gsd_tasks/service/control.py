"""What people do to a session from outside: find it, cancel it, delete it, note something on it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from gsd_tasks.domain.errors import AmbiguousId, NoSuchSession, NotAllowed
from gsd_tasks.domain.session import Session, SessionId
from gsd_tasks.domain.state import Wanted
from gsd_tasks.domain.submission import check_context
from gsd_tasks.store import sessions, transitions

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gsd_tasks.store import Connection, Database

START_OF_ID: Final = re.compile(r"[0-9a-f]{1,32}")


def resolve(connection: Connection, wanted: str | UUID) -> SessionId:
    """The id that `wanted` is, or is the unambiguous start of. Whether a whole id exists is not looked up.

    Raises:
        NoSuchSession, AmbiguousId
    """
    if isinstance(wanted, UUID):
        return SessionId(wanted)
    digits = wanted.strip().lower().replace("-", "")
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


def cancel(database: Database, wanted: str | UUID) -> Session:
    """Cancelled at once where nothing runs; else its holder is asked, and ends the child first.

    Cancelling what has ended changes nothing and is no error: the session comes back as it ended.
    """
    with database.connection() as connection:
        session = find(connection, wanted)
        # It may begin or end to run between two looks: each of the two statements has its own guard.
        while not session.status.is_final and session.wanted is not Wanted.CANCEL:
            if transitions.cancel_idle(connection, session.id) or sessions.want(connection, session.id, Wanted.CANCEL):
                return find(connection, session.id)
            session = find(connection, session.id)
    return session


def delete(database: Database, wanted: str | UUID) -> SessionId:
    """Remove an ended session with everything that it printed. Raises `NotAllowed` for one that has not ended."""
    with database.connection() as connection:
        session = find(connection, wanted)
        if not sessions.delete_ended(connection, session.id):
            raise NotAllowed(str(session.id), f"is {session.status}: cancel it first")
        return session.id


def update_context(database: Database, wanted: str | UUID, changes: Mapping[str, Any]) -> Session:
    """Set these keys of the session's context; the others stay."""
    check_context(changes)
    with database.connection() as connection:
        session = find(connection, wanted)
        sessions.merge_context(connection, session.id, changes)
        return find(connection, session.id)
