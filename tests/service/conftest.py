"""A worker's node in this process, and the sessions that it runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gsd_tasks.domain.session import Session, SessionId, Submission
from gsd_tasks.service import control, submit
from gsd_tasks.service.node import Node
from gsd_tasks.settings import Settings
from gsd_tasks.store import Database
from tests.service.conversing import Talks
from tests.service.messages import unsaid


@pytest.fixture
def node(settings: Settings, database_url: str, redis_url: str) -> Iterator[Node]:
    """A worker of one slot: what is left in it stands in the next session's way."""
    node = Node(settings, database_url=database_url, redis_url=redis_url, publish=unsaid, name="gsd@here", slots=1)
    node.start()
    yield node
    node.stop()


@pytest.fixture
def enqueue(database: Database, tmp_path: Path) -> Callable[..., SessionId]:
    """Writes a queued session that runs this command."""

    def enqueue(*command: str, **fields: object) -> SessionId:
        request = Submission(command=command or ("true",), working_dir=str(tmp_path), **fields)  # type: ignore[arg-type]
        return submit.submit(database, lambda *_, **__: None, request).id

    return enqueue


@pytest.fixture
def now(database: Database) -> Callable[[SessionId], Session]:
    """The session as Postgres has it."""

    def now(session_id: SessionId) -> Session:
        with database.connection() as connection:
            return control.find(connection, session_id)

    return now


@pytest.fixture
def talks(database: Database, settings: Settings, database_url: str, redis_url: str, tmp_path: Path) -> Talks:
    """Claude sessions, run by hand."""
    folder = tmp_path / "project"
    folder.mkdir()
    return Talks(database, settings, folder, {"database_url": database_url, "redis_url": redis_url})
