"""A cluster without workers, its real API, and a client of each kind, for all tests of a module; and its sessions."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from gsd_tasks import Client
from gsd_tasks.client.database import DatabaseClient
from gsd_tasks.domain.session import Session
from gsd_tasks.domain.state import Status
from gsd_tasks.local.embedded import EmbeddedServers
from gsd_tasks.settings import Settings
from gsd_tasks.store import Database
from tests.client.adapter import OVER_HTTP
from tests.client.running_api import RunningApi, make_token
from tests.conversations import converse
from tests.databases import own_database
from tests.http.attempts import Attempt

KINDS = ("database", *OVER_HTTP)
_threads = (f"thread {number}" for number in itertools.count(1))


@dataclass(frozen=True)
class World:
    """What there is, and how to get at it from behind."""

    settings: Settings
    database: Database
    url: str
    token: str
    clients: dict[str, Client]

    @property
    def client(self) -> Client:
        """The one that the others are held against."""
        return self.clients["database"]


def now_at(world: World) -> str:
    """A cursor that stands here: that of an event of a session which nobody asks for."""
    session = world.client.enqueue(command=["true"], working_dir="/", thread="marks")
    return next(event.cursor for event in world.client.listen(after="0.0.0") if event.session_id == session.id)


@pytest.fixture(scope="module")
def world(servers: EmbeddedServers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with own_database(servers) as database_url:
        settings = Settings(
            database_url=database_url, redis_url=servers.redis_url, state_dir=tmp_path_factory.mktemp("state")
        )
        database = Database(database_url)
        with RunningApi(settings) as api:
            token = make_token(database)
            clients: dict[str, Client] = {"database": DatabaseClient(settings=settings)}
            for kind, connect in OVER_HTTP.items():
                clients[kind] = connect(settings=settings, url=api.url, token=token)
            yield World(settings, database, api.url, token, clients)
            for client in clients.values():
                client.close()
        database.close()


@pytest.fixture(params=KINDS)
def client(world: World, request: pytest.FixtureRequest) -> Client:
    """A client of each kind."""
    return world.clients[request.param]


@pytest.fixture
def thread() -> str:
    """A thread of the test's own: the database is for the whole module."""
    return next(_threads)


@pytest.fixture
def queued(world: World, thread: str) -> Callable[..., Session]:
    """A session that is queued."""

    def queued(**request: Any) -> Session:
        asked: Any = {"command": ["true"], "working_dir": "/", "thread": thread} | request
        return world.client.enqueue(**asked)

    return queued


@pytest.fixture
def talking(world: World, queued: Callable[..., Session]) -> Callable[..., Session]:
    """A Claude session with a conversation, which is paused."""

    def talking(**request: Any) -> Session:
        session = queued(command=None, prompt="Fix it", env={"ANTHROPIC_API_KEY": "x"}, **request)
        with world.database.connection() as connection:
            converse(connection, session.id, 3)
        return world.client.pause(session.id)

    return talking


@pytest.fixture
def writing(world: World, queued: Callable[..., Session]) -> Iterator[tuple[Session, Attempt]]:
    """One that runs; it is ended if the test does not."""
    session = queued()
    attempt = Attempt(world.database, session.id)
    yield session, attempt
    if world.client.get(session.id).status is Status.RUNNING:
        attempt.complete()
