"""Removing what is of no use any more and belongs to no session: recoveries, workers and tokens of long ago."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sqlalchemy import ARRAY, Uuid, any_, delete, func, literal, or_, select, union

from gsd_tasks.domain.session import WorkerId, WorkerStatus
from gsd_tasks.store.ids import SKEW, any_id, first_id
from gsd_tasks.store.recoveries import MOST_TELLS
from gsd_tasks.store.tables import (
    NOW,
    attempts,
    interval,
    leases,
    recoveries,
    session_history,
    sessions,
    tokens,
    workers,
)

if TYPE_CHECKING:
    from datetime import datetime
    from typing import Any

    from sqlalchemy import Connection, Delete, Select, Table

#: What one statement removes.
PAGE: Final = 1000
#: Where there are more sessions than these from a worker's time, their histories are not searched for its name.
MOST_OLD: Final = 1000


def remove_recoveries(connection: Connection, *, older_than_s: float) -> int:
    """A page of those that everybody was told of, or nobody will be: how many."""
    is_told = or_(recoveries.c.told_at.is_not(None), recoveries.c.tells >= MOST_TELLS)
    old = select(recoveries.c.id).where(recoveries.c.at < NOW - interval(older_than_s), is_told)
    page = old.order_by(recoveries.c.id).limit(PAGE).with_for_update(skip_locked=True)
    return connection.execute(_those(recoveries, page)).rowcount


def remove_tokens(connection: Connection, *, older_than_s: float) -> int:
    """A page of those that were revoked, or expired, so long ago: how many."""
    since = NOW - interval(older_than_s)
    old = select(tokens.c.id).where(or_(tokens.c.revoked_at < since, tokens.c.expires_at < since))
    return connection.execute(_those(tokens, old.limit(PAGE).with_for_update(skip_locked=True))).rowcount


def remove_workers(connection: Connection, *, older_than_s: float) -> int:
    """A page of those that have stopped, or were lost, so long ago, and that no history names any more: how many.

    One that comes back all the same registers anew (`service.node`).
    """
    named = _named(connection, older_than_s)
    if named is None:
        return 0
    has_lease = select(leases.c.session_id).where(leases.c.worker_id == workers.c.id).exists()
    ended = workers.c.status.in_([WorkerStatus.STOPPED, WorkerStatus.GONE])
    # One that has been silent since before the oldest of the other sessions can stand in none of those.
    silent = workers.c.seen_at < NOW - interval(older_than_s + SKEW.total_seconds())
    unnamed = workers.c.id.not_in(select(func.unnest(literal(named, ARRAY(Uuid)))))
    old = select(workers.c.id).where(ended, silent, unnamed, ~has_lease)
    page = old.order_by(workers.c.seen_at).limit(PAGE).with_for_update(skip_locked=True)
    return connection.execute(_those(workers, page)).rowcount


def _named(connection: Connection, older_than_s: float) -> list[WorkerId] | None:
    """The workers that the sessions from before that time name. None: there are too many of these to look."""
    moment: datetime = connection.execute(select(NOW - interval(older_than_s))).scalar_one()
    old = select(sessions.c.id).where(sessions.c.id < first_id(moment)).order_by(sessions.c.id).limit(MOST_OLD + 1)
    ids = list(connection.execute(old).scalars())
    if len(ids) > MOST_OLD:
        return None
    these = any_id(ids)
    named = union(
        select(sessions.c.worker_id).where(sessions.c.id == these),
        select(attempts.c.worker_id).where(attempts.c.session_id == these),
        select(session_history.c.worker_id).where(session_history.c.session_id == these),
    )
    return [found for found in connection.execute(named).scalars() if found is not None]


def _those(table: Table, page: Select[Any]) -> Delete:
    return delete(table).where(table.c.id == any_(func.array(page.scalar_subquery())))
