"""Versions side by side on one schema: who goes on, who is refused, and what a migration does to those at work."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from gsd_tasks.domain.errors import DatabaseUnavailable, SchemaMismatch
from gsd_tasks.store import Claim, Database, migrate, schema
from tests.upgrading import ADDS, TAKES_AWAY, Later
from tests.waiting import BOUND_S, until


@pytest.fixture
def later(tmp_path: Path) -> Later:
    return Later(tmp_path)


def test_every_migration_says_which_code_goes_on_beside_it_and_none_goes_back_behind_the_one_before() -> None:
    """Four digits, ascending, so that code can tell that a revision is newer than all that it knows."""
    made = sorted(schema._scripts().walk_revisions(), key=lambda script: script.revision)
    revisions = [script.revision for script in made]
    assert revisions == [f"{number:04}" for number in range(1, len(made) + 1)]
    said = [(script.revision, script.module.oldest_code) for script in made if script.revision >= "0005"]
    assert [oldest for _, oldest in said] == sorted(oldest for _, oldest in said)
    assert all(oldest in revisions and oldest <= revision for revision, oldest in said)


def test_what_a_migration_says_stands_in_the_database(database: Database) -> None:
    with database.connection() as connection:
        said = connection.exec_driver_sql("SELECT revision, oldest_code FROM migrations ORDER BY revision").all()
    assert [tuple(row) for row in said][:1] == [("0005", "0004")]
    assert said[-1].revision == schema.HEAD


def test_today_s_code_works_on_a_newer_schema_that_was_made_for_it_and_leaves_it_as_it_is(
    database: Database, database_url: str, later: Later, claim: Callable[[], Claim]
) -> None:
    later.migrate(database_url, ADDS)
    with database.connection() as connection:
        assert schema.check(connection) == ADDS
    migrate(database_url)
    with database.connection() as connection:
        assert schema.check(connection) == ADDS
    assert claim().attempt == 1


def test_today_s_code_is_refused_by_a_newer_schema_that_was_not_made_for_it(
    database: Database, database_url: str, later: Later
) -> None:
    later.migrate(database_url, TAKES_AWAY)
    with database.connection() as connection, pytest.raises(SchemaMismatch, match=f"schema {TAKES_AWAY}.*upgrade"):
        schema.check(connection)
    with pytest.raises(SchemaMismatch, match="upgrade gsd-tasks"):
        migrate(database_url)


def test_the_next_version_is_refused_until_somebody_has_migrated(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schema, "HEAD", ADDS)
    with database.connection() as connection, pytest.raises(SchemaMismatch, match="gsd-tasks migrate"):
        schema.check(connection)


def test_a_migration_that_waits_for_a_lock_lets_others_through_and_is_made_when_it_is_free(
    database: Database, database_url: str, later: Later, claim: Callable[[], Claim], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A backup holds every table. Without a bound, a migration that waits behind it would stop the whole cluster."""
    monkeypatch.setattr(schema, "LOCK_WAIT_MS", 100)
    monkeypatch.setattr(schema, "LOCK_PAUSE_S", 0.1)
    with psycopg.connect(database_url) as backup:
        backup.execute("LOCK TABLE leases IN ACCESS SHARE MODE")
        migrating = threading.Thread(target=later.migrate, args=(database_url, ADDS))
        migrating.start()
        until(lambda: waits(database), what="the migration waiting")
        assert claim().attempt == 1  # by many times the wait, or never
        assert migrating.is_alive()
    migrating.join(BOUND_S)
    with database.connection() as connection:
        assert schema.check(connection) == ADDS


def test_a_migration_that_gets_no_lock_changes_nothing_and_says_why(
    database: Database, database_url: str, later: Later, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schema, "LOCK_WAIT_MS", 50)
    monkeypatch.setattr(schema, "LOCK_PAUSE_S", 0.01)
    monkeypatch.setattr(schema, "LOCK_PATIENCE_S", 0.2)
    with psycopg.connect(database_url) as backup:
        backup.execute("LOCK TABLE workers IN ACCESS SHARE MODE")
        with pytest.raises(DatabaseUnavailable, match="the schema is as it was"):
            later.migrate(database_url, ADDS)
    with database.connection() as connection:
        assert schema.check(connection) == schema.HEAD
        assert connection.exec_driver_sql("SELECT to_regclass('newcomers')").scalar_one() is None


def waits(database: Database) -> bool:
    """Somebody wants a whole table for himself, and does not have it."""
    query = "SELECT count(*) FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND NOT granted"
    with database.connection() as connection:
        return bool(connection.exec_driver_sql(query).scalar_one())
