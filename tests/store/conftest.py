from __future__ import annotations

from collections.abc import Callable
from uuid import uuid4

import pytest
import uuid_utils.compat as uuid_utils

from gsd_tasks.domain.session import Holder, SessionId, Submission, WorkerId
from gsd_tasks.domain.submission import digest
from gsd_tasks.store import Claim, Database, transitions
from tests.workers import register_worker

REQUEST = Submission(command=("true",), working_dir="/")


@pytest.fixture
def worker(database: Database) -> WorkerId:
    """A worker that is registered."""
    with database.connection() as connection:
        return register_worker(connection)


@pytest.fixture
def enqueue(database: Database) -> Callable[..., SessionId]:
    """Writes a queued session."""

    def enqueue(request: Submission = REQUEST) -> SessionId:
        session_id = SessionId(uuid_utils.uuid7())
        with database.connection() as connection:
            written = transitions.enqueue(connection, session_id, request, digest(request))
        assert written is not None
        assert written.id == session_id
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
