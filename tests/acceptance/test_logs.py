"""Every line that a part of a cluster says is one JSON object, whoever in it says it, and whatever happens to it."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import redis

from gsd_tasks.client import Client
from gsd_tasks.domain.session import SessionId, WorkerStatus
from gsd_tasks.domain.state import Reason, Status
from gsd_tasks.process.contain import kill_shim
from gsd_tasks.settings import Settings
from tests.waiting import BOUND_S, until

ROOT = Path(__file__).parents[2]
#: The two servers' own logs stand beside them, in their own forms.
PARTS = {"worker", "maintenance", "beat", "flower", "api"}
ALWAYS = {"time", "level", "part", "host", "logger", "event"}
PROMPT = "sesame-open-up"


class Up:
    """`gsd-tasks up` as somebody has started it who collects logs."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "state"
        self.said = folder / "up.log"
        self.env = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "GSD_LOG_JSON": "1",
            "GSD_STATE_DIR": str(self.root),
            "GSD_GRACE_S": "1",
        }
        with self.said.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "gsd_tasks", "up"], env=self.env, cwd=ROOT, stdout=log, stderr=log
            )

    def lines(self, part: str) -> list[dict[str, Any]]:
        return parsed(self.said if part == "up" else self.root / "logs" / f"{part}.log")

    def events(self, part: str) -> set[str]:
        return {line["event"] for line in self.lines(part)}

    def is_ready(self) -> bool:
        assert self.process.poll() is None, self.said.read_text()
        return any(event.startswith("ready after") for event in self.events("up"))

    def kill(self, record: str) -> None:
        os.kill(json.loads((self.root / record).read_text())["pid"], signal.SIGKILL)

    def end(self) -> int:
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(BOUND_S)


def parsed(path: Path) -> list[dict[str, Any]]:
    """Each line, whole; one that is just being written is not looked at."""
    *lines, _begun = path.read_text().split("\n") if path.exists() else [""]
    found = []
    for line in lines:
        entry = json.loads(line)
        assert isinstance(entry, dict), line
        assert entry.keys() >= ALWAYS, line
        assert datetime.fromisoformat(entry["time"]).utcoffset() == timedelta(0), line
        assert entry["level"] in {"debug", "info", "warning", "error", "critical"}, line
        found.append(entry)
    return found


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Up]:
    running = Up(tmp_path)
    try:
        until(running.is_ready, timeout_s=2 * BOUND_S, what="up")
        yield running
    finally:
        running.process.kill()
        running.process.wait()
        for lock in running.root.glob("spool/*/*/*/shim.lock"):
            kill_shim(lock.parent)


def about(lines: list[dict[str, Any]], session_id: SessionId) -> list[dict[str, Any]]:
    return [line for line in lines if line.get("session") == str(session_id)]


