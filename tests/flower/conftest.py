"""A real cluster at work, with a real Flower, for all tests of one file."""

from __future__ import annotations

import http.client
import signal
import subprocess
from base64 import b64encode
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pytest
import redis

from gsd_tasks.domain.session import Session
from gsd_tasks.domain.state import Status
from gsd_tasks.local.embedded import EmbeddedServers
from tests.cluster import Cluster
from tests.databases import own_database
from tests.ports import own_port
from tests.waiting import BOUND_S, until

#: What a page must never show, whatever it stands in.
SECRET = "marker-of-what-is-secret"
#: A name that would be a part of the page, if it were not escaped.
HOSTILE = "<img src=x onerror=alert(1)>"
OUTPUT = "marker-of-what-it-printed"


class Answer(NamedTuple):
    """What came back; names of headers in lower case."""

    status: int
    headers: Mapping[str, str]
    text: str


@dataclass
class World:
    """The cluster, its Flower, and what its sessions are called here."""

    cluster: Cluster
    port: int
    sessions: dict[str, Session] = field(default_factory=dict)
    worker: str = ""
    flower: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def password(self) -> str:
        return (self.cluster.state_dir / "flower-password").read_text().strip()

    def start_flower(self) -> None:
        """As the plain command, with no option at all; and with a variable by which Flower opens its API to all."""
        env = {"GSD_FLOWER_PORT": str(self.port), "FLOWER_UNAUTHENTICATED_API": "true"}
        self.flower = self.cluster.celery("flower", env=env)

    def wait_for_flower(self) -> None:
        until(self.answers, timeout_s=BOUND_S, what="Flower")

    def stop_flower(self, number: signal.Signals) -> int:
        assert self.flower is not None
        self.flower.send_signal(number)
        return self.flower.wait(BOUND_S)

    def answers(self) -> bool:
        assert self.flower is not None
        assert self.flower.poll() is None, self.cluster.logs()
        try:
            return self.call("/healthcheck", password=None).status == 401
        except OSError:
            return False

    def call(
        self, path: str, method: str = "GET", *, password: str | None = "", body: bytes | None = None, **headers: str
    ) -> Answer:
        """One request, with the password unless there is another one, or None."""
        if password is not None:
            credentials = b64encode(f"gsd:{password or self.password}".encode()).decode()
            headers["Authorization"] = f"Basic {credentials}"
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=BOUND_S)
        try:
            sent = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, body=body, headers=sent)
            answer = connection.getresponse()
            return Answer(
                answer.status,
                {name.lower(): value for name, value in answer.headers.items()},
                answer.read().decode(errors="replace"),
            )
        finally:
            connection.close()


@pytest.fixture(scope="module")
def world(servers: EmbeddedServers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with redis.Redis.from_url(servers.redis_url) as client:
        client.flushall()
    with (
        own_database(servers) as database_url,
        Cluster(database_url, servers.redis_url, tmp_path_factory.mktemp("flower")) as cluster,
    ):
        world = World(cluster, own_port())
        world.start_flower()
        _work(world)
        world.wait_for_flower()
        yield world


def _work(world: World) -> None:
    """Sessions in each state, and what is secret wherever somebody may put it."""
    client, folder, sessions = world.cluster.client, world.cluster.folder, world.sessions
    claude = folder / "claude"
    claude.write_text("#!/bin/sh\nexec sleep 600\n")
    claude.chmod(0o755)
    env = {"GSD_CLAUDE_BIN": str(claude), "GSD_RETRY_BASE_S": "600", "WORKERS_OWN": SECRET}
    world.cluster.worker(env=env)
    world.worker = next(iter(client.workers())).name

    def enqueue(name: str, *command: str, **more: Any) -> None:
        given: dict[str, Any] = {"env": {"TOKEN": SECRET}, "context": {"word": SECRET}, "name": name} | more
        what = {"command": ["sh", "-c", *command, SECRET]} if command else {"prompt": SECRET, "model": SECRET}
        sessions[name] = client.enqueue(working_dir=folder, **(given | what))

    enqueue("done", f"echo {OUTPUT}")
    enqueue("failed", f"echo {OUTPUT} >&2; exit 4")
    sessions["missing"] = client.enqueue(command=[f"no-{SECRET}"], working_dir=folder, name="missing")
    enqueue("again", "exit 5", max_tries=3)
    for name in ("done", "failed", "missing"):
        sessions[name] = client.wait(sessions[name].id, timeout_s=BOUND_S)
    until(lambda: client.get(sessions["again"].id).attempt == 1 and client.get(sessions["again"].id).tries == 1)
    enqueue("cancelled", "sleep 600")
    until(lambda: client.get(sessions["cancelled"].id).status is Status.RUNNING)
    client.cancel(sessions["cancelled"].id)
    client.wait(sessions["cancelled"].id, timeout_s=BOUND_S)

    enqueue(HOSTILE, "sleep 600")
    enqueue("long", "sleep 600")
    enqueue("claude", env={"ANTHROPIC_API_KEY": SECRET})
    for name in (HOSTILE, "long", "claude"):
        until(lambda n=name: client.get(sessions[n].id).status is Status.RUNNING, timeout_s=BOUND_S)  # type: ignore[misc]
    enqueue("never", "true")
    client.cancel(sessions["never"].id)
    enqueue("queued", "true")
