"""The API for tests that need a server: as a process, and as a thread whose inside they can look at."""

from __future__ import annotations

import http.client
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import uvicorn
from fastapi import FastAPI

from gsd_tasks.http.app import create_app
from gsd_tasks.settings import Settings, read_settings
from tests.ports import own_port
from tests.waiting import BOUND_S, until

HOST = "127.0.0.1"
FROM = "tests.http.serving:app"


def app() -> FastAPI:
    """For `uvicorn --factory`."""
    return create_app(read_settings())


class Stream:
    """A GET whose answer is read as it comes."""

    def __init__(self, port: int, path: str, token: str, last_event_id: str | None = None) -> None:
        self._connection = http.client.HTTPConnection(HOST, port, timeout=BOUND_S)
        headers = {"Authorization": f"Bearer {token}"}
        if last_event_id is not None:
            headers["Last-Event-ID"] = last_event_id
        try:
            self._connection.request("GET", path, headers=headers)
            self._socket = self._connection.sock
            self.answer = self._connection.getresponse()
        except BaseException:
            self._connection.close()
            raise
        self.status = self.answer.status
        self.body = b""

    def read(self) -> bool:
        """Some more. False: that was all. Raises `OSError` or `HTTPException` where it was broken off."""
        more = self.answer.read1(65536)
        self.body += more
        return bool(more)

    def rest(self) -> bytes:
        """All of it, to its proper end."""
        self.body += self.answer.read()
        self.close()
        return self.body

    def bound(self, silence_s: float) -> None:
        """Whatever is waited for longer is broken off (`OSError`)."""
        self._socket.settimeout(silence_s)

    def cut(self) -> None:
        """As a network does it."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.close()

    def close(self) -> None:
        """Leave."""
        self.answer.close()
        self._connection.close()


class Streams:
    """Opens streams, and closes those that are left."""

    port: int

    def __init__(self) -> None:
        self._opened: list[Stream] = []

    def stream(self, path: str, token: str, last_event_id: str | None = None) -> Stream:
        """A GET, whose answer has begun."""
        stream = Stream(self.port, path, token, last_event_id)
        self._opened.append(stream)
        return stream

    def close_streams(self) -> None:
        """All that there are."""
        for stream in self._opened:
            stream.close()


class Server(Streams):
    """The API in a thread of this process, at a socket of the test's or one of its own."""

    def __init__(self, settings: Settings, listener: socket.socket | None = None) -> None:
        super().__init__()
        self.app = create_app(settings)
        self._socket = listener or socket.create_server((HOST, 0))
        self.port = self._socket.getsockname()[1]
        self.uvicorn = uvicorn.Server(uvicorn.Config(self.app, log_config=None))
        self._thread = threading.Thread(target=self.uvicorn.run, args=([self._socket],), daemon=True)
        self._thread.start()
        until(lambda: self.uvicorn.started, what="the API")

    def stop(self) -> None:
        """With its streams: off the main thread it hears of no signal, and would wait for them."""
        self.close_streams()
        self.uvicorn.should_exit = True
        self._thread.join(BOUND_S)
        assert not self._thread.is_alive()


class Api(Streams):
    """The API as a process; one after the other at the same port."""

    def __init__(self, env: Mapping[str, str]) -> None:
        super().__init__()
        self.port = own_port()
        self._env = {**env, "PYTHONPATH": str(Path(__file__).parents[2])}
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> subprocess.Popen[bytes]:
        """A new one, that answers."""
        command = [sys.executable, "-m", "uvicorn", "--factory", FROM, "--port", str(self.port), "--no-access-log"]
        self.process = subprocess.Popen(command, env=self._env, stderr=subprocess.DEVNULL)
        until(self._answers, timeout_s=BOUND_S, what="the API")
        return self.process

    def close(self) -> None:
        """End the present one, however it is, and the streams."""
        self.close_streams()
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, "the API has ended"
        try:
            with socket.create_connection((HOST, self.port), 1):
                return True
        except OSError:
            return False


@contextmanager
def served(settings: Settings, listener: socket.socket | None = None) -> Iterator[Server]:
    """The API in a thread, for as long as the block lasts."""
    server = Server(settings, listener)
    try:
        yield server
    finally:
        server.stop()


def process_env(settings: Settings) -> dict[str, str]:
    """What an API process of the same cluster is started with."""
    assert settings.database_url is not None
    assert settings.redis_url is not None
    return {
        "PATH": os.environ["PATH"],
        "HOME": os.environ["HOME"],
        "GSD_DATABASE_URL": settings.database_url.get_secret_value(),
        "GSD_REDIS_URL": settings.redis_url.get_secret_value(),
        "GSD_STATE_DIR": str(settings.state_dir),
    }
