"""The table of workers: one row a life of one worker node."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import (
    ARRAY,
    Boolean,
    Text,
    Uuid,
    and_,
    any_,
    bindparam,
    case,
    func,
    literal,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import insert

from gsd_tasks.domain.session import SessionId, Worker, WorkerId, WorkerStatus
from gsd_tasks.store import words
from gsd_tasks.store.rows import utc
from gsd_tasks.store.tables import NOW, interval, leases, workers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection
    from sqlalchemy.sql.dml import ReturningUpdate

#: A worker of which nothing else is known speaks with each heartbeat.
EXPECTED: Final = (WorkerStatus.ALIVE, WorkerStatus.STOPPING)

_STATE: Final = words.word(workers.c.id, func.extract("epoch", workers.c.seen_at))
# Built once: every reaper asks it at every sweep.
_STATES: Final = words.listing(_STATE).where(workers.c.status.in_(EXPECTED))


def register(connection: Connection, worker: Worker) -> None:
    """A worker begins its life. Saying so twice, after an answer that was lost, does no harm."""
    columns = (
        "id",
        "name",
        "host_id",
        "boot_id",
        "pid",
        "version",
        "status",
        "slots",
        "containment",
        "has_credentials",
    )
    values = {name: getattr(worker, name) for name in columns}
    connection.execute(insert(workers).values(**values, queues=list(worker.queues)).on_conflict_do_nothing())


def seen(
    connection: Connection, worker_id: WorkerId, status: WorkerStatus, *, has_credentials: bool | None = None
) -> bool:
    """It lives, and stands so. What is None is as it was. False: it is forgotten, as it was silent for very long."""
    values = {"of_worker": worker_id, "as_status": status, "with_credentials": has_credentials}
    return connection.execute(_seeing(), values).first() is not None


@cache
def _seeing() -> ReturningUpdate[Any]:
    """Built once: every worker says it at every heartbeat."""
    has_credentials = func.coalesce(bindparam("with_credentials", type_=Boolean), workers.c.has_credentials)
    return (
        update(workers)
        .where(workers.c.id == bindparam("of_worker", type_=Uuid))
        .values(seen_at=NOW, status=bindparam("as_status", type_=Text), has_credentials=has_credentials)
        .returning(workers.c.id)
    )


def have_credentials(connection: Connection, queue: str, *, silent_after_s: float) -> bool | None:
    """Whether some worker that takes from this queue has credentials for Claude. None: no worker does take from it."""
    takes = and_(
        workers.c.status == WorkerStatus.ALIVE,
        workers.c.seen_at >= NOW - interval(silent_after_s),
        literal(queue) == any_(workers.c.queues),
    )
    found: bool | None = connection.execute(select(func.bool_or(workers.c.has_credentials)).where(takes)).scalar_one()
    return found


def states(connection: Connection) -> list[str]:
    """Each worker that has neither stopped nor gone, as a word for who it is and when it last spoke: two alike are one
    that has been silent.
    """
    return words.read(connection, _STATES)


def mark_gone(connection: Connection, silent: Sequence[str]) -> list[str]:
    """Those that are as they were then: their names. One that comes back says so by itself."""
    if not silent:
        return []
    unchanged = words.is_among(_STATE, silent)
    statement = (
        update(workers)
        .where(unchanged, workers.c.status.in_(EXPECTED))
        .values(status=WorkerStatus.GONE)
        .returning(workers.c.name)
    )
    return list(connection.execute(statement).scalars())


def listed(connection: Connection, *, silent_after_s: float, limit: int = 100) -> list[Worker]:
    """The newest lives first, with the sessions in their slots. One that is silent for so long counts as gone."""
    silent = and_(workers.c.seen_at < NOW - interval(silent_after_s), workers.c.status.in_(EXPECTED))
    status = case((silent, WorkerStatus.GONE.value), else_=workers.c.status).label("status")
    columns = [column for column in workers.c if column.name != "status"]
    newest = select(*columns, status).order_by(workers.c.started_at.desc()).limit(limit)
    rows = connection.execute(newest).mappings().all()
    busy = _busy(connection, [row["id"] for row in rows])
    return [
        Worker(
            id=row["id"],
            name=row["name"],
            host_id=row["host_id"],
            boot_id=row["boot_id"],
            pid=row["pid"],
            version=row["version"],
            status=WorkerStatus(row["status"]),
            queues=tuple(row["queues"]),
            slots=row["slots"],
            containment=row["containment"],
            has_credentials=row["has_credentials"],
            busy=busy.get(row["id"], {}),
            started_at=utc(row["started_at"]),
            seen_at=utc(row["seen_at"]),
        )
        for row in rows
    ]


def _busy(connection: Connection, worker_ids: Sequence[WorkerId]) -> dict[WorkerId, dict[int, SessionId]]:
    busy: dict[WorkerId, dict[int, SessionId]] = {}
    theirs = leases.c.worker_id == any_(literal(list(worker_ids), ARRAY(Uuid)))
    for row in connection.execute(select(leases.c.worker_id, leases.c.slot, leases.c.session_id).where(theirs)):
        busy.setdefault(row.worker_id, {})[row.slot] = row.session_id
    return busy
