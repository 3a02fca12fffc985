from __future__ import annotations

import itertools
import warnings
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, text
from sqlalchemy.exc import IntegrityError

from gsd_tasks.domain.errors import SchemaMismatch
from gsd_tasks.domain.state import TRANSITIONS, Status
from gsd_tasks.local.embedded import EmbeddedServers
from gsd_tasks.store import Database, migrate, schema
from gsd_tasks.store.tables import metadata

SESSION = """
INSERT INTO sessions (id, kind, status, reason, queue, priority, digest, command, working_dir, env, context, claude,
                      timeout_s, idle_timeout_s, max_output_bytes, on_lost)
VALUES (gen_random_uuid(), 'command', 'queued', 'enqueued', 'q', 5, '', '{true}', '/', '{}', '{}', '{}',
        1, 1, 1, 'fail')
RETURNING id
"""


def test_a_migrated_database_is_what_the_tables_say(database: Database) -> None:
    with database.connection() as connection, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the reflection does not know xid8
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, metadata) == []


def test_a_migrated_database_checks_what_the_tables_say(database: Database) -> None:
    """What is not compared above: every CHECK, as Postgres itself writes it."""
    with database.connection() as connection:
        migrated = _checks(connection)
        connection.execute(text("CREATE SCHEMA afresh"))
        connection.execute(text("SET search_path = afresh"))
        try:
            metadata.create_all(connection)
            assert _checks(connection) == migrated
        finally:
            connection.execute(text("RESET search_path"))
    assert len(migrated) > 20


def test_the_newest_migration_is_the_one_that_is_asked_for() -> None:
    assert schema._scripts().get_current_head() == schema.HEAD


def test_ten_nodes_may_migrate_an_empty_database_at_once(servers: EmbeddedServers) -> None:
    url = servers.database_url.rsplit("/", 1)[0] + "/at_once"
    with psycopg.connect(servers.database_url, autocommit=True) as connection:
        connection.execute("CREATE DATABASE at_once")
        try:
            with ThreadPoolExecutor(10) as pool:
                list(pool.map(migrate, [url] * 10))
            database = Database(url)
            with database.connection() as migrated:
                schema.check(migrated)
            database.close()
        finally:
            connection.execute("DROP DATABASE at_once WITH (FORCE)")


def test_a_database_of_a_newer_version_is_refused(database: Database, database_url: str) -> None:
    with database.connection() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
        with pytest.raises(SchemaMismatch, match="upgrade gsd-tasks"):
            schema.check(connection)
    with pytest.raises(SchemaMismatch, match="upgrade gsd-tasks"):
        migrate(database_url)


def test_an_empty_database_is_refused_with_what_to_do(database: Database) -> None:
    with database.connection() as connection:
        connection.execute(text("DROP TABLE alembic_version"))
        with pytest.raises(SchemaMismatch, match="gsd-tasks migrate"):
            schema.check(connection)


def test_the_database_allows_exactly_the_transitions_of_the_state_machine(database: Database) -> None:
    """Each pair is tried for real; what else a row needs to be valid is set with it."""
    with database.connection() as connection:
        for before, after in itertools.permutations(Status, 2):
            assert _is_allowed(connection, before, after) == ((before, after) in TRANSITIONS), (before, after)


def test_a_new_session_is_queued(database: Database) -> None:
    with database.connection() as connection, pytest.raises(IntegrityError, match="cannot be completed"):
        connection.execute(text(SESSION.replace("'queued'", "'completed'")))


@pytest.mark.parametrize(
    "change",
    [
        "status = 'asleep'",
        "reason = 'because'",
        "kind = 'claude'",
        "priority = 10",
        "slot = 4",
        "wanted = 'cancel'",
        "ended_at = now()",
        "status = 'running'",
        "command = NULL",
        "last_seq = -1",
    ],
)
def test_the_database_refuses_what_no_code_must_do(database: Database, change: str) -> None:
    with database.connection() as connection:
        connection.execute(text(SESSION))
        with pytest.raises(IntegrityError):
            connection.execute(text(f"UPDATE sessions SET {change}"))


def _checks(connection: Connection) -> set[tuple[str, str, str]]:
    found = text(
        "SELECT relname, conname, pg_get_constraintdef(pg_constraint.oid) FROM pg_constraint JOIN pg_class"
        " ON pg_class.oid = conrelid WHERE contype = 'c' AND connamespace = current_schema()::regnamespace"
    )
    return {(row.relname, row.conname, row.pg_get_constraintdef) for row in connection.execute(found)}


def _is_allowed(connection: Connection, before: Status, after: Status) -> bool:
    session_id = connection.execute(text(SESSION)).scalar_one()
    # Past the trigger, into the state to begin with.
    connection.execute(text("ALTER TABLE sessions DISABLE TRIGGER gsd_check_transition"))
    connection.execute(text(_set(before)), {"id": session_id})
    connection.execute(text("ALTER TABLE sessions ENABLE TRIGGER gsd_check_transition"))
    try:
        connection.execute(text(_set(after)), {"id": session_id})
    except IntegrityError as error:
        if "illegal transition" in str(error):
            return False
        raise
    return True


def _set(status: Status) -> str:
    ended = "now()" if status.is_final else "NULL"
    return (
        f"UPDATE sessions SET status = '{status}', ended_at = {ended}, attempt = 1, slot = 1, "
        "worker_id = gen_random_uuid() WHERE id = :id"
    )
