"""What can be mended of a session that nobody runs. Each of these takes the row of the session to be locked.

Nothing is made up: what is wrong is left out, removed or counted, and what is noted comes from what else is there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import BigInteger, delete, func, literal, not_, select, update

from gsd_tasks.domain.state import Reason, Status
from gsd_tasks.store.snapshots import after, up_to
from gsd_tasks.store.tables import NOW, attempts, session_history, session_outputs, sessions, snapshots
from gsd_tasks.store.transcript import last_entry

if TYPE_CHECKING:
    from collections.abc import Iterable
    from uuid import UUID

    from sqlalchemy import Connection

    from gsd_tasks.domain.session import SessionId

#: Why an attempt ended of which nothing says so.
UNKNOWN_END = "nobody has noted its end: closed by a repair"


def lock(connection: Connection, session_id: SessionId) -> bool:
    """Hold the session still until the transaction ends: nobody claims, changes or deletes it. False: it runs."""
    idle = select(sessions.c.id).where(sessions.c.id == session_id, sessions.c.status != Status.RUNNING)
    return connection.execute(idle.with_for_update()).first() is not None


def cut(connection: Connection, session_id: SessionId, last: int) -> None:
    """Let the conversation consist of what it did up to this entry, and of what comes from now on."""
    kept = sessions.c.conversation.op("*")(up_to(literal(last, BigInteger)))
    conversation = kept.op("+")(after(last_entry(sessions.c.id)))
    connection.execute(update(sessions).where(sessions.c.id == session_id).values(conversation=conversation))


def remove_snapshots(connection: Connection, ids: Iterable[UUID]) -> None:
    """These snapshots."""
    connection.execute(delete(snapshots).where(snapshots.c.id.in_(list(ids))))


def count_rows(connection: Connection, session_id: SessionId, last_seq: int) -> None:
    """Count the output rows up to this one as the session's, and as those of its last attempt."""
    connection.execute(update(sessions).where(sessions.c.id == session_id).values(last_seq=last_seq))
    newest = select(sessions.c.attempt).where(sessions.c.id == session_id).scalar_subquery()
    of_newest = update(attempts).where(attempts.c.session_id == session_id, attempts.c.attempt == newest)
    connection.execute(of_newest.where(attempts.c.last_seq.is_not(None)).values(last_seq=last_seq))


def close_attempt(connection: Connection, session_id: SessionId, attempt: int) -> None:
    """End it when and why the session stopped running in it, by the history; its rows are those before the next one's.

    Where the history does not say, it is noted that nobody knows.
    """
    of_attempt = attempts.c.session_id == session_id, attempts.c.attempt == attempt
    stopped = (
        select(session_history.c.at, session_history.c.reason, session_history.c.detail)
        .where(
            session_history.c.session_id == session_id,
            session_history.c.attempt == attempt,
            session_history.c.from_status == Status.RUNNING,
            session_history.c.to_status != Status.RUNNING,
        )
        .order_by(session_history.c.id)
        .limit(1)
    )
    told = connection.execute(stopped).one_or_none()
    following = attempts.alias("following")
    next_seq = select(following.c.first_seq).where(
        following.c.session_id == session_id, following.c.attempt == attempt + 1
    )
    all_rows = select(sessions.c.last_seq).where(sessions.c.id == session_id)
    last_seq = func.coalesce(next_seq.scalar_subquery() - 1, all_rows.scalar_subquery())
    how = (
        {"ended_at": told.at, "reason": told.reason, "detail": told.detail}
        if told is not None
        else {"ended_at": NOW, "reason": Reason.INTERNAL, "detail": UNKNOWN_END}
    )
    connection.execute(update(attempts).where(*of_attempt).values(last_seq=last_seq, **how))


def remove_orphans(connection: Connection, session_id: SessionId) -> int:
    """The output rows of a session that there is not; how many they were."""
    there_is = select(sessions.c.id).where(sessions.c.id == session_id).exists()
    gone = delete(session_outputs).where(session_outputs.c.session_id == session_id, not_(there_is))
    return connection.execute(gone).rowcount
