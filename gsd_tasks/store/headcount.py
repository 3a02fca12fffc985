"""How many sessions there are, for who asks every few seconds: from indexes alone, also of millions."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy import func, select

from gsd_tasks.domain.state import Status
from gsd_tasks.store.tables import sessions

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import Connection


class Headcount(NamedTuple):
    """Sessions by status, and those that are queued by queue; what there is none of is left out."""

    sessions: Mapping[Status, int]
    queued: Mapping[str, int]


def count(connection: Connection) -> Headcount:
    """As it is now."""
    by_status = select(sessions.c.status, func.count().label("number")).group_by(sessions.c.status)
    queued = (
        select(sessions.c.queue, func.count().label("number"))
        .where(sessions.c.status == Status.QUEUED)
        .group_by(sessions.c.queue)
    )
    return Headcount(
        {Status(row.status): row.number for row in connection.execute(by_status)},
        {row.queue: row.number for row in connection.execute(queued)},
    )
