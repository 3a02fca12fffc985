"""Which kind of client it is that one gets, and for which API, with which token."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from gsd_tasks import AsyncClient, Client
from gsd_tasks.client.database import DatabaseClient
from gsd_tasks.client.http import HttpClient
from gsd_tasks.domain.errors import ConfigurationError
from gsd_tasks.local.state_dir import StateDir
from gsd_tasks.settings import Settings

API = "https://gsd.example.org"
UP = "http://127.0.0.1:28163"
SERVERS = {
    "GSD_DATABASE_URL": "postgresql://gsd@127.0.0.1:1/gsd",
    "GSD_REDIS_URL": "redis://127.0.0.1:1/0",
}
OF_UP = f"gsd_{'0' * 16}_{'A' * 43}"
RUNNING = {"database_url": SERVERS["GSD_DATABASE_URL"], "redis_url": SERVERS["GSD_REDIS_URL"], "api_url": UP}


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StateDir:
    monkeypatch.setenv("GSD_STATE_DIR", str(tmp_path / "state"))
    state = StateDir(tmp_path / "state")
    state.create()
    return state


@pytest.fixture
def up(state: StateDir) -> Iterator[None]:
    """As a running `up` leaves its traces."""
    with state.hold():
        state.remember(running=RUNNING)
        state.api_token.write_text(OF_UP)
        state.api_token.chmod(0o600)
        yield


@pytest.fixture
def servers(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SERVERS.items():
        monkeypatch.setenv(name, value)


def kind_of(**options: Any) -> type[Client]:
    client = Client(**options)
    client.close()
    return type(client)


def api_of(client: Client | AsyncClient) -> tuple[str, str]:
    assert isinstance(client, (HttpClient, AsyncClient))
    return client._endpoint.url, client._endpoint.token


def test_without_anything_said_it_is_the_servers_that_are_named_or_run(servers: None) -> None:
    assert kind_of() is DatabaseClient


def test_a_running_up_is_asked_through_its_servers(up: None) -> None:
    assert kind_of() is DatabaseClient


def test_an_api_that_is_named_wins_over_servers_and_over_a_running_up(
    servers: None, up: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GSD_API_URL", API)
    monkeypatch.setenv("GSD_API_TOKEN", "gsd_a_b")
    assert kind_of() is HttpClient
    assert api_of(Client()) == (API, "gsd_a_b")


def test_settings_that_code_gives_with_a_database_mean_that_unless_it_gives_a_url(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("GSD_API_URL", API)
    monkeypatch.setenv("GSD_API_TOKEN", "gsd_a_b")
    settings = Settings(
        database_url=SecretStr(SERVERS["GSD_DATABASE_URL"]), redis_url=SecretStr(SERVERS["GSD_REDIS_URL"])
    )
    assert kind_of(settings=settings) is DatabaseClient
    assert kind_of(settings=settings, url=UP) is HttpClient
    assert kind_of(settings=Settings()) is HttpClient
    assert api_of(Client(url=f"{UP}/", token="gsd_c_d")) == (UP, "gsd_c_d")


def test_the_token_of_a_running_up_is_for_its_own_api_alone(up: None) -> None:
    assert api_of(Client(url=UP)) == (UP, OF_UP)
    assert api_of(AsyncClient()) == (UP, OF_UP)
    with pytest.raises(ConfigurationError, match=r"no token for the API at gsd\.example\.org: set GSD_API_TOKEN"):
        Client(url=API)
    with pytest.raises(ConfigurationError, match="no token"):
        AsyncClient(url="http://localhost:28163")


def test_what_cannot_be_meant_is_said(servers: None) -> None:
    with pytest.raises(ConfigurationError, match="give its url"):
        Client(token="gsd_a_b")
    with pytest.raises(ConfigurationError, match="leave them out"):
        DatabaseClient(url=API)
    with pytest.raises(ConfigurationError, match="no API: give its url, or set GSD_API_URL"):
        AsyncClient(token="gsd_a_b")
