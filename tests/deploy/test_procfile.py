"""The Procfile is a cluster: honcho runs it against Debian's Postgres and Redis."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
import pytest

from gsd_tasks import Client
from gsd_tasks.domain.session import WorkerStatus
from gsd_tasks.domain.state import Status
from gsd_tasks.local.embedded import EmbeddedServers
from gsd_tasks.settings import Settings
from gsd_tasks.store import migrate
from tests.deploy.debian import debian_servers
from tests.ports import own_port
from tests.waiting import BOUND_S, until

ROOT = Path(__file__).parents[2]
PARTS = {"worker", "maintenance", "beat", "api", "flower"}


#: It kills what has not ended after five seconds, of which a worker needs two where nothing else goes on.
PATIENT_HONCHO = f"from honcho import command, manager; manager.KILL_WAIT = {BOUND_S}; command.main()"


class Honcho:
    """`honcho start`, in a folder of its own."""

    def __init__(self, env: dict[str, str], folder: Path) -> None:
        self._log = folder / "honcho.log"
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [
                    sys.executable,
                    "-c",
                    PATIENT_HONCHO,
                    "--procfile",
                    str(ROOT / "Procfile"),
                    "--app-root",
                    str(folder),
                    "start",
                ],
                env=env,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self._started: set[psutil.Process] = set()

    def said(self) -> str:
        return self._log.read_text(errors="replace")

    def lives(self) -> bool:
        assert self.process.poll() is None, self.said()
        self._started |= set(psutil.Process(self.process.pid).children(recursive=True))
        return True

    def left(self) -> list[psutil.Process]:
        """What it has started, and still runs."""
        return [process for process in self._started if process.is_running()]

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for process in self.left():
            process.kill()


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[EmbeddedServers]:
    """In the place of the embedded ones: those that this test is about."""
    with debian_servers(tmp_path / "servers") as running:
        with psycopg.connect(running.database_url) as connection:
            assert "Debian" in str(connection.execute("SHOW server_version").fetchone())
        migrate(running.database_url)
        yield running


@pytest.fixture
def database_url(servers: EmbeddedServers) -> str:
    return servers.database_url


@pytest.fixture
def env(settings: Settings, tmp_path: Path) -> dict[str, str]:
    assert settings.database_url is not None
    assert settings.redis_url is not None
    return {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "HOME": str(tmp_path),
        "GSD_DATABASE_URL": settings.database_url.get_secret_value(),
        "GSD_REDIS_URL": settings.redis_url.get_secret_value(),
        "GSD_STATE_DIR": str(settings.state_dir),
        "GSD_WORKSPACE_ROOTS": str(tmp_path),
        "GSD_API_PORT": str(own_port()),
        "GSD_FLOWER_PORT": str(own_port()),
        "GSD_REPUBLISH_S": "1",
        # As the Procfile advises for a runner like this one.
        "GSD_DRAIN": "finish",
        "GSD_GRACE_S": "1",
    }


@pytest.fixture
def honcho(env: dict[str, str], tmp_path: Path) -> Iterator[Honcho]:
    running = Honcho(env, tmp_path)
    yield running
    running.close()


@pytest.mark.slow
def test_honcho_runs_the_procfile_until_it_is_told_to_stop(
    honcho: Honcho, env: dict[str, str], settings: Settings, tmp_path: Path
) -> None:
    with Client(settings=settings) as client:
        until(lambda: honcho.lives() and client.workers(), timeout_s=BOUND_S, what="the worker")
        done = client.enqueue(command=["echo", "by honcho"], working_dir=tmp_path)
        assert client.wait(done.id, timeout_s=BOUND_S).status is Status.COMPLETED
        for part in sorted(PARTS):
            until(lambda part=part: honcho.lives() and is_healthy(part, env), timeout_s=BOUND_S, what=part)  # type: ignore[misc]
        # Not cut off, but ended, however long it would have gone on.
        running = client.enqueue(command=["sleep", "900"], working_dir=tmp_path, on_lost="requeue")
        until(lambda: client.get(running.id).status is Status.RUNNING, timeout_s=BOUND_S)
        assert honcho.lives()

        honcho.process.send_signal(signal.SIGINT)
        honcho.process.wait(BOUND_S)

        until(lambda: not honcho.left(), timeout_s=BOUND_S, what="the end of all that it has started")
        assert client.get(running.id).status is Status.QUEUED
        assert all(worker.status is WorkerStatus.STOPPED for worker in client.workers())
    assert "KILL" not in honcho.said()


def test_the_procfile_has_the_parts_of_a_cluster() -> None:
    lines = [line for line in (ROOT / "Procfile").read_text().splitlines() if line and not line.startswith("#")]

    assert {line.split(":")[0] for line in lines} == PARTS


def is_healthy(part: str, env: dict[str, str]) -> bool:
    asked = subprocess.run(["gsd-tasks", "healthy", part], env=env, capture_output=True, timeout=BOUND_S, check=False)
    return asked.returncode == 0
