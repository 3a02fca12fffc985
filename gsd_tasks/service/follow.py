"""Reading a session from any row to its end, live: woken by the bell, and by a slow look of one's own without it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from gsd_tasks.domain.errors import NoSuchSession
from gsd_tasks.service.bell import Ear, session_channel
from gsd_tasks.store import outputs, sessions

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterator

    from gsd_tasks.domain.session import OutputRow, Session, SessionId, Stream
    from gsd_tasks.store import Database

PAGE_ROWS: Final = 1000
#: Without a bell, a follower looks this often.
LOOK_S: Final = 1.0


def follow(
    database: Database,
    redis_url: str,
    session_id: SessionId,
    *,
    after_seq: int = 0,
    stream: Stream | None = None,
    stop: threading.Event | None = None,
) -> Iterator[OutputRow]:
    """Rows after `after_seq` as they are committed, until the session has ended and all were given, or `stop` is set.

    A session that is queued again goes on being followed: its rows count on.
    """
    with Ear(redis_url, session_channel(session_id)) as ear:
        while stop is None or not stop.is_set():
            # The status first: what a session printed is all committed before it ends.
            ended = _session(database, session_id).status.is_final
            page = _page(database, session_id, after_seq, stream)
            yield from page
            if page:
                after_seq = page[-1].seq
            elif ended:
                # Had it been removed meanwhile, there would be no more rows for that.
                _session(database, session_id)
                return
            else:
                ear.wait(LOOK_S)


def wait(database: Database, redis_url: str, session: Session, *, timeout_s: float | None) -> Session:
    """The session, which was `session` just now, once it has ended. Raises `TimeoutError` after `timeout_s` seconds."""
    give_up_at = None if timeout_s is None else time.monotonic() + timeout_s
    with Ear(redis_url, session_channel(session.id)) as ear:
        while not session.status.is_final:
            left = LOOK_S if give_up_at is None else give_up_at - time.monotonic()
            if left <= 0:
                raise TimeoutError(f"session {session.id} is {session.status} after {timeout_s:g} s")
            ear.wait(min(LOOK_S, left))
            session = _session(database, session.id)
    return session


def _page(database: Database, session_id: SessionId, after_seq: int, stream: Stream | None) -> list[OutputRow]:
    with database.connection() as connection:
        return outputs.read(connection, session_id, after_seq=after_seq, limit=PAGE_ROWS, stream=stream)


def _session(database: Database, session_id: SessionId) -> Session:
    with database.connection() as connection:
        session = sessions.get(connection, session_id)
    if session is None:
        raise NoSuchSession(str(session_id))
    return session
