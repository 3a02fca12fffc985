"""`gsd-tasks api` as a process: where it listens, what it says, how it ends. One cluster without workers."""

from __future__ import annotations

import gc
import http.client
import os
import shutil
import signal
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn

from gsd_tasks.cli import exits
from gsd_tasks.domain.errors import ConfigurationError
from gsd_tasks.domain.tokens import TokenText
from gsd_tasks.http.serve import Front, serve
from gsd_tasks.settings import Settings
from tests.http.serving import HOST, process_env
from tests.ports import own_port
from tests.waiting import BOUND_S, until

ROOT = Path(__file__).parents[2]


class Command:
    """The process, and what it says."""

    def __init__(self, command: list[str], env: dict[str, str]) -> None:
        self.process = subprocess.Popen(
            command, env=env, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self.said: list[str] = []
        self.warned: list[str] = []
        self._threads = [
            threading.Thread(target=lines.extend, args=[stream], daemon=True)
            for lines, stream in ((self.said, self.process.stdout), (self.warned, self.process.stderr))
        ]
        for thread in self._threads:
            thread.start()

    def ended(self) -> int:
        """Its exit code, once it has said all."""
        code = self.process.wait(BOUND_S)
        for thread in self._threads:
            thread.join()
        for stream in (self.process.stdout, self.process.stderr):
            assert stream is not None
            stream.close()
        return code

    def close(self) -> None:
        self.process.kill()
        self.ended()


@pytest.fixture
def env(settings: Settings) -> dict[str, str]:
    return process_env(settings)


@pytest.fixture
def commands() -> Iterator[list[Command]]:
    started: list[Command] = []
    yield started
    for command in started:
        command.close()


def get(port: int, path: str, token: object = None, context: ssl.SSLContext | None = None) -> tuple[int, str]:
    if context is None:
        connection = http.client.HTTPConnection(HOST, port, timeout=BOUND_S)
    else:
        connection = http.client.HTTPSConnection(HOST, port, timeout=BOUND_S, context=context)
    try:
        connection.request("GET", path, headers={} if token is None else {"Authorization": f"Bearer {token}"})
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def is_up(port: int, context: ssl.SSLContext | None = None) -> bool:
    try:
        return get(port, "/healthz", context=context)[0] == 200
    except OSError:
        return False


def api(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "gsd_tasks", "api", *map(str, arguments)]


def test_it_listens_where_it_is_told_says_so_and_ends_when_it_is_told(
    env: dict[str, str], token: TokenText, commands: list[Command]
) -> None:
    port, figures = own_port(), own_port()
    command = Command(
        api("--port", port), env | {"GSD_API_METRICS": f"{HOST}:{figures}", "GSD_API_HOSTS": "gsd.example"}
    )
    commands.append(command)
    until(lambda: is_up(port), timeout_s=BOUND_S, what="the API")
    until(lambda: command.said, what="its words")
    assert command.said == [f"listening at http://{HOST}:{port}\n"]
    assert get(port, "/v1/workers")[0] == 401
    assert get(port, "/v1/workers", token) == (200, "[]")
    assert get(port, "/metrics")[0] == 401
    assert "gsd_database_up 1.0" in get(port, "/metrics", token)[1]
    assert "gsd_database_up 1.0" in get(figures, "/metrics")[1]
    assert get(figures, "/v1/workers", token)[0] == 404
    second = Command(api("--port", port), env)
    commands.append(second)
    assert second.ended() == exits.OURS
    assert len(second.warned) == 1
    assert f"cannot listen at {HOST} port {port}" in second.warned[0]
    command.process.send_signal(signal.SIGTERM)
    assert command.ended() == 0
    assert str(token) not in "".join(command.said + command.warned)


def test_uvicorn_runs_it_by_the_name_of_the_app(env: dict[str, str], token: TokenText, commands: list[Command]) -> None:
    port = own_port()
    command = [sys.executable, "-m", "uvicorn", "api:app", "--port", str(port), "--log-level", "warning"]
    commands.append(Command(command, env))
    until(lambda: is_up(port), timeout_s=BOUND_S, what="the API")
    assert get(port, "/v1/workers", token) == (200, "[]")


@pytest.mark.parametrize(
    ("change", "front", "words"),
    [
        ({}, Front(certfile=Path("/nowhere/cert.pem")), "--certfile, --keyfile: No such file"),
        ({"api_metrics": "9470"}, Front(), "GSD_API_METRICS: '9470' is no address"),
        ({"api_host": "nowhere.invalid"}, Front(), "cannot listen at nowhere.invalid port 0"),
    ],
    ids=["certificate", "figures", "host"],
)
def test_what_cannot_be_served_is_told_before_anything_is(
    settings: Settings, change: dict[str, str], front: Front, words: str
) -> None:
    said: list[str] = []
    with pytest.raises(ConfigurationError, match=words):
        serve(settings.model_copy(update={"api_port": 0} | change), front, said.append, said.append)
    assert said == []


def test_no_collection_of_what_is_no_longer_used_looks_through_the_app(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All streams would stand still meanwhile."""
    looked_at: list[int] = []
    monkeypatch.setattr(uvicorn.Server, "run", lambda *_: looked_at.append(len(gc.get_objects())))
    before = len(gc.get_objects())
    try:
        serve(settings.model_copy(update={"api_port": 0}), Front(), lambda _: None, lambda _: None)
    finally:
        gc.unfreeze()
    assert looked_at[0] < before / 10


@pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl to make a certificate with")
def test_with_a_certificate_it_speaks_tls_and_nothing_else(
    env: dict[str, str], tmp_path: Path, token: TokenText, commands: list[Command]
) -> None:
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost"]
    names = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", "key.pem", "-out", "cert.pem"]
    subprocess.run([*made, *names], cwd=tmp_path, check=True, capture_output=True, env={"PATH": os.environ["PATH"]})
    port = own_port()
    command = Command(api("--port", port, "--certfile", tmp_path / "cert.pem", "--keyfile", tmp_path / "key.pem"), env)
    commands.append(command)
    trusting = ssl.create_default_context(cafile=str(tmp_path / "cert.pem"))
    until(lambda: is_up(port, trusting), timeout_s=BOUND_S, what="the API")
    until(lambda: command.said, what="its words")
    assert command.said == [f"listening at https://{HOST}:{port}\n"]
    assert get(port, "/v1/workers", token, trusting) == (200, "[]")
    with pytest.raises(OSError, match=r"."):
        get(port, "/healthz")
