"""What the figures are measured on: servers with their usual settings, on disk, and one worker with three slots."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import psutil

from gsd_tasks import Client
from gsd_tasks.domain.errors import ApiUnavailable
from gsd_tasks.domain.tokens import Scope
from gsd_tasks.local.embedded import EmbeddedServers, embedded_servers
from gsd_tasks.local.ports import choose_port
from gsd_tasks.service import tokens
from gsd_tasks.store import Database, migrate
from tests.cluster import Cluster
from tests.waiting import until

SLOTS = 3


@dataclass(frozen=True, slots=True)
class Rig:
    """A cluster as a user has it, and where to put what is needed beside."""

    folder: Path
    servers: EmbeddedServers
    cluster: Cluster
    worker: psutil.Process
    postgres: psutil.Process

    @property
    def client(self) -> Client:
        return self.cluster.client

    @contextmanager
    def api(self) -> Iterator[Client]:
        """An API process, and a client that knows it alone."""
        database = Database(self.servers.database_url)
        _, token = tokens.create(database, f"bench-{uuid4()}", {Scope.READ}, None)
        database.close()
        port = choose_port(None)
        env = self.cluster.env | {"GSD_API_PORT": str(port), "GSD_LOG_LEVEL": "WARNING"}
        with subprocess.Popen([sys.executable, "-m", "gsd_tasks", "api"], env=env, cwd=self.folder) as process:
            try:
                url = f"http://127.0.0.1:{port}"
                with Client(url=url, token=str(token)) as client:
                    until(lambda: _answers(client), timeout_s=60, what="the API")
                    yield client
            finally:
                process.terminate()


@contextmanager
def rig() -> Iterator[Rig]:
    """All of it, for the length of the block; nothing of the caller's environment reaches it."""
    for name in [name for name in os.environ if name.startswith(("GSD_", "ANTHROPIC_", "CLAUDE", "CELERY_"))]:
        del os.environ[name]
    # For all of them, yardsticks too: when a row was committed is a figure.
    more = {"track_commit_timestamp": "on"}
    with (
        tempfile.TemporaryDirectory(prefix="gsd-bench-") as name,
        embedded_servers(Path(name) / "servers", extra_postgres_settings=more) as servers,
    ):
        folder = Path(name)
        os.environ |= {"HOME": name, "SHELL": "/bin/sh"}
        migrate(servers.database_url)
        with Cluster(servers.database_url, servers.redis_url, folder) as cluster:
            worker = psutil.Process(cluster.worker().pid)
            cluster.maintenance()
            yield Rig(folder, servers, cluster, worker, _postmaster(servers))


def cpu_s(process: psutil.Process) -> float:
    """What a process has used, with those that it has waited for and those that it has now."""
    times = process.cpu_times()
    total = times.user + times.system + times.children_user + times.children_system
    return float(total + sum(map(cpu_s, process.children())))


def _answers(client: Client) -> bool:
    try:
        client.workers()
    except ApiUnavailable:
        return False
    return True


def _postmaster(servers: EmbeddedServers) -> psutil.Process:
    return psutil.Process(int((servers.postgres.folder / "data" / "postmaster.pid").read_text().split()[0]))
