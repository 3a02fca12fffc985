"""A peer at work: its worker with three slots, started by its own command line, and its producer, on the rig's servers.

Each has a database of its own in the rig's Postgres and a number of its own in the rig's Redis.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import psycopg
import psycopg.conninfo

from benchmarks.rig import SLOTS, Rig

ROOT: Final = Path(__file__).parents[1]
#: Made by `scripts/bootstrap bench`.
BIN: Final = Path(os.environ.get("BENCH_PEERS_VENV", ROOT / ".venv-bench")) / "bin"
#: Where tasks of Celery and procrastinate put their rows. One index, as the table of gsd-tasks has; not a unique one:
#: whoever runs a job twice has its rows twice.
SCHEMA: Final = """
    CREATE TABLE lines
        (job text NOT NULL, seq bigint NOT NULL, written_at timestamptz NOT NULL DEFAULT now(), data text NOT NULL);
    CREATE INDEX lines_of_job ON lines (job, seq);
    CREATE TABLE ended (job text NOT NULL, code int NOT NULL, at timestamptz NOT NULL DEFAULT clock_timestamp());
    CREATE INDEX ended_job ON ended (job)"""


@dataclass(frozen=True, slots=True)
class Kind:
    """One of them, as its documentation starts it."""

    name: str
    #: Arguments of the environment's Python.
    producer: Sequence[str]
    worker: Sequence[str]
    setup: Sequence[str] = ()
    env: dict[str, str] = field(default_factory=dict)


CELERY: Final = Kind(
    "Celery",
    ("-m", "benchmarks.peers.producer", "celery_app"),
    ("celery", "-A", "benchmarks.peers.celery_app", "worker", "-c", str(SLOTS), "-l", "INFO"),
)
PROCRASTINATE: Final = Kind(
    "procrastinate",
    ("-m", "benchmarks.peers.producer", "procrastinate_app"),
    ("procrastinate", "--app=benchmarks.peers.procrastinate_app.app", "worker", f"--concurrency={SLOTS}"),
    setup=("procrastinate", "--app=benchmarks.peers.procrastinate_app.app", "schema", "--apply"),
)
KKNAKS: Final = Kind(
    "open-kknaks",
    ("-m", "benchmarks.peers.kknaks"),
    ("open-kknaks", "worker", "run", "--broker", "{redis}", "--namespace", "peer", "--concurrency", str(SLOTS)),
)


def are_there() -> bool:
    """Whether they are installed."""
    return (BIN / "python").exists()


class Peer:
    """Of one kind, on a place of its own."""

    def __init__(self, kind: Kind, rig: Rig, place: int) -> None:
        self.kind = kind
        self.folder = rig.folder / f"peer-{place}"
        self.folder.mkdir()
        self.database_url = _database(rig.servers.database_url, f"peer_{place}")
        self.redis_url = urlsplit(rig.servers.redis_url)._replace(path=f"/{place}").geturl()
        self._env = os.environ | {
            "PATH": f"{BIN}:{ROOT / 'benchmarks' / 'peers' / 'bin'}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "BENCH_REDIS_URL": self.redis_url,
            "BENCH_PEERS_DATABASE_URL": self.database_url,
            **kind.env,
        }
        self._log = (self.folder / "log").open("ab")
        self.workers: list[subprocess.Popen[bytes]] = []
        if kind.setup:
            self._start(kind.setup).wait()
        self._producer = subprocess.Popen(
            [str(BIN / "python"), *kind.producer],
            env=self._env,
            cwd=self.folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )

    def start_worker(self) -> subprocess.Popen[bytes]:
        """One more; it may take a second before it takes anything."""
        worker = self._start([part.format(redis=self.redis_url) for part in self.kind.worker])
        self.workers.append(worker)
        return worker

    def ask(self, **request: Any) -> dict[str, Any]:
        """What its producer answers."""
        assert self._producer.stdin is not None
        assert self._producer.stdout is not None
        print(json.dumps(request), file=self._producer.stdin, flush=True)
        answer: dict[str, Any] = json.loads(self._producer.stdout.readline())
        return answer

    def submit(self, *commands: Sequence[str], **more: Any) -> tuple[float, list[str]]:
        """When that began, and the ids."""
        answer = self.ask(submit=[list(command) for command in commands], **more)
        return answer["at"], answer["ids"]

    def stop(self) -> None:
        """All that was started here."""
        self._producer.terminate()
        for worker in self.workers:
            worker.kill()
            worker.wait()
        self._producer.wait()
        self._log.close()

    def _start(self, command: Sequence[str]) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            command,
            env=self._env,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
        )


@contextmanager
def at_work(kind: Kind, rig: Rig, place: int) -> Iterator[Peer]:
    """With a worker, for the length of the block."""
    peer = Peer(kind, rig, place)
    try:
        peer.start_worker()
        yield peer
    finally:
        peer.stop()


def _database(url: str, name: str) -> str:
    """A new one, with the tables of tasks."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(psycopg.sql.SQL("CREATE DATABASE {}").format(psycopg.sql.Identifier(name)))
    its = urlsplit(url)._replace(path=f"/{name}").geturl()
    with psycopg.connect(its, autocommit=True) as connection:
        connection.execute(SCHEMA)
    return its
