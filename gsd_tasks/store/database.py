"""Connections to Postgres, one statement a transaction.

Every connection is in autocommit mode, and every change is one statement: nothing is locked until the whole of it has
arrived, so a process that is stopped or cut off in the middle of sending holds no lock that another one waits for.
`transaction` is the exception, for a person who verifies a session or mends one that nobody runs, for many new
sessions at once, which nobody else sees before they are there, and for the reaper's question who is in its way.

A pooler may stand in between: see `store.pooler`.
"""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal

from sqlalchemy import create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from gsd_tasks.domain.errors import ConfigurationError, DatabaseUnavailable
from gsd_tasks.domain.refusals import of_postgres
from gsd_tasks.store.arrays import Array, ArrayDumper
from gsd_tasks.store.liveness import watch
from gsd_tasks.store.pooler import arrange, bound_locks

if TYPE_CHECKING:
    from collections.abc import Iterator
    from uuid import UUID

    from sqlalchemy import Connection, Engine
    from sqlalchemy.pool import ConnectionPoolEntry

# A peer that is gone without a word is noticed within some 25 s, an unanswered send within 15 s: less than a lease.
SOCKET: Final[dict[str, Any]] = {
    "connect_timeout": 5,
    "keepalives": 1,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,
}

# The server's own side of it. By its defaults the backend of a client that is gone without a word stays for two hours,
# and a worker that is cut off again and again would use up all that there may be: so it ends after a minute. No sooner,
# as a client that is merely stopped, and takes no answer, counts as gone too.
SERVER_SOCKET: Final[dict[str, int]] = {
    "tcp_keepalives_idle": 30,
    "tcp_keepalives_interval": 10,
    "tcp_keepalives_count": 3,
    "tcp_user_timeout": 60_000,
}

#: A statement is prepared when it is sent for the second time.
PREPARE_AFTER: Final = 2

#: What a connection calls itself in `pg_stat_activity`, where nothing more is known of it.
NAME: Final = "gsd-tasks"

#: How long a transaction of several statements may stand still.
IDLE_S: Final = 60

#: The SQLSTATE of a write to a server that stands by, or was made to take none.
READ_ONLY: Final = "25006"


class Database:
    """A pool of autocommit connections, safe to share among threads. Connects on first use.

    `name` is theirs in `pg_stat_activity`. With `lock_timeout_s`, a statement that waits so long for somebody's lock
    gives up, and that counts as a database that does not answer.
    """

    def __init__(
        self, url: str, *, connections: int = 10, name: str = NAME, lock_timeout_s: float | None = None
    ) -> None:
        self._engine = _engine(url, connections, name)
        self._is_closed = False
        event.listen(self._engine, "checkin", self._let_go)
        if lock_timeout_s is not None:
            event.listen(self._engine, "connect", partial(bound_locks, milliseconds=round(lock_timeout_s * 1000)))

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        """A connection for a few statements.

        Raises:
            DatabaseUnavailable: it could not be had, or broke; what was under way may or may not have happened.
        """
        try:
            with self._engine.connect() as connection:
                try:
                    yield connection
                except DBAPIError as error:
                    if _is_read_only(error):
                        # Kept, it would lead to the old primary for as long as the pool lives.
                        connection.invalidate()
                    raise
        except (OperationalError, InterfaceError, PoolTimeout) as error:
            raise DatabaseUnavailable(_in_one_line(error)) from error
        except DBAPIError as error:
            # The server's own goodbye ("terminating connection due to administrator command") has a class of its own.
            if error.connection_invalidated or _is_read_only(error):
                raise DatabaseUnavailable(_in_one_line(error)) from error
            raise

    @contextmanager
    def transaction(self, isolation: Literal["READ COMMITTED", "REPEATABLE READ"]) -> Iterator[Connection]:
        """A connection whose statements are one transaction, committed at the end; what raises undoes all of it.

        Not for a worker, nor for what one holds: see the module. If nothing comes for `IDLE_S`, the server undoes it
        too: whoever is stopped in the middle locks nothing for longer.

        Raises:
            DatabaseUnavailable: as from `connection`.
        """
        with self.connection() as connection:
            try:
                connection.exec_driver_sql(f"BEGIN ISOLATION LEVEL {isolation}")
                connection.exec_driver_sql(f"SET LOCAL idle_in_transaction_session_timeout = '{IDLE_S}s'")
                yield connection
                connection.exec_driver_sql("COMMIT")
            except BaseException:
                # Closed, not rolled back by a statement: that one may fail too, and the pool would keep what is open.
                connection.invalidate()
                raise

    @property
    def engine(self) -> Engine:
        """For migrations and tests."""
        return self._engine

    def close(self) -> None:
        """Give every connection back to the server; one that a thread is still using, as soon as it is done with it."""
        self._is_closed = True
        self._engine.dispose()

    def _let_go(self, _dbapi_connection: object, record: ConnectionPoolEntry) -> None:
        # It comes back to a pool that nobody has any more.
        if self._is_closed:
            record.invalidate()


def worker_name(worker_id: UUID) -> str:
    """What the connections of a worker call themselves. `blockers` tells by it whose a lock is."""
    return f"{NAME} {worker_id}"


def _engine(url: str, connections: int, name: str) -> Engine:
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise ConfigurationError("GSD_DATABASE_URL: is no address like postgresql://user:password@host/name") from error
    if parsed.get_backend_name() != "postgresql":
        raise ConfigurationError(f"GSD_DATABASE_URL: {parsed.get_backend_name()!r} is not postgresql")
    engine = create_engine(
        parsed.set(drivername="postgresql+psycopg"),
        isolation_level="AUTOCOMMIT",
        pool_size=connections,
        max_overflow=5,
        pool_timeout=10,
        # An error goes to logs and screens: the values of a statement, `env` among them, do not go with it.
        hide_parameters=True,
        # Nothing is ever open when a connection comes back, so nothing needs to be rolled back.
        pool_reset_on_return=None,
        skip_autocommit_rollback=True,
        connect_args=SOCKET | {"application_name": name},
    )
    event.listen(engine, "connect", partial(arrange, session=SERVER_SOCKET, prepare_after=PREPARE_AFTER))
    event.listen(engine, "connect", _adapt)
    watch(engine)
    return engine


def _adapt(dbapi_connection: Any, _record: object) -> None:
    dbapi_connection.adapters.register_dumper(Array, ArrayDumper)


def _is_read_only(error: DBAPIError) -> bool:
    """A server that lets nobody write, as during a failover, is as good as away: the next connection finds another."""
    return getattr(error.orig, "sqlstate", None) == READ_ONLY


def _in_one_line(error: Exception) -> str:
    cause = getattr(error, "orig", None) or error
    lines = [line.strip(" -") for line in str(cause).splitlines() if line.strip()] or [type(cause).__name__]
    # Of several attempts the first line says that there were some. None of them is a refusal, unless the last one is.
    said = lines[-1] if lines[0].startswith("Multiple connection attempts failed") else lines[0]
    advice = of_postgres(said)
    return (
        f"the database does not answer: {said}" if advice is None else f"the database lets nobody in: {said}: {advice}"
    )
