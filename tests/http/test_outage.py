"""What is answered when a server that the API needs is away."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest
from fastapi.testclient import TestClient
from pydantic import SecretStr
from structlog.testing import capture_logs

from gsd_tasks.client.database import DatabaseClient
from gsd_tasks.domain.errors import NoSuchSession
from gsd_tasks.domain.verification import Verified
from gsd_tasks.http import dear
from gsd_tasks.http.app import THREADS, create_app
from gsd_tasks.http.problems import RETRY_AFTER_S
from gsd_tasks.settings import Settings
from tests.http.conftest import asked
from tests.http.test_hostile import said
from tests.waiting import BOUND_S, until

NOWHERE = "127.0.0.1:1"
SECRET = "hunter2"
#: As one may look.
TOKEN = f"gsd_{'0' * 16}_{'A' * 43}"


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[TestClient]:
    """An API with neither Postgres nor Redis."""
    settings = Settings(
        database_url=SecretStr(f"postgresql://me:{SECRET}@{NOWHERE}/gsd"),
        redis_url=SecretStr(f"redis://:{SECRET}@{NOWHERE}/0"),
        state_dir=tmp_path,
    )
    with TestClient(create_app(settings), base_url="http://localhost", raise_server_exceptions=False) as client:
        client.headers["Authorization"] = f"Bearer {TOKEN}"
        yield client


@pytest.mark.parametrize("path", ["/readyz", "/v1/workers", "/v1/sessions/0", "/v1/events", "/metrics"])
def test_without_the_database_it_says_so_and_when_to_come_back(alone: TestClient, path: str) -> None:
    with capture_logs() as log:
        answer = alone.get(path)
    said(answer, 503, "database-unavailable")
    assert answer.headers["retry-after"] == str(RETRY_AFTER_S)
    assert SECRET not in answer.text
    assert NOWHERE not in answer.text
    assert "127.0.0.1" in str(log), "the operator is told where"
    assert SECRET not in str(log)


def test_it_lives_and_refuses_strangers_all_the_same(alone: TestClient) -> None:
    assert alone.get("/healthz").json() == {"status": "ok"}
    del alone.headers["Authorization"]
    said(alone.get("/v1/workers"), 401, "unauthenticated")


def test_a_database_of_another_version_is_told_apart(settings: Settings) -> None:
    assert settings.database_url is not None
    with psycopg.connect(settings.database_url.get_secret_value(), autocommit=True) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '0001'")
    with TestClient(create_app(settings), base_url="http://localhost", raise_server_exceptions=False) as client:
        answer = client.get("/readyz")
        said(answer, 503, "schema-mismatch")
        assert "retry-after" in answer.headers


def test_without_redis_it_is_ready_and_says_what_is_missing(settings: Settings) -> None:
    without = settings.model_copy(update={"redis_url": SecretStr(f"redis://{NOWHERE}/0")})
    with asked(create_app(without)) as client:
        assert client.get("/readyz").json() == {"status": "ok", "redis": False}
        answer = client.post("/v1/sessions", json={"command": ["true"], "working_dir": "/"})
        assert answer.status_code == 201, "it is written, and sent to a worker later"
    with asked(create_app(settings)) as client:
        assert client.get("/readyz").json() == {"status": "ok", "redis": True}


def test_while_redis_hangs_those_who_ask_whether_it_is_ready_take_nobodys_thread(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Anybody may ask that, and without a token."""
    asked_redis: list[DatabaseClient] = []
    answered = threading.Event()

    def hears_redis(client: DatabaseClient) -> bool:
        asked_redis.append(client)
        return not answered.wait(BOUND_S)

    monkeypatch.setattr(DatabaseClient, "hears_redis", hears_redis)
    with asked(create_app(settings)) as api, ThreadPoolExecutor(3 * THREADS) as strangers:
        asking = [strangers.submit(api.get, "/readyz") for _ in range(3 * THREADS)]
        until(lambda: asked_redis, what="a look at Redis")
        try:
            assert api.get("/v1/workers").status_code == 200
        finally:
            answered.set()
        assert {each.result().text for each in asking} == {'{"status":"ok","redis":false}'}
        assert len(asked_redis) < THREADS


def test_what_takes_long_leaves_threads_for_what_does_not(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """As verifying, or reading the last byte of, an output of millions of rows."""
    begun: list[object] = []
    done = threading.Event()

    def verify(_client: DatabaseClient, session_id: object) -> Verified:
        begun.append(session_id)
        assert done.wait(BOUND_S)
        raise NoSuchSession("0")

    monkeypatch.setattr(DatabaseClient, "verify", verify)
    with asked(create_app(settings)) as api, ThreadPoolExecutor(3 * THREADS) as callers:
        verifying = [callers.submit(api.get, "/v1/sessions/0/verify") for _ in range(2 * THREADS)]
        until(lambda: len(begun) >= dear.MOST, what="the first of them")
        try:
            assert callers.submit(api.get, "/v1/workers").result(BOUND_S).status_code == 200
            assert len(begun) == dear.MOST
        finally:
            done.set()
        assert {each.result().status_code for each in verifying} == {404}
        assert len(begun) == len(verifying)
