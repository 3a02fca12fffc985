"""Every process of a cluster is started anew, one after the other, while sessions write and people follow them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from socket import gethostname

import psycopg
import pytest

from gsd_tasks.client import Client
from gsd_tasks.domain.session import OutputRow, Session, SessionId
from gsd_tasks.domain.state import Reason, Status
from gsd_tasks.domain.tokens import Scope
from gsd_tasks.local.addresses import running_cluster
from gsd_tasks.process.contain import kill_shim, marked_processes
from gsd_tasks.service import tokens
from gsd_tasks.service.sign import BEAT, MAINTENANCE, Sign, State
from gsd_tasks.settings import Settings
from gsd_tasks.store import Database
from tests.cluster import Cluster
from tests.ports import own_port
from tests.waiting import BOUND_S, until

#: How often each process is started anew.
ROUNDS = int(os.environ.get("GSD_TEST_ROUNDS", "1"))
#: One slot of the six is left for what comes and goes meanwhile.
LONG = 5
UNTIL_TOLD = "i=0; until [ -e gate ] && [ $i -ge 5 ]; do i=$((i+1)); echo $i; sleep 0.1; done; echo end"
SHORT = "i=0; while [ $i -lt 10 ]; do i=$((i+1)); echo $i; sleep 0.1; done; echo end"
#: A worker has so long to come back, on a machine that is busy with other tests.
LONG_LEASE = {"GSD_LEASE_S": "120"}
STARTS_WITHIN_S = 2 * BOUND_S


BEAT_THAT_SWALLOWS = """
import os, signal, time
from celery import beat
from celery.apps.beat import Beat
from gsd_tasks.celery_app import app

class Swallows(beat.Scheduler):
    def tick(self):
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(60)
        except SystemExit:
            print("swallowed", flush=True)
        return 0.01

Beat(app=app, scheduler_cls=Swallows, quiet=True).run()
"""


class Parts:
    """The processes of a cluster, by their own commands; each is started anew as a supervisor does it."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self.api_port, flower_port = own_port(), own_port()
        self._env = {
            "GSD_DRAIN": "handover",
            **LONG_LEASE,
            "GSD_REPUBLISH_S": "1",
            "GSD_API_PORT": str(self.api_port),
            "GSD_FLOWER_PORT": str(flower_port),
        }
        self._commands: Mapping[str, tuple[str, ...]] = {
            "one": ("worker", "--name", "one"),
            "two": ("worker", "--name", "two"),
            "maintenance": ("maintenance",),
            "beat": ("beat",),
            "api": ("api",),
            "flower": ("flower",),
        }
        self._is_well: Mapping[str, Callable[[subprocess.Popen[bytes]], bool]] = {
            "one": cluster.is_up,
            "two": cluster.is_up,
            "maintenance": lambda _: self._sign(MAINTENANCE).read(interval_s=1).state is State.WELL,
            "beat": lambda _: self._sign(BEAT).read(interval_s=1).state is State.WELL,
            "api": lambda _: answer(f"http://127.0.0.1:{self.api_port}/healthz") == 200,
            "flower": lambda _: answer(f"http://127.0.0.1:{flower_port}/") == 401,
        }
        self.names = tuple(self._commands)
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, *names: str) -> None:
        """They do their work."""
        for name in names:
            self._running[name] = self._cluster.part(*self._commands[name], env=self._env)
        for name in names:
            until(lambda n=name: self._works(n), timeout_s=STARTS_WITHIN_S, what=name)  # type: ignore[misc]

    def restart(self, name: str) -> None:
        """SIGTERM, its end, and another one."""
        process = self._running[name]
        process.terminate()
        code = process.wait(BOUND_S)
        assert code == 0, f"{name}: {code}\n{self._cluster.logs()}"
        for node in (MAINTENANCE, BEAT):
            if name.startswith(node):
                self._sign(node).take_away()  # the former one's
        self.start(name)

    def _works(self, name: str) -> bool:
        process = self._running[name]
        assert process.poll() is None, self._cluster.logs()
        return self._is_well[name](process)

    def _sign(self, node: str) -> Sign:
        return Sign(self._cluster.state_dir, f"{node}@{gethostname()}")


@pytest.mark.slow
@pytest.mark.timeout(240 + 120 * ROUNDS)
def test_a_rolling_restart_of_every_process_interrupts_no_session_and_loses_no_row(
    cluster: Cluster, database: Database
) -> None:
    """Those who follow over the API are told each row once, in order, and notice nothing."""
    parts = Parts(cluster)
    parts.start(*parts.names)
    token = str(tokens.create(database, "reader", {Scope.READ}, None)[1])
    sessions = [enqueue(cluster, UNTIL_TOLD) for _ in range(LONG)]
    with (
        closing(Client(url=f"http://127.0.0.1:{parts.api_port}", token=token)) as reader,
        ThreadPoolExecutor(LONG) as threads,
    ):
        following = [threads.submit(follow, reader, session) for session in sessions]
        try:
            for session in sessions:
                next(cluster.client.follow(session.id))
            for name in parts.names * ROUNDS:
                sessions.append(enqueue(cluster, SHORT))
                parts.restart(name)
        finally:
            (cluster.folder / "gate").touch()
        for session in sessions:
            ended = cluster.client.wait(session.id, timeout_s=BOUND_S)
            was = reasons(cluster.client, session)
            assert (ended.status, ended.recoveries) == (Status.COMPLETED, 0), (ended.reason, ended.detail, was)
        told = [each.result(BOUND_S) for each in following]

    # What a worker had claimed as it was told to stop, and not begun, it gives back: another attempt, and no child.
    assert begun(cluster) == {session.id: 1 for session in sessions}
    assert all(cluster.client.get(session.id).attempt == 1 for session in sessions[:LONG])
    written = [follow(cluster.client, session) for session in sessions]
    for rows in written:
        check_whole(rows)
    assert told == written[:LONG]
    adopted = [session for session in sessions if Reason.ADOPTED in reasons(cluster.client, session)]
    assert len(adopted) >= LONG
    cluster.wait_until_clean()


