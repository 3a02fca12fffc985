"""What breaks around a session while it runs. The servers here are the test's own: they are stopped and started."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import redis

from gsd_tasks.client import Client
from gsd_tasks.domain.state import Status
from gsd_tasks.local.embedded import EmbeddedServers, embedded_servers
from gsd_tasks.store import migrate
from tests.cluster import Cluster
from tests.conftest import FAST_POSTGRES
from tests.waiting import BOUND_S, until

#: Longer than a heartbeat (5 s), so a renewal fails, and than whatever a call to the shim or to a pool waits by itself.
#: 90, and every child stands still for a while; this long, none does.
AWAY_S = float(os.environ.get("GSD_TEST_AWAY_S", "7"))
#: For the servers' stop and start: the children write before, throughout and after it.
AROUND_S = 5
#: By which the processes of one test are found, whoever else runs it on this machine.
DEEP_SLEEP = f"9{os.getpid()}"
LEASE_S = 30
FROZEN_LEASE_S = 3
#: More than ten times what a worker of three slots has in its hands when Redis is emptied.
QUEUED = int(os.environ.get("GSD_TEST_QUEUED", "40"))
#: At which a worker is stopped that writes.
MOMENTS = int(os.environ.get("GSD_TEST_MOMENTS", "12"))
#: `30,5,10` are the defaults. Whatever they are, a lease and a sweep must have gone by before anything runs elsewhere.
LOST_HOST = dict(
    zip(
        ("GSD_LEASE_S", "GSD_HEARTBEAT_S", "GSD_REPUBLISH_S"),
        os.environ.get("GSD_TEST_LOST_HOST", "2,0.5,1").split(","),
        strict=True,
    )
)

# Writes for so many seconds, and tells at the end how long its slowest write took.
STEADY = """
import os, sys, time
slowest, number, end = 0.0, 0, time.monotonic() + float(sys.argv[1])
while time.monotonic() < end:
    number += 1
    line = f"{number:09} {'x' * 190}\\n".encode()
    before = time.monotonic()
    os.write(1, line)
    slowest = max(slowest, time.monotonic() - before)
    time.sleep(0.001)
