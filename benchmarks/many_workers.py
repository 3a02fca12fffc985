"""Many workers, as Postgres sees them, and what they cost it by being alive: for `figures/renewing.py`.

Each worker has its own pool of connections, its own keeper (`service.lease.Keeper`) with three leases, and says that it
is there, by the project's own code, every heartbeat; a maintenance process's sweeps and an API that is scraped every
15 s run beside them. Only their children are missing. Postgres has the settings of `gsd-tasks up`, but for the number
of connections. The workers are played by a few processes of one thread each, in which their heartbeats follow one
another: with threads of their own, a thousand workers have more to do with each other than with Postgres.
"""

from __future__ import annotations

import heapq
import math
import multiprocessing
import os
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch
from uuid import uuid4

import psutil
import psycopg
import uuid_utils.compat as uuid_utils

from benchmarks.rig import cpu_s, postmaster_of
from gsd_tasks.domain.session import SLOTS, Holder, SessionId, Submission, Worker, WorkerId, WorkerStatus
from gsd_tasks.domain.submission import digest
from gsd_tasks.local.embedded import EmbeddedServers, embedded_servers
from gsd_tasks.local.ports import choose_port
from gsd_tasks.service import lease
from gsd_tasks.service.lease import Keeper, boot_clock_s
from gsd_tasks.service.maintenance import Maintenance
from gsd_tasks.settings import Settings
from gsd_tasks.store import Claim, Database, migrate, nodes, transitions
from gsd_tasks.store.database import worker_name

LEASE_S: Final = 30.0
HEARTBEAT_S: Final = 5.0
SCRAPE_S: Final = 15.0
#: A lease's first term: no worker keeps its own before all have claimed.
UNTIL_ALL_ARE_THERE_S: Final = 900.0
REQUEST: Final = Submission(command=("true",), working_dir="/")
WARM_UP_S: Final = 15.0
#: Of the server's processes that serve a connection.
LOOKED_AT: Final = 50
SOME_CONNECTIONS: Final = """
SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' ORDER BY random() LIMIT %s
"""
CPU: Final = "% of a core"
RENEWALS: Final = "renewals/s"
COMMITS: Final = "commits/s"
HEAP_ONLY: Final = "% heap-only"
MEMORY: Final = "MiB for each connection"
COUNTED: Final = """
SELECT pg_stat_force_next_flush(),
       (SELECT sum(xact_commit) FROM pg_stat_database)::bigint AS commits,
       (SELECT sum(renewals) FROM leases)::bigint AS renewals,
       (SELECT count(*) FROM leases WHERE expires_at < clock_timestamp()) AS expired,
       (SELECT n_tup_upd FROM pg_stat_user_tables WHERE relname = 'leases') AS updates,
       (SELECT n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'leases') AS heap_only
"""


class Simulated:
    """One worker, as Postgres sees it: three leases kept, and a word at each heartbeat."""

    def __init__(self, url: str, number: int) -> None:
        self.id = WorkerId(uuid4())
        self._number = number
        self._database = Database(url, name=worker_name(self.id), lock_timeout_s=HEARTBEAT_S * 0.4)
        self._keeper = Keeper(self._database, lease_s=LEASE_S, heartbeat_s=HEARTBEAT_S)
        self._kept = ExitStack()
        # A worker has two, as it may renew and say its word at once: had before the clock runs.
        with self._database.connection() as connection, self._database.connection():
            nodes.register(connection, self._worker())
            claims = [self._claim(connection, slot) for slot in range(1, SLOTS + 1)]
        for claim in claims:
            self._kept.enter_context(self._keeper.keeping(claim, claimed_at_boot_s=boot_clock_s()))

    def renew(self) -> None:
        """What its keeper does at each heartbeat."""
        self._keeper.turn()

    def be_seen(self) -> None:
        """What it says of itself at each heartbeat."""
        with self._database.connection() as connection:
            nodes.seen(connection, self.id, WorkerStatus.ALIVE, has_credentials=True)

    def stop(self) -> None:
        """Without a word."""
        self._kept.close()
        self._database.close()

    def _claim(self, connection: Any, slot: int) -> Claim:
        session_id = SessionId(uuid_utils.uuid7())
        transitions.enqueue(connection, session_id, REQUEST, digest(REQUEST))
        claim = transitions.claim(
            connection, session_id, holder=Holder(uuid4()), worker_id=self.id, slot=slot, lease_s=UNTIL_ALL_ARE_THERE_S
        )
        assert claim is not None
        return claim

    def _worker(self) -> Worker:
        now = datetime.now().astimezone()
        return Worker(
            id=self.id,
            name=f"gsd@host-{self._number}",
            host_id=f"host {self._number}",
            boot_id="boot",
            pid=1,
            version="0",
            status=WorkerStatus.ALIVE,
            queues=("sessions",),
            slots=SLOTS,
            containment="subreaper",
            has_credentials=True,
            busy={},
            started_at=now,
            seen_at=now,
        )


