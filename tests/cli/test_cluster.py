"""What `up` asks, and whom."""

from __future__ import annotations

import pytest

from gsd_tasks.cli.cluster import _worker_is_up
from gsd_tasks.local.addresses import Addresses
from gsd_tasks.store import Database
from tests.workers import register_worker


def test_up_asks_the_database_for_its_worker_wherever_the_operators_client_would_go(
    database: Database, database_url: str, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GSD_API_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("GSD_API_TOKEN", "gsd_0123456789abcdef_" + "A" * 43)
    addresses = Addresses(database_url, redis_url)
    assert not _worker_is_up(addresses, 1)
    with database.connection() as connection:
        register_worker(connection)
    assert _worker_is_up(addresses, 1)
    assert not _worker_is_up(addresses, 2)
