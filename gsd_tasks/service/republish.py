"""Sending again what Redis lost: one message for every session that can be claimed and has none.

It also sends the first message of what was submitted for later, and ends what has expired. Postgres alone decides;
looking at Redis is a way to send less.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from gsd_tasks.domain.errors import BrokerUnavailable
from gsd_tasks.store import sessions, transitions
from gsd_tasks.telemetry import get_log

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from gsd_tasks.domain.session import SessionId
    from gsd_tasks.service.announcing import Publish
    from gsd_tasks.store import Database

#: Of each queue. More than one sweep's worth waits for the next: a message is small, but a million of them are not.
SWEEP_SESSIONS: Final = 10_000


class Messages(Protocol):
    """What stands in the broker's queues. Both raise `BrokerUnavailable`."""

    def count(self, queue: str) -> int: ...

    def session_ids(self, queue: str) -> set[str]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Swept:
    """What a sweep did. Without an answer of Redis (`redis_answers`), what it did not publish waits for the next."""

    published: int = 0
    expired: Sequence[SessionId] = ()
    redis_answers: bool = True


def republish(database: Database, messages: Messages, publish: Publish) -> Swept:
    """One sweep. Running it twice at once sends a message too many, which does nothing."""
    published, redis_answers = 0, True
    try:
        for _ in _send_missing(database, messages, publish):
            published += 1
    except BrokerUnavailable as error:
        redis_answers = False
        get_log("republish").warning("messages wait for the next sweep", why=str(error))
    # Last: it waits where somebody has locked such a session, and nothing else should wait for that.
    with database.connection() as connection:
        expired = transitions.expire(connection)
    return Swept(published=published, expired=expired, redis_answers=redis_answers)


def _send_missing(database: Database, messages: Messages, publish: Publish) -> Iterator[SessionId]:
    with database.connection() as connection:
        waiting = sessions.count_claimable(connection)
    # The lengths cost next to nothing; the ids are read only when the lengths say that something is missing. Each
    # queue by itself: messages too many in one that nobody takes from must not stand for those that another has lost.
    lacking = [queue for queue, number in waiting.items() if messages.count(queue) < number]
    for queue in lacking:
        # Ids first, sessions second: one that is claimed in between is not sent again.
        present = messages.session_ids(queue)
        with database.connection() as connection:
            claimable = sessions.claimable(connection, queue, limit=SWEEP_SESSIONS)
        for session_id, priority in claimable:
            if str(session_id) not in present:
                publish(session_id, queue=queue, priority=priority)
                yield session_id