def crew(url: str, numbers: range, begun: Barrier, over: Any) -> None:
    """One process of workers: until `over` is set."""
    workers = [Simulated(url, number) for number in numbers]
    begun.wait()
    # There are no slots whose loops could turn, or hang.
    with patch.object(lease, "HANGS_AFTER_S", math.inf):
        _play([turn for worker in workers for turn in (worker.renew, worker.be_seen)], over)
    for worker in workers:
        worker.stop()


def _play(turns: Sequence[Callable[[], None]], over: Any) -> None:
    """Each of them every heartbeat, from some moment of the first one on, like workers that were started one by one."""
    now = time.monotonic()
    due = [(now + random.uniform(0, HEARTBEAT_S), number) for number in range(len(turns))]
    heapq.heapify(due)
    while not over.wait(max(0.0, due[0][0] - time.monotonic())):
        at, number = due[0]
        turns[number]()
        # One that is late is not made up for: `RENEWALS` tells.
        heapq.heapreplace(due, (max(at + HEARTBEAT_S, time.monotonic()), number))


def measure(workers: int, processes: int, seconds: int) -> dict[str, float]:
    """What so many cost, on servers of their own."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="gsd-bench-")))
        most = {"max_connections": str(workers * 3 + 100)}
        servers = stack.enter_context(embedded_servers(folder, extra_postgres_settings=most))
        migrate(servers.database_url)
        stack.enter_context(_workers(servers.database_url, workers, processes))
        settings = Settings(database_url=servers.database_url, redis_url=servers.redis_url, state_dir=folder)
        maintenance = Maintenance(
            settings, database_url=servers.database_url, redis_url=servers.redis_url, publish=_publish
        )
        maintenance.start()
        stack.callback(maintenance.stop)
        stack.enter_context(_scraped(servers, folder))
        return _measure(servers, seconds)


def _measure(servers: EmbeddedServers, seconds: int) -> dict[str, float]:
    postmaster = postmaster_of(servers)
    with psycopg.connect(servers.database_url, autocommit=True) as connection:
        time.sleep(min(WARM_UP_S, seconds))
        before, began, before_s = _count(connection), time.monotonic(), cpu_s(postmaster)
        time.sleep(seconds)
        after, took_s, spent_s = _count(connection), time.monotonic() - began, cpu_s(postmaster) - before_s
        memory = _memory_of_some(connection)
    updates, heap_only = (after[name] - before[name] for name in ("updates", "heap_only"))
    assert after["expired"] == 0, f"{after['expired']} leases had expired: this machine cannot play so many workers"
    return {
        CPU: spent_s / took_s * 100,
        RENEWALS: (after["renewals"] - before["renewals"]) / took_s,
        COMMITS: (after["commits"] - before["commits"]) / took_s,
        HEAP_ONLY: 100 * heap_only / max(1, updates),
        MEMORY: memory / 2**20,
    }


def _memory_of_some(connection: psycopg.Connection) -> float:
    """Bytes of one, what they share divided among them. The kernel takes long to find that out for each of them."""
    pids = connection.execute(SOME_CONNECTIONS, [LOOKED_AT])
    return statistics.fmean(psutil.Process(pid).memory_full_info().pss for (pid,) in pids)


def _count(connection: psycopg.Connection) -> dict[str, Any]:
    from psycopg.rows import dict_row

    with connection.cursor(row_factory=dict_row) as cursor:
        row = cursor.execute(COUNTED).fetchone()
    assert row is not None
    return row


@contextmanager
def _workers(url: str, number: int, processes: int) -> Iterator[None]:
    """They begin together, when all of them have claimed their sessions."""
    context = multiprocessing.get_context("spawn")
    begun, over = context.Barrier(processes + 1), context.Event()
    shares = [range(place, number, processes) for place in range(processes)]
    started = [context.Process(target=crew, args=(url, share, begun, over)) for share in shares]
    for process in started:
        process.start()
    try:
        begun.wait(timeout=600)
        yield
    finally:
        over.set()
        for process in started:
            process.join(60)


@contextmanager
def _scraped(servers: EmbeddedServers, folder: Path) -> Iterator[None]:
    """An API whose figures are asked for now and then."""
    port, own, over = choose_port(None), choose_port(None), threading.Event()
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GSD_")}
    env = kept | {
        "GSD_DATABASE_URL": servers.database_url,
        "GSD_REDIS_URL": servers.redis_url,
        "GSD_STATE_DIR": str(folder),
        "GSD_API_METRICS": f"127.0.0.1:{own}",
        "GSD_LOG_LEVEL": "WARNING",
    }

    def scrape() -> None:
        while not over.wait(SCRAPE_S):
            # It may not be there yet.
            with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{own}/metrics", timeout=60) as answer:
                answer.read()

    command = [sys.executable, "-m", "gsd_tasks", "api", "--port", str(port)]
    with subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL) as process:
        thread = threading.Thread(target=scrape)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
            process.terminate()


def _publish(session_id: SessionId, *, queue: str, priority: int) -> None:
    """Nothing is queued."""
