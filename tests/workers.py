"""Workers for tests that need one to be there, and none to do anything."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import uuid4

from gsd_tasks.domain.session import Worker, WorkerId, WorkerStatus
from gsd_tasks.store import Connection, nodes


def register_worker(connection: Connection, name: str = "gsd@here") -> WorkerId:
    """One that lives, as Postgres has it."""
    now = datetime.now(UTC)
    worker = Worker(
        id=WorkerId(uuid4()),
        name=name,
        host_id="h",
        boot_id="b",
        pid=1,
        version="0",
        status=WorkerStatus.ALIVE,
        queues=("sessions",),
        slots=3,
        containment="subreaper",
        busy={},
        started_at=now,
        seen_at=now,
    )
    nodes.register(connection, worker)
    return worker.id
