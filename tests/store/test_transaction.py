"""Several statements as one: all of them or none, and nobody is kept waiting by whoever is stopped in the middle."""

from __future__ import annotations

import pytest
from sqlalchemy import Connection, text

from gsd_tasks.domain.errors import DatabaseUnavailable
from gsd_tasks.store import Database
from gsd_tasks.store import database as module
from tests.waiting import until


def noted(connection: Connection) -> int:
    number: int = connection.execute(text("SELECT count(*) FROM cluster")).scalar_one()
    return number


def begin_and_fail(database: Database) -> None:
    with database.transaction("READ COMMITTED") as connection:
        connection.execute(text("INSERT INTO cluster DEFAULT VALUES"))
        raise ZeroDivisionError


def begin_and_stand_still(database: Database) -> None:
    """Until nothing is locked any more; then it would go on."""
    locks = text(
        "SELECT count(*) FROM pg_locks WHERE mode = 'RowExclusiveLock' AND locktype = 'relation'"
        " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    )
    with database.transaction("READ COMMITTED") as connection, database.connection() as other:
        connection.execute(text("DELETE FROM cluster"))
        assert other.execute(locks).scalar_one()
        until(lambda: not other.execute(locks).scalar_one(), what="the server's patience to end")
        connection.execute(text("SELECT 1"))


def test_all_of_it_is_done_or_nothing(database: Database) -> None:
    with database.transaction("READ COMMITTED") as connection:
        connection.execute(text("DELETE FROM cluster"))
        connection.execute(text("INSERT INTO cluster DEFAULT VALUES"))
        connection.execute(text("DELETE FROM cluster"))
        with database.connection() as other:
            assert noted(other) == 1
    with database.connection() as other:
        assert noted(other) == 0
    with pytest.raises(ZeroDivisionError):
        begin_and_fail(database)
    # What is left of it is in no connection that somebody else gets.
    for _ in range(3):
        with database.connection() as other:
            assert noted(other) == 0
            other.execute(text("SELECT 1"))


def test_what_is_read_in_it_is_of_one_instant(database: Database) -> None:
    with database.transaction("REPEATABLE READ") as connection:
        assert noted(connection) == 1
        with database.connection() as other:
            other.execute(text("DELETE FROM cluster"))
        assert noted(connection) == 1


def test_one_that_stands_still_locks_nothing_for_long(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "IDLE_S", 1)
    with pytest.raises(DatabaseUnavailable):
        begin_and_stand_still(database)
    with database.connection() as connection:
        assert noted(connection) == 1
