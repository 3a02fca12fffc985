from __future__ import annotations

import pytest

from gsd_tasks.domain.session import WorkerId
from gsd_tasks.store import Database
from tests.retention.scenery import Scenery
from tests.workers import register_worker


@pytest.fixture
def worker(database: Database) -> WorkerId:
    """A worker that is registered."""
    with database.connection() as connection:
        return register_worker(connection)


@pytest.fixture
def scenery(database: Database, worker: WorkerId) -> Scenery:
    """Makes sessions in whatever state."""
    return Scenery(database, worker)