print(f"slowest {slowest:.3f} s, {number} lines", flush=True)
"""


@pytest.fixture
def own_servers() -> Iterator[EmbeddedServers]:
    folder = Path(tempfile.mkdtemp(prefix="gsd-own-"))
    try:
        with embedded_servers(folder, extra_postgres_settings=FAST_POSTGRES) as servers:
            migrate(servers.database_url)
            yield servers
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def own_cluster(own_servers: EmbeddedServers, tmp_path: Path) -> Iterator[Cluster]:
    with Cluster(own_servers.database_url, own_servers.redis_url, tmp_path) as cluster:
        yield cluster


@pytest.mark.slow
def test_a_database_that_is_away_blocks_no_child_and_loses_no_row(
    own_servers: EmbeddedServers, own_cluster: Cluster
) -> None:
    """Each child measures its own writes: none waits, although three of them write 1,000 lines a second."""
    client = own_cluster.client
    own_cluster.worker()
    (own_cluster.folder / "steady.py").write_text(STEADY)
    command = [sys.executable, "steady.py", str(AWAY_S + AROUND_S)]
    sessions = [client.enqueue(command=command, working_dir=own_cluster.folder) for _ in range(3)]
    for session in sessions:
        next(client.follow(session.id))

    own_servers.postgres.stop()
    gone_at = time.monotonic()
    until(lambda: time.monotonic() - gone_at > AWAY_S, timeout_s=AWAY_S + 5)
    own_servers.postgres.start()

    for session in sessions:
        ended = client.wait(session.id, timeout_s=BOUND_S)
        assert (ended.status, ended.attempt) == (Status.COMPLETED, 1), ended
        rows = [row.data or "" for row in client.follow(session.id)]
        said = re.fullmatch(r"slowest (\d+\.\d+) s, (\d+) lines", rows[-1])
        assert said is not None, rows[-1]
        assert [int(row[:9]) for row in rows[:-1]] == list(range(1, int(said[2]) + 1))
        assert float(said[1]) < (AWAY_S / 2 if AWAY_S < LEASE_S else AWAY_S), "a write waited"


def test_a_child_stands_still_past_its_deadline_and_goes_on_when_the_database_is_back(
    own_servers: EmbeddedServers, own_cluster: Cluster
) -> None:
    """A lease of 3 s: the child notes on disk when it works, and there must be nothing between deadline and renewal."""
    client, folder = own_cluster.client, own_cluster.folder
    own_cluster.worker(env={"GSD_LEASE_S": str(FROZEN_LEASE_S), "GSD_HEARTBEAT_S": "0.5"})
    script = "i=0; while [ ! -e gate ]; do i=$((i+1)); echo $i; echo $i >> ticks; sleep 0.02; done"
    session = client.enqueue(command=["sh", "-c", script], working_dir=folder)
    next(client.follow(session.id))

    own_servers.postgres.stop()
    ticks = folder / "ticks"
    until(lambda: time.time() - ticks.stat().st_mtime > 2, timeout_s=BOUND_S, what="the freeze")
    frozen_at = ticks.stat().st_size
    own_servers.postgres.start()
    until(lambda: ticks.stat().st_size > frozen_at, timeout_s=BOUND_S, what="the thaw")
    (folder / "gate").touch()

    ended = client.wait(session.id, timeout_s=BOUND_S)
    assert (ended.status, ended.attempt) == (Status.COMPLETED, 1), ended
    printed = [row.data for row in client.follow(session.id)]
    assert printed == ticks.read_text().split()


def test_a_worker_stopped_in_the_middle_of_writing_blocks_nobody(cluster: Cluster, database_url: str) -> None:
    """Stopped at moments of a torrent of output: every lease can be locked at once by somebody else."""
    process = cluster.worker()
    flood = "while :; do head -c 300000 /dev/zero | tr '\\0' 'x'; echo; done"
    sessions = [cluster.client.enqueue(command=["sh", "-c", flood], working_dir=cluster.folder) for _ in range(3)]
    for session in sessions:
        next(cluster.client.follow(session.id))

    with psycopg.connect(database_url, autocommit=True) as connection:
        for number in range(MOMENTS):
            _wait_for_rows(connection)
            # Some moment of the cycle, another one each time.
            go_at = time.monotonic() + number * 0.039 / MOMENTS
            while time.monotonic() < go_at:
                pass
            os.kill(process.pid, signal.SIGSTOP)
            try:
                with connection.transaction():
                    connection.execute("SET LOCAL lock_timeout = '20s'")
                    locked = connection.execute("SELECT session_id FROM leases FOR UPDATE").fetchall()
                    assert len(locked) == 3
            finally:
                os.kill(process.pid, signal.SIGCONT)
    for session in sessions:
        cluster.client.cancel(session.id)
    for session in sessions:
        ended = cluster.client.wait(session.id, timeout_s=BOUND_S)
        assert ended.status is Status.CANCELLED
        seqs = [row.seq for row in cluster.client.follow(session.id)]
        assert seqs == list(range(1, ended.seq + 1))


def test_what_a_killed_worker_ran_is_run_by_another_one_after_its_child_stands_still(cluster: Cluster) -> None:
    """Each attempt notes when it works: the moments of the two never overlap."""
    env = {"GSD_LEASE_S": "3", "GSD_HEARTBEAT_S": "0.5"}
    client, folder = cluster.client, cluster.folder
    process = cluster.worker("first", env=env)
    cluster.maintenance(env=env)
    script = "while [ ! -e gate ]; do echo $GSDTASKS_ATTEMPT $(date +%s%N) >> ticks; echo x; sleep 0.02; done"
    again = client.enqueue(command=["sh", "-c", script], working_dir=folder, on_lost="requeue")
    never = client.enqueue(command=["sh", "-c", "echo up; exec sleep 600"], working_dir=folder)
    for session in (again, never):
        next(client.follow(session.id))
    process.kill()
    process.wait()

    cluster.worker("second", env=env | {"GSD_STATE_DIR": str(folder / "elsewhere")})
    until(lambda: client.get(again.id).attempt == 2, timeout_s=BOUND_S)
    until(lambda: "\n2 " in (folder / "ticks").read_text())
    (folder / "gate").touch()
    assert client.wait(again.id, timeout_s=BOUND_S).status is Status.COMPLETED
    lost = client.wait(never.id, timeout_s=BOUND_S)
    assert (lost.status, lost.reason) == (Status.FAILED, "lease_lost")
    rows = list(client.follow(again.id))
    assert [row.seq for row in rows] == list(range(1, len(rows) + 1))
    ticks = [tuple(map(int, line.split())) for line in (folder / "ticks").read_text().splitlines()]
    assert max(at for attempt, at in ticks if attempt == 1) < min(at for attempt, at in ticks if attempt == 2)


@pytest.mark.slow
def test_what_a_lost_host_ran_runs_elsewhere_within_a_lease_and_a_sweep(cluster: Cluster, database_url: str) -> None:
    """Worker, shim and child are gone at one instant. Counted from the last renewal."""
    elsewhere = {"GSD_STATE_DIR": str(cluster.folder / "elsewhere")}
    client = cluster.client
    cluster.maintenance(env=LOST_HOST)
    process = cluster.worker("lost", env=LOST_HOST)
    session = client.enqueue(
        command=["sh", "-c", "echo up; until [ -e gate ]; do sleep 0.05; done"],
        working_dir=cluster.folder,
        on_lost="requeue",
    )
    next(client.follow(session.id))
    cluster.worker("other", env=LOST_HOST | elsewhere)
    process.kill()
    cluster.kill_shims()
    process.wait()

    with psycopg.connect(database_url, autocommit=True) as connection:
        (renewed_at,) = connection.execute(
            "SELECT expires_at - make_interval(secs => %s) FROM leases", [float(LOST_HOST["GSD_LEASE_S"])]
        ).fetchall()[0]
    until(lambda: client.get(session.id).attempt == 2, timeout_s=2 * BOUND_S)
    (cluster.folder / "gate").touch()
    with psycopg.connect(database_url, autocommit=True) as connection:
        (took,) = connection.execute("SELECT claimed_at - %s FROM attempts WHERE attempt = 2", [renewed_at]).fetchall()[
            0
        ]
    print(f"running elsewhere {took.total_seconds():.1f} s after the last renewal")  # noqa: T201  (a figure for docs)
    # In earnest, on a machine that has nothing else to do; in the suite, how busy that is tells nothing of us.
    margin_s = 5 if "GSD_TEST_LOST_HOST" in os.environ else BOUND_S
    bound_s = float(LOST_HOST["GSD_LEASE_S"]) + float(LOST_HOST["GSD_REPUBLISH_S"]) + margin_s
    assert took.total_seconds() <= bound_s
    assert client.wait(session.id, timeout_s=BOUND_S).recoveries == 1


def test_a_shim_that_is_killed_ends_its_session_with_what_was_written(cluster: Cluster) -> None:
    cluster.worker()
    script = f"echo before; setsid sleep {DEEP_SLEEP} & exec sleep {DEEP_SLEEP}"
    session = cluster.client.enqueue(command=["sh", "-c", script], working_dir=cluster.folder)
    next(cluster.client.follow(session.id))
    (lock,) = cluster.state_dir.glob("spool/*/*/*/shim.lock")
    pid = int(re.findall(r'"pid": (\d+)', lock.read_text())[0])
    os.kill(pid, signal.SIGKILL)

    ended = cluster.client.wait(session.id, timeout_s=BOUND_S)
    assert (ended.status, ended.reason) == (Status.FAILED, "child_lost")
    assert [row.data for row in cluster.client.output(session.id)] == ["before"]
    until(lambda: not _processes_with(DEEP_SLEEP), timeout_s=BOUND_S, what="the end of the tree")


@pytest.mark.slow
def test_a_redis_that_was_emptied_costs_no_session_and_runs_none_twice(cluster: Cluster, redis_url: str) -> None:
    """Emptied before a worker takes anything, and again in the middle."""
    client = cluster.client
    ran = cluster.folder / "ran"
    for number in range(QUEUED):
        client.enqueue(command=["sh", "-c", f"echo {number} >> ran"], working_dir=cluster.folder)
    with redis.Redis.from_url(redis_url) as broker:
        broker.flushall()
        cluster.maintenance()
        cluster.worker()
        until(lambda: ran.exists() and len(ran.read_text().split()) > QUEUED / 2, timeout_s=max(BOUND_S, QUEUED))
        broker.flushall()
    until(
        lambda: client.list(status=Status.COMPLETED, limit=1) and not _unended(client), timeout_s=max(BOUND_S, QUEUED)
    )
    assert sorted(map(int, ran.read_text().split())) == list(range(QUEUED))


def test_redis_gone_while_a_session_runs_does_not_touch_it(own_servers: EmbeddedServers, own_cluster: Cluster) -> None:
    """Cancelling works without it too: at the next heartbeat."""
    client = own_cluster.client
    own_cluster.worker(env={"GSD_HEARTBEAT_S": "1"})
    session = client.enqueue(
        command=["sh", "-c", "while :; do echo x; sleep 0.1; done"], working_dir=own_cluster.folder
    )
    next(client.follow(session.id))
    own_servers.valkey.stop()
    before = client.get(session.id).seq
    until(lambda: client.get(session.id).seq > before + 10)

    queued = client.enqueue(command=["true"], working_dir=own_cluster.folder)
    assert queued.status is Status.QUEUED
    client.cancel(session.id)
    assert client.wait(session.id, timeout_s=BOUND_S).status is Status.CANCELLED

    own_servers.valkey.start()
    own_cluster.maintenance()
    assert client.wait(queued.id, timeout_s=BOUND_S).status is Status.COMPLETED


def _rows(connection: psycopg.Connection[tuple[int]]) -> int:
    row = connection.execute("SELECT sum(last_seq) FROM leases").fetchone()
    return int(row[0]) if row else 0


def _wait_for_rows(connection: psycopg.Connection[tuple[int]]) -> None:
    before = _rows(connection)
    until(lambda: _rows(connection) > before, timeout_s=BOUND_S)


def _processes_with(argument: str) -> str:
    return subprocess.run(["pgrep", "-f", f"sleep {argument}"], capture_output=True, text=True, check=False).stdout


def _unended(client: Client) -> bool:
    return any(client.list(status=status, limit=1) for status in (Status.QUEUED, Status.RUNNING))
