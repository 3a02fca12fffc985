"""The API on a database of its own, asked in this process."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from pydantic import SecretStr

from gsd_tasks.domain.session import Session, Submission
from gsd_tasks.domain.tokens import Scope, TokenText
from gsd_tasks.http.app import create_app
from gsd_tasks.local.embedded import EmbeddedServers
from gsd_tasks.service import tokens
from gsd_tasks.service.submit import submit
from gsd_tasks.settings import Settings
from gsd_tasks.store import Database
from tests.databases import own_database

Make = Callable[..., Session]


@pytest.fixture
def app(settings: Settings) -> FastAPI:
    return create_app(settings)


@pytest.fixture
def token(database: Database) -> TokenText:
    """Good for everything."""
    return tokens.create(database, "everything", set(Scope), None)[1]


@pytest.fixture
def api(app: FastAPI) -> Iterator[TestClient]:
    """The API on a database of its own."""
    with asked(app) as client:
        yield client


@pytest.fixture(scope="module")
def shared(servers: EmbeddedServers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """The same for all tests of a module, with everything that they leave behind."""
    with own_database(servers) as url:
        settings = Settings(
            database_url=SecretStr(url),
            redis_url=SecretStr(servers.redis_url),
            state_dir=tmp_path_factory.mktemp("state"),
        )
        with asked(create_app(settings)) as client:
            yield client


@contextmanager
def asked(app: FastAPI) -> Iterator[TestClient]:
    """The app, which runs, asked with a token that is good for everything."""
    with TestClient(app, base_url="http://localhost", raise_server_exceptions=False) as client:
        _, text = tokens.create(app.state.client.database, uuid.uuid4().hex, set(Scope), None)
        client.headers["Authorization"] = f"Bearer {text}"
        yield client


@pytest.fixture
def make(database: Database) -> Make:
    """A session that is queued."""

    def make(**request: object) -> Session:
        asked = {"command": ("true",), "working_dir": "/"} | request
        return submit(database, lambda *_, **__: None, Submission(**asked))  # type: ignore[arg-type]

    return make