def ask(url: str, path: str, headers: Mapping[str, str]) -> tuple[int, str | None]:
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=BOUND_S)
    try:
        connection.request("GET", path, headers=dict(headers))
        answer = connection.getresponse()
        answer.read()
        return answer.status, answer.headers["X-Request-Id"]
    finally:
        connection.close()


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_every_line_of_every_part_is_an_object_that_says_whose_it_is(up: Up) -> None:
    settings = Settings(state_dir=up.root)
    token = (up.root / "api-token").read_text().strip()
    url = json.loads((up.root / "cluster.json").read_text())["running"]["api_url"]
    redis_url = json.loads((up.root / "cluster.json").read_text())["running"]["redis_url"]
    with Client(settings=settings) as client:
        good = client.enqueue(command=["echo", PROMPT], working_dir="/tmp")
        failing = client.enqueue(command=["sh", "-c", "exit 3"], working_dir="/tmp", env={"WORD": PROMPT})
        cancelled = client.enqueue(command=["sleep", "600"], working_dir="/tmp")
        assert client.wait(good.id, timeout_s=BOUND_S).status is Status.COMPLETED
        assert client.wait(failing.id, timeout_s=BOUND_S).status is Status.FAILED
        until(lambda: client.get(cancelled.id).status is Status.RUNNING, timeout_s=BOUND_S)
        client.cancel(cancelled.id)
        assert client.wait(cancelled.id, timeout_s=BOUND_S).status is Status.CANCELLED
        gate = up.root / "gate"
        script = f"while [ ! -e {gate} ]; do sleep 0.1; done; exit 4"
        adopted = client.enqueue(command=["sh", "-c", script], working_dir="/tmp")
        until(lambda: client.get(adopted.id).status is Status.RUNNING, timeout_s=BOUND_S)

        # Its connections break, and there is nobody at that address for a moment.
        up.kill("valkey/process.json")
        lost = client.enqueue(command=["true"], working_dir="/tmp")
        assert client.wait(lost.id, timeout_s=BOUND_S).status is Status.COMPLETED
        up.kill("parts/worker.json")
        gate.touch()
        assert client.wait(adopted.id, timeout_s=BOUND_S).reason is Reason.EXIT_CODE

        secret = {"Authorization": f"Bearer {token}", "X-Request-Id": "a-proxy-s-own"}
        assert ask(url, f"/v1/sessions?name={PROMPT}", secret) == (200, "a-proxy-s-own")
        status, named = ask(url, f"/v1/sessions/{good.id}", {"X-Request-Id": "no name\tof ours"})
        assert status == 401
        assert named is not None
        assert len(named) == 16
        until(lambda: any(worker.status is WorkerStatus.ALIVE for worker in client.workers()), timeout_s=BOUND_S)
    with redis.Redis.from_url(redis_url) as broker:
        # What Celery cannot read it writes down, with all that it has of it.
        broker.lpush("sessions", json.dumps({"body": "", "headers": {}, "properties": {}}))
    until(
        lambda: any("KeyError" in event for event in up.events("worker")), timeout_s=BOUND_S, what="Celery's complaint"
    )
    assert up.end() == 0

    logs = {part: up.lines(part) for part in (*PARTS, "up")}
    for part, lines in logs.items():
        assert lines, part
        assert {line["part"] for line in lines} == {part}
    node = {line["worker"] for line in logs["worker"] if "worker" in line}
    assert len(node) == 1
    assert node.pop().startswith("gsd@")
    for session, end in ((good, "completed"), (failing, "failed"), (cancelled, "cancelled"), (adopted, "failed")):
        lines = about(logs["worker"], session.id)
        assert [line["status"] for line in lines if line["event"] == "settled"] == [end]
        for line in lines:
            assert (line["attempt"], line["worker"][:4]) == (1, "gsd@")
            assert line["slot"] in {1, 2, 3}
    assert [line["event"] for line in about(logs["worker"], adopted.id)] == ["claimed", "adopted", "settled"]
    requests = [line for line in logs["api"] if line["event"] == "request"]
    (listed,) = [line for line in requests if line["request"] == "a-proxy-s-own"]
    assert (listed["method"], listed["path"], listed["status"]) == ("GET", "/v1/sessions", 200)
    assert listed["token"] == token.split("_")[1]
    assert named in {line["request"] for line in requests if line["status"] == 401}
    everything = "".join(path.read_text() for path in up.root.glob("logs/*.log")) + up.said.read_text()
    for hidden in (PROMPT, token, (up.root / "flower-password").read_text().strip()):
        assert hidden not in everything
    password = urlsplit(redis_url).password
    assert password is None or password not in everything


@pytest.mark.parametrize(
    ("arguments", "env", "why"),
    [
        (("-m", "gsd_tasks", "worker"), {}, "no servers"),
        (("-m", "gsd_tasks", "beat"), {"GSD_LEASE_S": "soon"}, "GSD_LEASE_S"),
        (("-m", "gsd_tasks", "migrate"), {"GSD_DATABASE_URL": "postgresql://u:sesame@127.0.0.1:1/x"}, "database"),
        (("-m", "celery", "-A", "gsd_tasks.celery_app", "worker"), {"GSD_LEASE_S": "soon"}, "GSD_LEASE_S"),
    ],
)
def test_what_cannot_start_says_so_in_an_object_too(
    tmp_path: Path, arguments: tuple[str, ...], env: dict[str, str], why: str
) -> None:
    given = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "GSD_STATE_DIR": str(tmp_path), "GSD_LOG_JSON": "1"}
    ran = subprocess.run(
        [sys.executable, *arguments], env=given | env, cwd=ROOT, capture_output=True, timeout=BOUND_S, check=False
    )

    (tmp_path / "log").write_bytes(ran.stdout + ran.stderr)
    said = parsed(tmp_path / "log")
    assert ran.returncode != 0
    assert any(why in str(line) for line in said)
    assert "sesame" not in str(said)


def test_uvicorn_that_serves_the_api_by_itself_says_objects_and_no_queries(settings: Settings, tmp_path: Path) -> None:
    assert settings.database_url is not None
    assert settings.redis_url is not None
    env = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "GSD_LOG_JSON": "1",
        "GSD_DATABASE_URL": settings.database_url.get_secret_value(),
        "GSD_REDIS_URL": settings.redis_url.get_secret_value(),
    }
    log = tmp_path / "log"
    with log.open("wb") as said:
        process = subprocess.Popen(
            [sys.executable, "-m", "uvicorn", "api:app", "--port", "0"], env=env, cwd=ROOT, stdout=said, stderr=said
        )
    try:
        until(lambda: any("running on" in line["event"] for line in parsed(log)), timeout_s=BOUND_S, what="uvicorn")
        (place,) = [line["event"].split()[3] for line in parsed(log) if "running on" in line["event"]]
        assert ask(place, f"/v1/sessions?name={PROMPT}", {})[0] == 401
    finally:
        process.terminate()
        process.wait(BOUND_S)

    assert [(line["path"], line["status"]) for line in parsed(log) if line["event"] == "request"] == [
        ("/v1/sessions", 401)
    ]
    assert PROMPT not in log.read_text()
