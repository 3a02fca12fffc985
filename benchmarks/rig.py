"""What the figures are measured on: servers with their usual settings, on disk, and one worker with three slots."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from gsd_tasks import Client
from gsd_tasks.local.embedded import EmbeddedServers, embedded_servers
from gsd_tasks.store import migrate
from tests.cluster import Cluster

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
def rig() -> Iterator[Rig]:
    """All of it, for the length of the block; nothing of the caller's environment reaches it."""
    for name in [name for name in os.environ if name.startswith(("GSD_", "ANTHROPIC_", "CLAUDE", "CELERY_"))]:
        del os.environ[name]
    with tempfile.TemporaryDirectory(prefix="gsd-bench-") as name, embedded_servers(Path(name) / "servers") as servers:
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


def _postmaster(servers: EmbeddedServers) -> psutil.Process:
    return psutil.Process(int((servers.postgres.folder / "data" / "postmaster.pid").read_text().split()[0]))
