from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from uuid import uuid4

import pytest
import uuid_utils.compat as uuid_utils

from gsd_tasks.domain.session import Holder, SessionId, Submission, Worker, WorkerId, WorkerStatus
from gsd_tasks.domain.submission import digest
from gsd_tasks.store import Claim, Database, nodes, transitions

REQUEST = Submission(command=("true",), working_dir="/")


@pytest.fixture
def worker(database: Database) -> WorkerId:
    """A worker that is registered."""
    now = datetime.now(UTC)
    worker = Worker(
        id=WorkerId(uuid4()),
        name="gsd@here",
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
    with database.connection() as connection:
        nodes.register(connection, worker)
    return worker.id


@pytest.fixture
def enqueue(database: Database) -> Callable[..., SessionId]:
    """Writes a queued session."""

    def enqueue(request: Submission = REQUEST) -> SessionId:
        session_id = SessionId(uuid_utils.uuid7())
        with database.connection() as connection:
            assert transitions.enqueue(connection, session_id, request, digest(request)) == session_id
        return session_id

    return enqueue


@pytest.fixture
def claim(database: Database, worker: WorkerId, enqueue: Callable[..., SessionId]) -> Callable[..., Claim]:
    """Claims a session, a new one if none is named."""

    def claim(session_id: SessionId | None = None, slot: int = 1) -> Claim:
        with database.connection() as connection:
            claimed = transitions.claim(
                connection,
                session_id or enqueue(),
                holder=Holder(uuid4()),
                worker_id=worker,
                slot=slot,
                lease_s=30,
            )
        assert claimed is not None
        return claimed

    return claim
