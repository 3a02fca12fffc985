"""PgBouncer in transaction mode between every part and Postgres: no statement knows who had its connection before."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError

from gsd_tasks.domain.errors import DatabaseUnavailable
from gsd_tasks.domain.state import Status
from gsd_tasks.local.embedded import EmbeddedServers
from gsd_tasks.service import link_checks
from gsd_tasks.store import Claim, Connection, Database, blockers, migrate
from gsd_tasks.store.database import worker_name
from tests.cluster import Cluster
from tests.machines.servers import PgBouncer, own_folder
from tests.waiting import BOUND_S, until

LINES = [str(number) for number in range(1, 10)]
#: Of the pool's connections to the server; less than there are clients by far.
CONNECTIONS = 3


@pytest.fixture
def pgbouncer(database_url: str) -> Iterator[PgBouncer]:
    with own_folder() as folder, PgBouncer(folder, database_url, connections=CONNECTIONS) as running:
        yield running


@pytest.fixture
def pooled(pgbouncer: PgBouncer) -> Iterator[Database]:
    opened = Database(pgbouncer.url, lock_timeout_s=0.2)
    yield opened
    opened.close()


@pytest.mark.slow
def test_a_cluster_works_behind_pgbouncer(pgbouncer: PgBouncer, redis_url: str, tmp_path: Path) -> None:
    with Cluster(pgbouncer.url, redis_url, tmp_path) as cluster:
        cluster.maintenance()
        cluster.worker()
        client = cluster.client
        count = ["sh", "-c", "for i in 1 2 3 4 5 6 7 8 9; do echo $i; sleep 0.05; done"]
        begun = [client.enqueue(command=count, working_dir=tmp_path) for _ in range(9)]
        with ThreadPoolExecutor(len(begun)) as many:
            ended = list(many.map(lambda session: client.wait(session.id, timeout_s=BOUND_S), begun))
        assert {session.status for session in ended} == {Status.COMPLETED}
        for session in ended:
            assert [row.data for row in client.output(session.id)] == LINES
            assert not client.verify(session.id).findings
        running = client.enqueue(command=["sleep", "900"], working_dir=tmp_path)
        until(lambda: client.get(running.id).status is Status.RUNNING)
        client.cancel(running.id)
        assert client.wait(running.id, timeout_s=BOUND_S).status is Status.CANCELLED

        assert kept(pgbouncer.url) == {("0", "0", 0)}
        for log in (cluster.logs(), pgbouncer.log.read_text()):
            assert "prepared statement" not in log
            assert "Traceback" not in log
        said = subprocess.run(
            [sys.executable, "-m", "gsd_tasks", "doctor"],
            env=cluster.env,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert "Postgres pooler" in said.stdout
        assert said.stderr == ""


def test_many_migrate_at_once_behind_it_and_no_lock_is_left(servers: EmbeddedServers) -> None:
    with psycopg.connect(servers.database_url, autocommit=True) as direct:
        direct.execute("CREATE DATABASE migrated")
        try:
            url = servers.database_url.rpartition("/")[0] + "/migrated"
            with own_folder() as folder, PgBouncer(folder, url, connections=5) as pgbouncer:
                with ThreadPoolExecutor(5) as many:
                    assert list(many.map(lambda _: migrate(pgbouncer.url), range(5))) == [None] * 5
                (left,) = direct.execute("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'").fetchone() or (1,)
            assert left == 0
        finally:
            direct.execute("DROP DATABASE migrated WITH (FORCE)")


def test_a_statement_behind_it_waits_for_a_lock_as_long_as_it_may_and_nobody_elses_is_bounded(
    pooled: Database, pgbouncer: PgBouncer, database_url: str, claim: Callable[..., Claim]
) -> None:
    claim()
    with psycopg.connect(database_url) as holder:
        holder.execute("SELECT 1 FROM leases FOR UPDATE")
        for _ in range(2 * CONNECTIONS):
            with pytest.raises(DatabaseUnavailable, match="lock timeout"), pooled.connection() as connection:
                connection.execute(text("SELECT 1 FROM leases FOR UPDATE"))
        with (
            pytest.raises(DatabaseUnavailable, match="lock timeout"),
            pooled.transaction("REPEATABLE READ") as connection,
        ):
            connection.execute(text("SELECT 1 FROM leases FOR UPDATE"))
    with pooled.transaction("REPEATABLE READ") as connection:
        row = connection.execute(text("SHOW transaction_isolation")).scalar_one(), *bounds(connection)
    assert row == ("repeatable read", "200ms", "1min")
    with pooled.connection() as connection:
        assert bounds(connection) == ("200ms", "0")
    assert kept(pgbouncer.url) == {("0", "0", 0)}


def test_a_statement_behind_it_ends_with_its_sync(pooled: Database, tmp_path: Path) -> None:
    """What comes after that would take one of the pool's connections, and nothing would give it back."""
    with pooled.connection() as connection, (tmp_path / "trace").open("wb") as trace:
        driver = connection.connection.driver_connection
        assert driver is not None
        driver.pgconn.trace(trace.fileno())
        for _ in range(20):
            assert bounds(connection) == ("200ms", "0")
        with pytest.raises(ProgrammingError):
            connection.execute(text("SELECT 1 FROM nothing"))
        assert bounds(connection) == ("200ms", "0")
        driver.pgconn.untrace()
        said = (tmp_path / "trace").read_text()
    assert said.count("\tSync") == 22
    assert "\tFlush" not in said


def test_who_is_in_the_way_is_found_behind_it_and_can_be_ended(
    pooled: Database, pgbouncer: PgBouncer, claim: Callable[..., Claim]
) -> None:
    """The holder's own connection, which goes through it too."""
    session_id = claim().session.id
    with pooled.connection() as connection:
        worker = connection.execute(text("SELECT worker_id FROM leases")).scalar_one()
    with psycopg.connect(pgbouncer.url, application_name=worker_name(worker)) as holder:
        (pid,) = holder.execute("SELECT pg_backend_pid() FROM leases FOR UPDATE").fetchone() or (0,)
        (found,) = blockers.find(pooled, session_id)
        assert (found.pid, found.is_holders) == (pid, True)
        with pooled.connection() as connection:
            assert blockers.end(connection, found)
        with pytest.raises(psycopg.OperationalError):
            holder.execute("SELECT 1")
    assert blockers.find(pooled, session_id) == []
    assert kept(pgbouncer.url) == {("0", "0", 0)}


def test_the_doctor_tells_a_server_from_a_pooler(pgbouncer: PgBouncer, database_url: str) -> None:
    assert [finding.check for finding in link_checks.postgres(database_url)] == ["Postgres TLS"]
    assert [finding.check for finding in link_checks.postgres(pgbouncer.url)] == ["Postgres TLS", "Postgres pooler"]


def kept(url: str) -> set[tuple[object, ...]]:
    """What the pool's connections still have of what others have said on them: each of them, as none is given back."""
    asked = (
        "SELECT current_setting('lock_timeout'), current_setting('tcp_user_timeout'),"
        " (SELECT count(*) FROM pg_prepared_statements)"
    )
    with ExitStack() as all_of_them:
        others = [all_of_them.enter_context(psycopg.connect(url)) for _ in range(CONNECTIONS)]
        return {row for other in others if (row := other.execute(asked).fetchone()) is not None}


def bounds(connection: Connection) -> tuple[object, ...]:
    asked = text("SELECT current_setting('lock_timeout'), current_setting('idle_in_transaction_session_timeout')")
    return tuple(connection.execute(asked).one())
