"""The two servers, to be stopped, killed and wiped. Each lives and dies with a thread of its own."""

from __future__ import annotations

import contextlib
import random
import signal
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Final

import psutil
import psycopg
import redis

from gsd_tasks.local.postgres import PostgresServer
from gsd_tasks.local.server import EmbeddedServer, new_password
from gsd_tasks.local.valkey import ValkeyServer
from tests.ports import own_port
from tests.waiting import BOUND_S

#: A killed server comes back with what the system has; only a crash of the machine would lose more.
POSTGRES: Final = {"fsync": "off", "max_connections": "300"}
TIMEOUT_S: Final = 2


class Attacked:
    """One server under attack: one fault at a time (`busy` until it is over)."""

    def __init__(self, server: EmbeddedServer, tell: Callable[[str], None]) -> None:
        self.server = server
        self._tell = tell
        self._thread = ThreadPoolExecutor(1, server.folder.name)
        self._work: Future[None] | None = None
        self._stopped = False

    @property
    def busy(self) -> bool:
        """A fault is under way."""
        return self._stopped or (self._work is not None and not self._work.done())

    def start(self) -> None:
        self._thread.submit(self.server.start).result(2 * BOUND_S)

    def restart(self, down_s: float) -> None:
        """Stopped in good order, and back after so long."""
        self._do(lambda: self._again(self.server.stop, down_s))

    def kill(self, down_s: float) -> None:
        """SIGKILL to its first process, and back after so long."""
        self._do(lambda: self._again(self._kill, down_s))

    def stop(self) -> None:
        """SIGSTOP to all of its processes."""
        self._stopped = True
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        if self._stopped:
            self._signal(signal.SIGCONT)
            self._stopped = False

    def do(self, attack: Callable[[], object]) -> None:
        """Something that takes a while, on the server's thread."""
        self._do(attack)

    def heal(self) -> None:
        """Wait until it runs again."""
        self.go_on()
        if self._work is not None:
            self._work.result(BOUND_S)

    def close(self) -> None:
        with contextlib.suppress(Exception):
            self.heal()
        with contextlib.suppress(Exception):
            self._thread.submit(self.server.stop).result(BOUND_S)
        self._thread.shutdown()

    def _do(self, work: Callable[[], object]) -> None:
        def run() -> None:
            try:
                work()
            except Exception as error:  # noqa: BLE001  (a fault of the harness or of the server: the report says it)
                self._tell(f"{self.server.folder.name}: {type(error).__name__}: {error}")

        self._work = self._thread.submit(run)

    def _again(self, stop: Callable[[], None], down_s: float) -> None:
        stop()
        time.sleep(down_s)
        self.server.start()

    def _kill(self) -> None:
        for process in self._processes()[:1]:
            process.kill()

    def _signal(self, number: signal.Signals) -> None:
        for process in self._processes():
            with contextlib.suppress(psutil.Error):
                process.send_signal(number)

    def _processes(self) -> list[psutil.Process]:
        """The first one, then those below it."""
        child = self.server._child
        if child is None or child.exit_status() is not None:
            return []
        with contextlib.suppress(psutil.Error):
            first = psutil.Process(child.pid)
            return [first, *first.children(recursive=True)]
        return []


def make_postgres(folder: Path, tell: Callable[[str], None]) -> Attacked:
    return Attacked(PostgresServer(folder, own_port(), new_password(), extra_settings=POSTGRES), tell)


def make_redis(folder: Path, tell: Callable[[str], None]) -> Attacked:
    return Attacked(ValkeyServer(folder, own_port(), new_password()), tell)


def wipe_redis(url: str) -> None:
    """Everything is gone from one moment to the next."""
    with redis.Redis.from_url(url, socket_timeout=TIMEOUT_S, socket_connect_timeout=TIMEOUT_S) as client:
        client.flushall()


def cut_backends(url: str, twist: float) -> int:
    """End server processes of ours, those in the middle of a statement first: how many. A third of the time all."""
    chosen = random.Random(twist)
    limit = 100 if twist < 1 / 3 else 1 + int(twist * 4)
    query = """SELECT count(pg_terminate_backend(pid)) FROM (
                 SELECT pid FROM pg_stat_activity WHERE application_name = 'gsd-tasks'
                  ORDER BY state = 'active' DESC, random() LIMIT %s) AS chosen"""
    ended = 0
    with psycopg.connect(url, autocommit=True, connect_timeout=TIMEOUT_S) as connection:
        # Several looks: a statement of ours takes a millisecond, and one wants to meet it.
        for _ in range(chosen.randint(1, 8)):
            row = connection.execute(query, [limit]).fetchone()
            ended += row[0] if row else 0
            time.sleep(chosen.uniform(0, 0.02))
    return ended
