"""What the figures are measured on: servers with their usual settings, on disk, and one worker with three slots."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
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
class Api:
    """An API process that answers, and a token for whatever reads."""

    process: psutil.Process
    port: int
    token: str

    def reader(self, script: Path, path: str, *more: str) -> Reader:
        """A process that follows: the script is told where, and tells what it found."""
        command = [sys.executable, str(script), str(self.port), path, *more]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert process.stdin is not None
        process.stdin.write(self.token)
        process.stdin.close()
        return Reader(process)


@dataclass(frozen=True, slots=True)
class Reader:
    """A process of its own that says something, line by line, and ends."""

    process: subprocess.Popen[str]

    def readline(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline()


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
    def api(self, *, streams: int = 100) -> Iterator[Api]:
        """An API process, with so many streams at a time."""
        database = Database(self.servers.database_url)
        _, token = tokens.create(database, f"bench-{uuid4()}", {Scope.READ}, None)
        database.close()
        port = choose_port(None)
        own = {"GSD_API_PORT": str(port), "GSD_API_STREAMS": str(streams), "GSD_LOG_LEVEL": "WARNING"}
        env = self.cluster.env | own
        with subprocess.Popen([sys.executable, "-m", "gsd_tasks", "api"], env=env, cwd=self.folder) as process:
            try:
                url = f"http://127.0.0.1:{port}"
                with Client(url=url, token=str(token)) as client:
                    until(lambda: _answers(client), timeout_s=60, what="the API")
                yield Api(psutil.Process(process.pid), port, str(token))
            finally:
                process.terminate()


@contextmanager
def rig(env: Mapping[str, str] = MappingProxyType({})) -> Iterator[Rig]:
    """All of it, for the length of the block, with these settings; nothing of the caller's environment reaches it."""
    # For all of them, yardsticks too: when a row was committed is a figure.
    more = {"track_commit_timestamp": "on"}
    with (
        tempfile.TemporaryDirectory(prefix="gsd-bench-") as name,
        _environment(name),
        embedded_servers(Path(name) / "servers", extra_postgres_settings=more) as servers,
    ):
        folder = Path(name)
        migrate(servers.database_url)
        with Cluster(servers.database_url, servers.redis_url, folder) as cluster:
            worker = psutil.Process(cluster.worker(env=env).pid)
            # As often as it usually sweeps, not as tests have it.
            cluster.maintenance(env={"GSD_REPUBLISH_S": "10", **env})
            yield Rig(folder, servers, cluster, worker, postmaster_of(servers))


@contextmanager
def _environment(home: str) -> Iterator[None]:
    """For the block, for all that is started in it: the caller's without what is set for us or for others."""
    former = dict(os.environ)
    for name in [name for name in os.environ if name.startswith(("GSD_", "ANTHROPIC_", "CLAUDE", "CELERY_"))]:
        del os.environ[name]
    os.environ |= {"HOME": home, "SHELL": "/bin/sh"}
    try:
        yield
    finally:
        os.environ.clear()
        os.environ |= former


def cpu_s(process: psutil.Process) -> float:
    """What a process has used, with those that it has waited for and those that it has now."""
    total = 0.0
    # All at once: who is whose child is found out by looking at every process of the machine.
    for one in [process, *process.children(recursive=True)]:
        with suppress(psutil.NoSuchProcess):
            times = one.cpu_times()
            total += times.user + times.system + times.children_user + times.children_system
    return total


def _answers(client: Client) -> bool:
    try:
        client.workers()
    except ApiUnavailable:
        return False
    return True


def postmaster_of(servers: EmbeddedServers) -> psutil.Process:
    """The process that all others of Postgres are below."""
    return psutil.Process(int((servers.postgres.folder / "data" / "postmaster.pid").read_text().split()[0]))
