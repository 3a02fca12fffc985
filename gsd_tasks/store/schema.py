"""Bringing a database to this version's schema, and refusing one that is not.

Migrations run under an advisory lock: any number of nodes may start at once on an empty database.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from sqlalchemy import func, inspect, select, text

from gsd_tasks.domain.errors import SchemaMismatch
from gsd_tasks.store.database import Database

if TYPE_CHECKING:
    from alembic.config import Config
    from alembic.script import ScriptDirectory
    from sqlalchemy import Connection

#: The newest migration. Written out, so that whoever only asks for it need not load all of Alembic.
HEAD: Final = "0004"

MIGRATION_LOCK: Final = 0x6773645F7461736B
OLDEST_SERVER: Final = 150_000


def migrate(database_url: str) -> None:
    """Bring the database to this version's schema. Does nothing where it is there already.

    Raises:
        SchemaMismatch: the database belongs to a newer version of this code, or the server is too old.
        DatabaseUnavailable: it cannot be reached.
    """
    database = Database(database_url, connections=1)
    try:
        with database.connection() as connection:
            _check_server(connection)
            connection.execute(select(func.pg_advisory_lock(MIGRATION_LOCK)))
            try:
                _check_known(connection)
                _upgrade(connection)
            finally:
                connection.execute(select(func.pg_advisory_unlock(MIGRATION_LOCK)))
    finally:
        database.close()


def check(connection: Connection) -> None:
    """Refuse to work with a schema that is not this version's.

    Raises:
        SchemaMismatch: with what to do about it.
    """
    revision = _revision(connection)
    if revision == HEAD:
        return
    _check_known(connection)
    raise SchemaMismatch("the database has no schema of this version yet: run `gsd-tasks migrate` once")


def _check_server(connection: Connection) -> None:
    version = int(connection.exec_driver_sql("SHOW server_version_num").scalar_one())
    if version < OLDEST_SERVER:
        raise SchemaMismatch(f"Postgres {version // 10_000} is too old: 15 or newer is needed")


def _check_known(connection: Connection) -> None:
    revision = _revision(connection)
    known = {script.revision for script in _scripts().walk_revisions()}
    if revision is not None and revision not in known:
        raise SchemaMismatch(
            f"the database has schema {revision}, which this version does not know: upgrade gsd-tasks on this machine"
        )


def _upgrade(connection: Connection) -> None:
    if _revision(connection) == HEAD:
        return
    from alembic import command

    config = _config()
    # A transaction of its own on the raw connection: all of the schema, or none of it.
    connection.exec_driver_sql("BEGIN")
    try:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
        connection.exec_driver_sql("COMMIT")
    except BaseException:
        connection.exec_driver_sql("ROLLBACK")
        raise


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
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    return config
