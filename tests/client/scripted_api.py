"""An HTTP server that says exactly what a test wants it to: what the real API never would, or not at that moment."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

from gsd_tasks.wire.plain import plain
from tests.waiting import BOUND_S

TOKEN = "gsd_0123456789_not-for-any-log"


class Request(BaseHTTPRequestHandler):
    """One request, and the ways to answer it."""

    protocol_version = "HTTP/1.1"

    def answer(self, value: object, status: int = 200, *, kind: str = "application/json", **headers: str) -> None:
        body = value if isinstance(value, bytes) else json.dumps(plain(value)).encode()
        self.send_response(status)
        for name, said in {"Content-Type": kind, "Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), said)
        self.end_headers()
        self.wfile.write(body)

    def begin_stream(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def say(self, piece: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
        self.wfile.flush()

    def end_stream(self) -> None:
        self.say(b"")

    def break_off(self) -> None:
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def wait_until_left(self) -> None:
        """Until whoever asked has gone."""
        self.close_connection = True
        self.connection.settimeout(BOUND_S)
        self.connection.recv(1)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  (the base's name)
        pass

    def _handle(self) -> None:
        length = int(self.headers.get("Content-Length", 0))
        self.body = self.rfile.read(length)
        server = self.server
        assert isinstance(server, _Server)
        server.api.asked.append((self.command, self.path, self.headers.get("Authorization")))
        server.api.script(self)

    do_GET = do_POST = do_PATCH = do_DELETE = _handle  # noqa: N815  (the base's names)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    api: ScriptedApi


class ScriptedApi:
    """Calls `script` for each request; `asked` has them all: method, path, and what was presented."""

    def __init__(self, script: Callable[[Request], object]) -> None:
        self.script = script
        self.asked: list[tuple[str, str, str | None]] = []
        self._server = _Server(("127.0.0.1", 0), Request)
        self._server.api = self
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()