def test_a_beat_that_is_told_to_stop_in_the_middle_of_a_tick_ends(cluster: Cluster) -> None:
    """What Celery raises then may be swallowed by whatever it is in, and it would beat on for ever."""
    told = subprocess.run(
        [sys.executable, "-c", BEAT_THAT_SWALLOWS],
        env=cluster.env,
        cwd=cluster.folder,
        capture_output=True,
        text=True,
        timeout=BOUND_S,
        check=False,
    )
    assert (told.returncode, told.stdout) == (0, "swallowed\n"), told.stderr


class Up:
    """`gsd-tasks up` with servers of its own, one after the other in one folder."""

    def __init__(self, folder: Path) -> None:
        self.state_dir = folder / "state"
        self._log = folder / "up.log"
        self._env = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "GSD_STATE_DIR": str(self.state_dir),
            "GSD_DRAIN": "handover",
            "GSD_GRACE_S": "1",
            **LONG_LEASE,
        }
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "gsd_tasks", "up"],
                env=self._env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        until(self._is_ready, timeout_s=STARTS_WITHIN_S, what="up")

    def stop(self, how: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(how)
        assert self.process.wait(STARTS_WITHIN_S) == 0, self._log.read_text()

    def client(self) -> Client:
        addresses = running_cluster(self.state_dir)
        assert addresses is not None
        urls = {"database_url": addresses.database_url, "redis_url": addresses.redis_url}
        return Client(settings=Settings.model_validate({**urls, "state_dir": self.state_dir}))

    def close(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for lock in self.state_dir.glob("spool/*/*/*/shim.lock"):
            kill_shim(lock.parent)

    def _is_ready(self) -> bool:
        assert self.process is not None
        said = self._log.read_text()
        assert self.process.poll() is None, said
        return "ready after" in said


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Up]:
    running = Up(tmp_path)
    yield running
    running.close()


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_an_up_that_is_told_to_hand_over_is_started_anew_and_interrupts_nothing(up: Up, tmp_path: Path) -> None:
    """Its servers are away meanwhile: what the children write waits on the disk. A Ctrl-C ends them all the same."""
    up.start()
    with closing(up.client()) as client:
        session = client.enqueue(command=["sh", "-c", UNTIL_TOLD], working_dir=tmp_path)
        next(client.follow(session.id))
    up.stop(signal.SIGTERM)
    assert is_marked(session)

    up.start()
    with closing(up.client()) as client:
        (tmp_path / "gate").touch()
        ended = client.wait(session.id, timeout_s=BOUND_S)
        assert (ended.status, ended.attempt) == (Status.COMPLETED, 1), ended
        check_whole(follow(client, session))
        assert Reason.ADOPTED in reasons(client, session)
        last = client.enqueue(command=["sh", "-c", "echo x; exec sleep 600"], working_dir=tmp_path)
        next(client.follow(last.id))
    up.stop(signal.SIGINT)
    assert not is_marked(last)


def enqueue(cluster: Cluster, script: str) -> Session:
    return cluster.client.enqueue(command=["sh", "-c", script], working_dir=cluster.folder)


def follow(client: Client, session: Session) -> list[OutputRow]:
    return list(client.follow(session.id))


def begun(cluster: Cluster) -> dict[SessionId, int]:
    """How many children each session has had."""
    query = "SELECT session_id, count(*) FROM attempts WHERE launching_at IS NOT NULL GROUP BY session_id"
    with psycopg.connect(cluster.env["GSD_DATABASE_URL"], autocommit=True) as connection:
        return {SessionId(session): number for session, number in connection.execute(query)}


def answer(url: str) -> int | None:
    try:
        with urllib.request.urlopen(url, timeout=2) as answered:
            return int(answered.status)
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.code
    except OSError:
        return None


def check_whole(rows: list[OutputRow]) -> None:
    assert [row.seq for row in rows] == list(range(1, len(rows) + 1))
    *numbers, end = [row.as_text() for row in rows]
    assert (numbers, end) == ([str(number) for number in range(1, len(numbers) + 1)], "end")


def reasons(client: Client, session: Session) -> list[Reason]:
    return [entry.reason for entry in client.history(session.id)]


def is_marked(session: Session) -> bool:
    return any(one.session_id == str(session.id) for one in marked_processes())
