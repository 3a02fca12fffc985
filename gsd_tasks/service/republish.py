"""Sending again what Redis lost: one message for every session that can be claimed and has none.

It also sends the first message of what was submitted for later, and ends what has expired. Postgres alone decides;
looking at Redis is a way to send less.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from gsd_tasks.store import sessions, transitions

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from gsd_tasks.domain.session import SessionId
    from gsd_tasks.service.submit import Publish
    from gsd_tasks.store import Database

#: More than one sweep's worth waits for the next: a message is small, but a million of them are not.
SWEEP_SESSIONS: Final = 10_000


class Messages(Protocol):
    """What stands in the broker's queues. Both raise `BrokerUnavailable`."""

    def count(self, queues: Collection[str]) -> int: ...

    def session_ids(self, queues: Collection[str]) -> set[str]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Swept:
    """What a sweep did."""

    published: int = 0
    expired: Sequence[SessionId] = ()


def republish(database: Database, messages: Messages, publish: Publish) -> Swept:
    """One sweep. Running it twice at once sends a message too many, which does nothing."""
    with database.connection() as connection:
        expired = transitions.expire(connection)
        waiting = sessions.count_claimable(connection)
        queues = sessions.queues(connection) if waiting else []
    # The lengths cost next to nothing; the ids are read only when the lengths say that something is missing.
    if not waiting or messages.count(queues) >= waiting:
        return Swept(expired=expired)
    # Ids first, sessions second: one that is claimed in between is not sent again.
    present = messages.session_ids(queues)
    with database.connection() as connection:
        claimable = sessions.claimable(connection, limit=SWEEP_SESSIONS)
    absent = [found for found in claimable if str(found[0]) not in present]
    for session_id, queue, priority in absent:
        publish(session_id, queue=queue, priority=priority)
    return Swept(published=len(absent), expired=expired)
