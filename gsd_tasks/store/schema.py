"""Bringing a database to this version's schema, and refusing one that this version cannot work with.

Migrations run under an advisory lock: any number of nodes may start at once on an empty database. The lock is that of
their transaction, not of a session: behind a pooler, that would stay with a connection which is somebody else's next.

While a cluster is upgraded process by process, code works on a schema that is newer than itself. So each migration says
which code goes on beside it (`oldest_code`), and writes that into the table `migrations` as it is made: code that has
never heard of a revision can read there whether it was made for its like. CONTRIBUTING.md has the rule.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sqlalchemy import func, inspect, select, text
from sqlalchemy.exc import OperationalError

from gsd_tasks.domain.errors import DatabaseUnavailable, SchemaMismatch
from gsd_tasks.store.database import Database

if TYPE_CHECKING:
    from alembic.config import Config
    from alembic.script import ScriptDirectory
    from sqlalchemy import Connection

#: The newest migration. Written out, so that whoever only asks for it need not load all of Alembic.
HEAD: Final = "0007"
MIGRATIONS: Final = Path(__file__).parent / "migrations"

#: Whoever waits for a table's lock keeps everybody else from that table, heartbeats too: so a migration waits no longer
#: than this, less than half a heartbeat, lets the others through, and tries again.
LOCK_WAIT_MS: Final = 2_000
LOCK_PAUSE_S: Final = 1.0
#: For so long. Somebody has a transaction open: a backup, or a person.
LOCK_PATIENCE_S: Final = 60.0
#: The SQLSTATEs of a statement that has waited so long, and of one that others wait for in a circle.
LOCKED: Final = ("55P03", "40P01")

MIGRATION_LOCK: Final = 0x6773645F7461736B
OLDEST_SERVER: Final = 150_000


def migrate(database_url: str) -> None:
    """Bring the database to this version's schema, or leave it as it is: where it is there, or beyond, already.

    Others may work on it meanwhile. All of it happens, or nothing.

    Raises:
        SchemaMismatch: the schema is a newer one that this version cannot work with, or the server is too old.
        DatabaseUnavailable: it cannot be reached; or somebody held on to a table for a minute.
    """
    database = Database(database_url, connections=1)
    try:
        with database.connection() as connection:
            _check_server(connection)
            _upgrade_patiently(connection)
    finally:
        database.close()


def check(connection: Connection) -> str:
    """Refuse to work with a schema that is not for this version; the revision of one that is.

    Raises:
        SchemaMismatch: with what to do about it.
    """
    revision = _revision(connection)
    if revision is None or revision < HEAD:
        raise SchemaMismatch("the database has no schema of this version yet: run `gsd-tasks migrate` once")
    if revision > HEAD:
        _check_newer(connection, revision)
    return revision


def _check_server(connection: Connection) -> None:
    version = int(connection.exec_driver_sql("SHOW server_version_num").scalar_one())
    if version < OLDEST_SERVER:
        raise SchemaMismatch(f"Postgres {version // 10_000} is too old: 15 or newer is needed")


def _check_newer(connection: Connection, revision: str) -> None:
    """Revisions are numbers of four digits, so that whoever does not know one knows at least that it is newer."""
    found = text("SELECT oldest_code FROM migrations WHERE revision = :revision")
    oldest_code = None
    if inspect(connection).has_table("migrations"):
        oldest_code = connection.execute(found, {"revision": revision}).scalar_one_or_none()
    if oldest_code is None or oldest_code > HEAD:
        raise SchemaMismatch(
            f"the database has schema {revision}, which this version (schema {HEAD}) cannot work with:"
            " upgrade gsd-tasks on this machine"
        )


def _upgrade_patiently(connection: Connection) -> None:
    give_up_at = time.monotonic() + LOCK_PATIENCE_S
    while True:
        try:
            _upgrade(connection)
        except OperationalError as error:
            if getattr(error.orig, "sqlstate", None) not in LOCKED:
                raise
            if time.monotonic() > give_up_at:
                raise DatabaseUnavailable(
                    "the schema is as it was: a transaction that somebody has open (a backup?) holds a table that is to"
                    " be changed; end it, or wait, and migrate again"
                ) from error
            time.sleep(LOCK_PAUSE_S)
        else:
            return


def _upgrade(connection: Connection) -> None:
    # A transaction of its own on the raw connection: all of the schema, or none of it.
    connection.exec_driver_sql("BEGIN")
    try:
        connection.execute(select(func.pg_advisory_xact_lock(MIGRATION_LOCK)))
        # What somebody else has done while this waited is seen from here on.
        revision = _revision(connection)
        if revision is not None and revision > HEAD:
            _check_newer(connection, revision)
        elif revision != HEAD:
            connection.exec_driver_sql(f"SET LOCAL lock_timeout = {LOCK_WAIT_MS}")
            _run_migrations(connection)
        connection.exec_driver_sql("COMMIT")
    except BaseException:
        connection.exec_driver_sql("ROLLBACK")
        raise


def _run_migrations(connection: Connection) -> None:
    from alembic import command

    config = _config()
    config.attributes["connection"] = connection
    command.upgrade(config, HEAD)


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one_or_none()


def _scripts() -> ScriptDirectory:
    from alembic.script import ScriptDirectory

    return ScriptDirectory.from_config(_config())


def _config() -> Config:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    return config
