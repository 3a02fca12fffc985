"""Step 1: a request becomes a queued session, and a message says so."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import uuid_utils.compat as uuid_utils

from gsd_tasks.domain.credentials import are_there, may_come_with
from gsd_tasks.domain.errors import KeyReused, NoCredentials
from gsd_tasks.domain.session import Kind, SessionId
from gsd_tasks.domain.submission import UNASKED, digest, validate
from gsd_tasks.service.dependencies import begin
from gsd_tasks.store import nodes, sessions, transitions
from gsd_tasks.telemetry.caller import caller

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from gsd_tasks.domain.session import Session, Submission
    from gsd_tasks.service.announcing import Publish
    from gsd_tasks.store import Connection, Database


class Submitted(NamedTuple):
    """The session, and whether it was written just now."""

    session: Session
    is_new: bool


def submit(
    database: Database, publish: Publish, request: Submission, *, forked_from: SessionId | None = None
) -> Session:
    """Write the session, commit, publish. A key that was used for the very same request answers with its session.

    With `forked_from` it begins with that session's conversation.

    Without Redis the session is written all the same: the re-publisher sends the message when Redis is back.

    Raises:
        InvalidValue, KeyReused: nothing was written.
        NoSuchSession: nothing was written: its parent, or one that it is to follow, is not there.
        DatabaseUnavailable: whether it was written is unknown; with a key, submitting again is safe.
    """
    return submit_or_find(database, publish, request, forked_from=forked_from).session


def submit_or_find(
    database: Database,
    publish: Publish,
    request: Submission,
    *,
    forked_from: SessionId | None = None,
    check: Callable[[Submission], None] | None = None,
) -> Submitted:
    """`submit`, for who wants to know whether the session was there already.

    `check` may refuse what is valid, before anything is written.
    """
    validate(request)
    if check is not None:
        check(request)
    mark = digest(request) if request.key is not None else UNASKED
    with database.connection() as connection:
        while (session := _write(connection, request, mark, forked_from)) is None:
            found = _find(connection, request.key or "", mark)
            if found is not None:
                return Submitted(found, is_new=False)
            # Deleted in this very moment: the key is free again.
    return Submitted(begin(database, publish, session), is_new=True)


def check_credentials(database: Database, request: Submission, *, silent_after_s: float) -> None:
    """Whether a Claude session, a valid one, could talk to Claude on any worker that takes from its queue.

    Where none is up, whichever comes decides: it may have credentials. A worker that has said nothing for
    `silent_after_s` is not up. Asked again with a key, the session that there is is no business of this.

    Raises:
        NoCredentials: the workers that are up have none, nor does the session bring any.
        DatabaseUnavailable: nothing is known.
    """
    if not _needs_credentials(request):
        return
    with database.connection() as connection:
        if request.key is not None and sessions.by_key(connection, request.key) is not None:
            return
        have = nodes.have_credentials(connection, request.queue, silent_after_s=silent_after_s)
    if have is False:
        raise _no_credentials(request.queue)


def check_credentials_of_all(database: Database, requests: Iterable[Submission], *, silent_after_s: float) -> None:
    """The same for many: each queue is asked about once."""
    lacking = [request for request in requests if _needs_credentials(request)]
    if not lacking:
        return
    with database.connection() as connection:
        known = sessions.by_keys(connection, [request.key for request in lacking if request.key is not None])
        for queue in {request.queue for request in lacking if request.key not in known}:
            if nodes.have_credentials(connection, queue, silent_after_s=silent_after_s) is False:
                raise _no_credentials(queue)


def _needs_credentials(request: Submission) -> bool:
    """Of a worker: it brings none of its own."""
    return request.kind is Kind.CLAUDE and not are_there(request.env) and not may_come_with(request.secrets)


def _no_credentials(queue: str) -> NoCredentials:
    return NoCredentials(f"no worker of the queue {queue!r} has credentials for Claude")


def _write(connection: Connection, request: Submission, mark: bytes, forked_from: SessionId | None) -> Session | None:
    session_id = SessionId(uuid_utils.uuid7())
    return transitions.enqueue(connection, session_id, request, mark, forked_from=forked_from, traceparent=caller())


def _find(connection: Connection, key: str, mark: bytes) -> Session | None:
    existing = sessions.by_key(connection, key)
    if existing is None:
        return None
    session_id, written = existing
    if written != mark:
        raise KeyReused(key, str(session_id))
    return sessions.get(connection, session_id)
