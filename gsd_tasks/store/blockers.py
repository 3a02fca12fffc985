"""Who holds the lock that a recovery passed over, and ending it where it is the fenced holder's own.

Postgres writes down who holds a row only when somebody waits for it. So one connection waits, another asks whom for.
"""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import psycopg
from sqlalchemy import Integer, Text, cast, column, false, func, select, table, text, true
from sqlalchemy.exc import DBAPIError

from gsd_tasks.store.database import IDLE_S, NAME
from gsd_tasks.store.tables import MOMENT, NOW, attempts, leases, sessions

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import CTE, Connection

    from gsd_tasks.domain.session import SessionId
    from gsd_tasks.store.database import Database

#: How long the answer may take: the waiting begins in a moment, or there is nothing to wait for.
LOOK_S: Final = 2.0
_POLL_S: Final = 0.01
_END_MS: Final = 2000

_activity = table(
    "pg_stat_activity",
    column("pid", Integer),
    column("usename"),
    column("application_name"),
    column("backend_start", MOMENT),
    column("xact_start", MOMENT),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Blocker:
    """A backend in whose way everybody else stands. `is_holders`: the connection is that of the lease's own worker."""

    pid: int
    started_at: datetime | None
    user: str
    application: str
    open_for_s: float
    is_holders: bool


def find(database: Database, session_id: SessionId) -> list[Blocker]:
    """The backends that hold a lock on what a recovery of this session needs; none, if it has just been let go.

    Raises:
        DatabaseUnavailable: it needs two connections.
    """
    with database.connection() as asking, _given_up(database) as waiting:
        waiting.execute(select(func.set_config("lock_timeout", f"{LOOK_S:g}s", true())))
        pid = waiting.execute(select(func.pg_backend_pid())).scalar_one()
        waiter = threading.Thread(target=_wait_for, args=(waiting, session_id), name="gsd-blockers", daemon=True)
        waiter.start()
        try:
            return _while_it_waits(asking, pid, session_id, waiter)
        finally:
            # By the connection, not by the process's number: that may be somebody else's by now.
            _cancel(waiting)
            waiter.join()


def end(connection: Connection, blocker: Blocker) -> bool:
    """Terminate this backend, and wait a little for its end: then its locks are free. Not another one with its pid."""
    ending = select(func.pg_terminate_backend(_activity.c.pid, _END_MS)).where(
        _activity.c.pid == blocker.pid, _activity.c.backend_start == blocker.started_at
    )
    return bool(connection.execute(ending).scalar_one_or_none())


@contextmanager
def _given_up(database: Database) -> Iterator[Connection]:
    """A transaction, in which one process of the server is ours, behind a pooler too; and nothing of it is kept.

    Its connection is not given back: a cancel that comes late would hit whoever uses it next.
    """
    with database.connection() as connection:
        try:
            connection.exec_driver_sql("BEGIN")
            connection.exec_driver_sql(f"SET LOCAL idle_in_transaction_session_timeout = '{IDLE_S}s'")
            yield connection
        finally:
            connection.invalidate()


def _cancel(connection: Connection) -> None:
    waiting: Any = connection.connection.driver_connection
    # What cannot be cancelled gives up by itself.
    with suppress(psycopg.Error):
        waiting.cancel_safe(timeout=LOOK_S)


def _wait_for(connection: Connection, session_id: SessionId) -> None:
    """Ask for the locks of a recovery, and let go of them at once."""
    rows = (
        select(text("1"))
        .select_from(leases)
        .join(sessions, sessions.c.id == leases.c.session_id)
        .join(attempts, (attempts.c.session_id == leases.c.session_id) & (attempts.c.attempt == leases.c.attempt))
        .where(leases.c.session_id == session_id)
        .with_for_update()
    )
    # Cancelled, as it is meant to be; or the database is gone, which the other connection says.
    with suppress(DBAPIError):
        connection.execute(rows)


def _while_it_waits(connection: Connection, pid: int, session_id: SessionId, waiter: threading.Thread) -> list[Blocker]:
    while waiter.is_alive():
        if found := _roots(connection, pid, session_id):
            return found
        time.sleep(_POLL_S)
    return []


def _roots(connection: Connection, pid: int, session_id: SessionId) -> list[Blocker]:
    """At the far end of the queue for the lock: who waits for nobody, and is waited for."""
    queue = _queue(pid)
    holders = select(func.concat(f"{NAME} ", cast(leases.c.worker_id, Text))).where(leases.c.session_id == session_id)
    of_our_role = _activity.c.usename == func.current_user()
    of_the_holder = _activity.c.application_name == holders.scalar_subquery()
    found = (
        select(
            _activity.c.pid,
            _activity.c.backend_start,
            func.coalesce(_activity.c.usename, "").label("user"),
            func.coalesce(_activity.c.application_name, "").label("application"),
            func.coalesce(func.extract("epoch", NOW - _activity.c.xact_start), 0).label("open_for_s"),
            func.coalesce(of_our_role & of_the_holder, false()).label("is_holders"),
        )
        .join_from(_activity, queue, queue.c.pid == _activity.c.pid)
        .where(func.cardinality(func.pg_blocking_pids(_activity.c.pid)) == 0)
    )
    return [
        Blocker(
            pid=row["pid"],
            started_at=row["backend_start"],
            user=row["user"],
            application=row["application"],
            open_for_s=float(row["open_for_s"]),
            is_holders=row["is_holders"],
        )
        for row in connection.execute(found).mappings()
    ]


def _queue(pid: int) -> CTE:
    """Everybody who is waited for, directly or not."""
    directly: Any = select(func.unnest(func.pg_blocking_pids(pid), type_=Integer).label("pid"))
    queue: CTE = directly.cte("queue", recursive=True)
    return queue.union(select(func.unnest(func.pg_blocking_pids(queue.c.pid), type_=Integer)))
