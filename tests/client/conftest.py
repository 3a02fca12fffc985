"""A cluster without workers, its real API, and a client of each kind for it: one for all tests of a module."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

import pytest

from gsd_tasks import Client
from gsd_tasks.client.database import DatabaseClient
from gsd_tasks.client.http import HttpClient
from gsd_tasks.local.embedded import EmbeddedServers
from gsd_tasks.settings import Settings
from gsd_tasks.store import Database
from tests.client.adapter import Adapted
from tests.client.running_api import RunningApi, make_token
from tests.databases import own_database

KINDS = ("database", "http", "async")


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


@pytest.fixture(scope="module")
def world(servers: EmbeddedServers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with own_database(servers) as database_url:
        settings = Settings(
            database_url=database_url, redis_url=servers.redis_url, state_dir=tmp_path_factory.mktemp("state")
        )
        database = Database(database_url)
        with RunningApi(settings) as api:
            token = make_token(database)
            clients = {
                "database": DatabaseClient(settings=settings),
                "http": HttpClient(settings=settings, url=api.url, token=token),
                "async": cast("Client", Adapted(settings=settings, url=api.url, token=token)),
            }
            yield World(settings, database, api.url, token, clients)
            for client in clients.values():
                client.close()
        database.close()


@pytest.fixture(params=KINDS)
def client(world: World, request: pytest.FixtureRequest) -> Client:
    """A client of each kind."""
    return world.clients[request.param]
