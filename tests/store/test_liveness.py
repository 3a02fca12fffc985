"""A connection that the server has ended is used no more; one that has just answered is not asked whether it works."""

from __future__ import annotations

import select
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from sqlalchemy import text

from gsd_tasks.store import Database, liveness

Asked = list[object]


@pytest.fixture
def asked(database: Database, monkeypatch: pytest.MonkeyPatch) -> Asked:
    """Whom the pool has asked."""
    noted: Asked = []
    ask: Callable[[Any], bool] = database.engine.dialect.do_ping

    def note(dbapi_connection: Any) -> bool:
        noted.append(dbapi_connection)
        return ask(dbapi_connection)

    monkeypatch.setattr(database.engine.dialect, "do_ping", note)
    return noted


def used(database: Database) -> Any:
    """A connection of the pool, which has answered and was given back."""
    with database.connection() as connection:
        assert connection.execute(text("SELECT 1")).scalar_one() == 1
        return connection.connection.dbapi_connection


def test_what_has_just_answered_is_not_asked_and_what_rested_is(
    database: Database, asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(liveness, "GOOD_FOR_S", 3600.0)
    first = used(database)
    assert used(database) is first
    assert not asked
    monkeypatch.setattr(liveness, "GOOD_FOR_S", 0.0)
    assert used(database) is first
    assert asked == [first]


def test_who_was_hung_up_on_is_replaced_however_short_ago_it_answered(
    database: Database, database_url: str, asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(liveness, "GOOD_FOR_S", 3600.0)
    ended = used(database)
    with psycopg.connect(database_url, autocommit=True) as other:
        other.execute("SELECT pg_terminate_backend(%s)", [ended.info.backend_pid])
    assert select.select([ended.fileno()], [], [], 60)[0], "a farewell"
    assert used(database) is not ended
    assert asked == [ended]


def test_one_that_we_closed_is_replaced(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(liveness, "GOOD_FOR_S", 3600.0)
    closed = used(database)
    closed.close()
    assert used(database) is not closed
