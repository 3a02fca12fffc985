"""The cluster under attack: two servers, hosts with their workers, maintenance and beat."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import psycopg

import gsd_tasks
from gsd_tasks.local.part import CELERY_PART, Part
from gsd_tasks.settings import Settings
from gsd_tasks.store import migrate
from tests.chaos.disk import Disk
from tests.chaos.hosts import Host, Wires, Worker
from tests.chaos.netns import Cable
from tests.chaos.proxy import LOOPBACK, Loop
from tests.chaos.servers import make_postgres, make_redis
from tests.chaos.supervised import Supervised

LEASE_S: Final = 3.0
FREEZE_BOUND_S: Final = 12.0
SETTINGS: Final[Mapping[str, str]] = {
    "GSD_LEASE_S": f"{LEASE_S:g}",
    "GSD_HEARTBEAT_S": "0.75",
    "GSD_REPUBLISH_S": "1",
    "GSD_FREEZE_BOUND_S": f"{FREEZE_BOUND_S:g}",
    "GSD_GRACE_S": "0.5",
    "GSD_DRAIN": "handover",
}
HOSTS: Final = {"a": ("w1", "w2"), "b": ("w3",)}
STARTS_WITHIN_S: Final = 60.0
STOPS_WITHIN_S: Final = 30.0
QUIET: Final = ("--without-gossip", "--without-mingle", "-l", "INFO")


class Cluster:
    """Owns every process and folder of a run. Its methods belong to the main thread.

    `tell` is given a sentence for whatever is worth a line in the report. With `cables` each worker is in a network of
    its own. `hosts` has the workers of each machine.
    """

    def __init__(
        self,
        root: Path,
        tell: Callable[[str], None],
        *,
        cables: bool,
        hosts: Mapping[str, tuple[str, ...]] = HOSTS,
    ) -> None:
        self.root = root
        self.work = root / "work"
        self.records = root / "records"
        self._tell = tell
        self.postgres = make_postgres(root / "postgres", tell)
        self.redis = make_redis(root / "valkey", tell)
        self.loop = Loop()
        self._cable_numbers = itertools.count(1) if cables else None
        self._names = hosts
        self.hosts: list[Host] = []
        self.maintenance = self._celery("maintenance", "worker", "-P", "solo", "-Q", "maint", "-n", "maint@%h", *QUIET)
        schedule = str(root / "beat-schedule")
        self.beat = self._celery("beat", "beat", "-s", schedule, "--pidfile=", "-l", "WARNING")

    @property
    def database_url(self) -> str:
        return self.postgres.server.url

    @property
    def redis_url(self) -> str:
        return self.redis.server.url

    @property
    def workers(self) -> list[Worker]:
        return [worker for host in self.hosts for worker in host.workers]

    @property
    def disk(self) -> Disk | None:
        """The one that can be full, if there is one."""
        return self.hosts[-1].disk

    def client_settings(self) -> Settings:
        """Straight to the servers: users are not behind the wires that are cut."""
        return Settings.model_validate(
            {"database_url": self.database_url, "redis_url": self.redis_url, "state_dir": self.root / "client"}
        )

    def start(self) -> None:
        """Everything, and every worker taking sessions."""
        for folder in (self.work, self.records):
            folder.mkdir()
        self.postgres.start()
        self.redis.start()
        migrate(self.database_url)
        for name, workers in self._names.items():
            self.hosts.append(self._host(name, workers))
        self.hosts[-1].disk = Disk.mount(self.hosts[-1].state_dir)
        self.await_workers()

    def tick(self) -> None:
        """Start again what has ended."""
        for host in self.hosts:
            host.tick()
        self.maintenance.tick()
        self.beat.tick()

    def heal(self) -> None:
        """Everything that was stopped goes on, and all wires pass; call `tick` for what is dead."""
        self.postgres.heal()
        self.redis.heal()
        for host in self.hosts:
            host.come_back()
            if host.disk is not None:
                host.disk.clear()

    def await_workers(self) -> None:
        """Until all of them take sessions. Raises `TimeoutError`."""
        give_up_at = time.monotonic() + STARTS_WITHIN_S
        while not self._are_up():
            if time.monotonic() > give_up_at:
                raise TimeoutError(f"not all workers are up after {STARTS_WITHIN_S:.0f} s")
            self.tick()
            time.sleep(0.05)

    def stop(self) -> None:
        """The processes, in good order. What does not obey is told."""
        processes = [self.beat, *(worker.process for worker in self.workers), self.maintenance]
        for process in processes:
            process.ask_to_stop()
        for process in processes:
            if not process.stop(STOPS_WITHIN_S):
                self._tell(f"{process.name} has not ended {STOPS_WITHIN_S:.0f} s after the last SIGTERM: killed")

    def close(self, *, keep: bool) -> None:
        """Nothing of it is left but, with `keep`, the folder."""
        with contextlib.suppress(Exception):
            self.stop()
        for host in self.hosts:
            host.end_shims()
            if host.disk is not None:
                host.disk.close(self.root / f"disk-{host.name}" if keep else None)
        for worker in self.workers:
            if worker.cable is not None:
                worker.cable.close()
        self.postgres.close()
        self.redis.close()
        self.loop.close()
        if not keep:
            shutil.rmtree(self.root, ignore_errors=True)

    def _host(self, name: str, workers: tuple[str, ...]) -> Host:
        host = Host(name, self.root / "hosts" / name)
        host.state_dir.mkdir(parents=True, mode=0o700)
        for worker in workers:
            cable = None if self._cable_numbers is None else Cable(next(self._cable_numbers))
            wires, env = self._wires(cable.address if cable else LOOPBACK)
            env |= {"GSD_STATE_DIR": str(host.state_dir)}
            process = self._celery(worker, "worker", "-n", f"{worker}@%h", "-E", *QUIET, env=env, cable=cable)
            process.starts_ns = host.starts_ns
            host.workers.append(Worker(process, wires, cable))
        return host

    def _wires(self, address: str) -> tuple[Wires, dict[str, str]]:
        """Proxies at this address to both servers, and the settings that lead through them."""
        env, proxies = {}, []
        for name, url in (("GSD_DATABASE_URL", self.database_url), ("GSD_REDIS_URL", self.redis_url)):
            server = f"{LOOPBACK}:{urlsplit(url).port}/"
            proxy, port = self.loop.proxy(urlsplit(url).port or 0, address)
            proxies.append(proxy)
            env[name] = url.replace(server, f"{address}:{port}/")
        return Wires(self.loop, tuple(proxies)), env

    def _celery(
        self, name: str, *arguments: str, env: Mapping[str, str] | None = None, cable: Cable | None = None
    ) -> Supervised:
        argv = (sys.executable, "-m", CELERY_PART, *arguments)
        part = Part(
            name=name,
            argv=cable.at_far_end(*argv) if cable else argv,
            death_signal=signal.SIGKILL,  # without us there is nobody to wait for it
            env=self._env() | dict(env or {}),
            log=self.root / "logs" / f"{name}.log",
            record=self.root / f"{name}.json",
            cwd=self.root,
        )
        return Supervised(part, self._tell)

    def _env(self) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.root),
            "PYTHONPATH": str(Path(gsd_tasks.__file__).parents[1]),
            "GSD_DATABASE_URL": self.database_url,
            "GSD_REDIS_URL": self.redis_url,
            "GSD_STATE_DIR": str(self.root / "maintenance"),
            "GSD_WORKSPACE_ROOTS": str(self.root),
            **SETTINGS,
        }

    def _are_up(self) -> bool:
        pids = {worker.process.pid for worker in self.workers}
        with contextlib.suppress(psycopg.Error):
            return None not in pids and pids <= set(self._alive_pids())
        return False

    def _alive_pids(self) -> Iterator[int]:
        with psycopg.connect(self.database_url, autocommit=True, connect_timeout=2) as connection:
            for (pid,) in connection.execute("SELECT pid FROM workers WHERE status = 'alive'"):
                yield pid
