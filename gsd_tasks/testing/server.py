"""The HTTP side of the offline model."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event as Flag
from typing import Any, Final
from urllib.parse import urlsplit

from gsd_tasks.testing.request import Request
from gsd_tasks.testing.script import Answer, ApiError, Cut, Hang, Pings, Reply, Turn
from gsd_tasks.testing.sse import PING, encode, events, message

_NEVER: Final = -1
_LOOK_S: Final = 0.02


class Server(ThreadingHTTPServer):
    """Answers each message request with the turn that `play` gives for it."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, port: int, play: Callable[[Request], Turn], stray: Callable[[str], None]) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.play = play
        self.stray = stray
        self.closing = Flag()

    def stop(self) -> None:
        """End what hangs, stop answering, free the port."""
        self.closing.set()
        self.shutdown()
        self.server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that was killed in mid-answer is what this server is for: nothing to report."""


class _Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"
    # A client that connects and says nothing holds a thread no longer than this.
    timeout = 60

    def do_GET(self) -> None:
        self._refuse_path()

    def do_HEAD(self) -> None:
        self._refuse_path()

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        request = Request({name.lower(): value for name, value in self.headers.items()}, body)
        match urlsplit(self.path).path:
            case "/v1/messages":
                self._play(request)
            case "/v1/messages/count_tokens":
                self._send(200, {"input_tokens": request.tokens})
            case _:
                self._refuse_path()

    def _refuse_path(self) -> None:
        self.server.stray(f"{self.command} {self.path}")
        self._send_error(ApiError(404, "not_found_error", f"no {self.path} here"))

    def _play(self, request: Request) -> None:
        try:
            turn = self.server.play(request)
        except Exception as error:  # noqa: BLE001  # a script is anybody's code; it is kept in `OfflineModel.errors`
            turn = ApiError(400, "invalid_request_error", f"the script failed: {error!r}")
        match turn:
            case ApiError():
                self._send_error(turn)
            case Cut(after, answer):
                self._answer(answer, request, stop_at=after)
            case Hang():
                self._answer(turn.answer, request, hang=turn)
            case _:
                self._answer(turn, request)

    def _answer(self, answer: Answer, request: Request, stop_at: int = _NEVER, hang: Hang | None = None) -> None:
        if request.body.get("stream"):
            self._stream(answer, request, stop_at, hang)
            return
        if hang is not None:
            self._wait(hang)
        if stop_at == _NEVER:
            self._send(200, message(answer, request))
        self.close_connection = True

    def _stream(self, answer: Answer, request: Request, stop_at: int, hang: Hang | None) -> None:
        delay_s = answer.delay_s if isinstance(answer, Reply) else 0.0
        self._begin_stream()
        for number, event in enumerate(events(answer, request)):
            if number == stop_at:
                return  # without the last chunk of the transfer coding, so that the client sees a broken connection
            if hang is not None and number == hang.after:
                self._wait(hang, self._ping)
            if delay_s:
                self.server.closing.wait(delay_s)
            self._chunk(encode(event))
        self._chunk(b"")

    def _begin_stream(self) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        # One request per connection: the CLI's pool would otherwise send the next one into a cut connection.
        self.send_header("connection", "close")
        self.end_headers()
        self.close_connection = True

    def _chunk(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()

    def _ping(self) -> None:
        self._chunk(encode(PING))

    def _wait(self, hang: Hang, ping: Callable[[], None] = lambda: None) -> None:
        every_s = hang.every_s if isinstance(hang, Pings) else math.inf
        now = time.monotonic()
        until, ping_at = now + hang.seconds, now + every_s
        while now < until and not (hang.released is not None and hang.released.is_set()):
            if self.server.closing.wait(_LOOK_S):
                return
            now = time.monotonic()
            if now >= ping_at:
                ping()
                ping_at = now + every_s

    def _send_error(self, error: ApiError) -> None:
        body = {"type": "error", "error": {"type": error.type, "message": error.message}}
        more = {} if error.retry_after is None else {"retry-after": str(error.retry_after)}
        self._send(error.status, body, more | dict(error.headers))

    def _send(self, status: int, body: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"content-type": "application/json", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_args: Any) -> None:
        """Nothing on stderr: `OfflineModel.requests` says what was asked."""
