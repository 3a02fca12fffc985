"""The figures at an address of their own: no token is asked for, and nothing else is there."""

from __future__ import annotations

import socket
import threading
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self

from gsd_tasks.domain.errors import ConfigurationError
from gsd_tasks.http import metrics

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client import CollectorRegistry

PATH: Final = "/metrics"
#: Who says nothing for so long is left.
SILENCE_S: Final = 10


class Place(NamedTuple):
    """Where it is."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """`HOST:PORT`, or `[HOST]:PORT`. Raises `ConfigurationError`."""
        host, _, port = text.rpartition(":")
        if not host or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
            raise ConfigurationError(f"GSD_API_METRICS: {text!r} is no address like 127.0.0.1:9470")
        return cls(host.removeprefix("[").removesuffix("]"), int(port))


@contextmanager
def served(text: str | None, registry: CollectorRegistry) -> Iterator[None]:
    """Have the figures to be had at `GSD_API_METRICS` too, if that is set, as long as the block lasts.

    Raises:
        ConfigurationError: it is no address, or not to be had.
    """
    if text is None:
        yield
        return
    try:
        server = _Server(Place.parse(text), registry)
    except OSError as error:
        raise ConfigurationError(f"GSD_API_METRICS: cannot listen at {text}: {error.strerror or error}") from error
    with server:
        thread = threading.Thread(target=server.serve_forever, name="metrics", daemon=True)
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, place: Place, registry: CollectorRegistry) -> None:
        found = socket.getaddrinfo(*place, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        self.address_family = found[0]
        self.registry = registry
        super().__init__(place, _Handler)

    def handle_error(self, _request: Any, _client_address: Any) -> None:
        """A scraper that leaves in the middle is nobody's concern."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = SILENCE_S

    def do_GET(self) -> None:
        if self.path.partition("?")[0] != PATH:
            self._answer(HTTPStatus.NOT_FOUND, b"there is %s alone\n" % PATH.encode("ascii"), "text/plain")
            return
        self._answer(HTTPStatus.OK, metrics.render(self.server.registry), metrics.MEDIA_TYPE)

    def _answer(self, status: HTTPStatus, body: bytes, media_type: str) -> None:
        self.send_response_only(status)
        self.send_header("Content-Type", media_type)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Who scrapes is no news."""
