"""A cluster for tests: workers, maintenance and beat as the processes that a user starts."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from celery import Celery

from gsd_tasks.client import Client
from gsd_tasks.domain.session import WorkerStatus
from gsd_tasks.local.part import CELERY_PART
from gsd_tasks.process.contain import kill_shim, shim_is_alive
from gsd_tasks.settings import Settings
from tests.waiting import until

#: What a worker takes at least.
STARTS_S = 1.0


class Cluster:
    """Starts processes, and kills all of them at the end of the block, shims included.

    A polite end takes a worker two seconds, and what it is to do is proved where it is asked for, by a signal.

    As root, they may run as another user (`uid`), to whom `folder` must belong.
    """

    def __init__(self, database_url: str, redis_url: str, folder: Path, *, uid: int | None = None) -> None:
        self.folder = folder
        self.uid = uid
        self.state_dir = folder / "state"
        self.env = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "GSD_DATABASE_URL": database_url,
            "GSD_REDIS_URL": redis_url,
            "GSD_STATE_DIR": str(self.state_dir),
            "GSD_WORKSPACE_ROOTS": str(folder),
            "GSD_GRACE_S": "1",
        }
        self.client = Client(
            settings=Settings(database_url=database_url, redis_url=redis_url, state_dir=self.state_dir)
        )
        self._processes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for process in self._processes:
            process.kill()
        for process in self._processes:
            process.wait()
        self.kill_shims()
        self.client.close()

    def celery(self, *arguments: str, env: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
        """`worker`, `beat` or `flower`, as `up` starts them; its output goes to a file of the test's folder."""
        return self._start(CELERY_PART, *arguments, env=env)

    def plain_celery(self, *arguments: str, env: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
        """`celery -A gsd_tasks.celery_app ...`, which does the same, later; likewise."""
        return self._start("celery", "-A", "gsd_tasks.celery_app", *arguments, env=env)

    def part(self, *arguments: str, env: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
        """`gsd-tasks ...`, for what goes on until it is stopped; likewise."""
        return self._start("gsd_tasks", *arguments, env=env)

    def _start(self, module: str, *arguments: str, env: Mapping[str, str] | None) -> subprocess.Popen[bytes]:
        log = self.folder / f"celery-{len(self._processes)}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", module, *arguments],
                env=self.env | dict(env or {}),
                cwd=self.folder,
                user=self.uid,
                group=self.uid,
                extra_groups=None if self.uid is None else [],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        self._processes.append(process)
        return process

    def worker(
        self, name: str = "gsd", *arguments: str, env: Mapping[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        """A worker that is ready to take sessions."""
        process = self.start_worker(name, *arguments, env=env)
        until(lambda: self.is_up(process), what=f"worker {name}", first_look_s=STARTS_S / 10)
        return process

    def start_worker(
        self, name: str = "gsd", *arguments: str, env: Mapping[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        """A worker that is only just being started."""
        return self.celery(
            "worker",
            "-n",
            f"{name}@%h",
            "-E",
            "--without-gossip",
            "--without-mingle",
            "-l",
            "INFO",
            *arguments,
            env=env,
        )

    def is_up(self, process: subprocess.Popen[bytes]) -> bool:
        """Its row says that it takes sessions."""
        assert process.poll() is None, self.logs()
        return any(w.pid == process.pid and w.status is WorkerStatus.ALIVE for w in self.client.workers())

    def maintenance(self, *, env: Mapping[str, str] | None = None) -> None:
        """The maintenance process and beat, which sweep every second."""
        env = {"GSD_REPUBLISH_S": "1", **(env or {})}
        plain = ("--without-gossip", "--without-mingle", "-l", "WARNING")
        self.celery("worker", "-P", "solo", "-Q", "maint", "-n", "maint@%h", *plain, env=env)
        self.celery("beat", "-s", str(self.folder / "schedule"), "--pidfile=", "-l", "WARNING", env=env)

    def wait_until_clean(self) -> None:
        """Until no session has anything left on disk: a worker clears up after it has told the end."""
        kept = ("spool/*/*", "sessions/*")
        until(lambda: not [path for kind in kept for path in self.state_dir.glob(kind)], what="an empty state folder")

    def kill_shims(self) -> None:
        """Every one of this cluster's, with what it runs."""
        for lock in self.state_dir.glob("spool/*/*/*/shim.lock"):
            # One that is only just being started has not said yet who it is; without its worker, it ends by itself.
            until(lambda spool=lock.parent: kill_shim(spool) or not shim_is_alive(spool), what="the end of a shim")  # type: ignore[misc]

    def app(self) -> Celery:
        """To ask Celery itself."""
        return Celery(broker=self.env["GSD_REDIS_URL"])

    def logs(self) -> str:
        """What the processes said."""
        return "\n".join(path.read_text(errors="replace") for path in sorted(self.folder.glob("celery-*.log")))
