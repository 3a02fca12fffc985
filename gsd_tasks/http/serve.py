"""The API as a process: where it listens, and how it ends."""

from __future__ import annotations

import ipaddress
import logging
import os
import signal
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import uvicorn

from gsd_tasks.domain.errors import ConfigurationError
from gsd_tasks.domain.hosts import in_url
from gsd_tasks.garbage import begun
from gsd_tasks.http.app import create_app
from gsd_tasks.http.metrics_place import Place
from gsd_tasks.http.protocol import BoundedProtocol
from gsd_tasks.local.addresses import resolve_addresses
from gsd_tasks.local.ports import is_free
from gsd_tasks.local.signals import handled

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from pathlib import Path

    from gsd_tasks.settings import Settings

#: What stands in one piece before a body: the request's line, its headers.
LARGEST_HEAD: Final = 64 * 1024
KEEP_ALIVE_S: Final = 15
#: For what is being answered when the API is told to stop. Streams end at once (`farewell`).
STOP_S: Final = 10
BACKLOG: Final = 2048


@dataclass(frozen=True, slots=True)
class Front:
    """What stands between the API and its clients: a certificate, or a proxy whose word on who calls is taken."""

    certfile: Path | None = None
    keyfile: Path | None = None
    is_behind_proxy: bool = False

    @property
    def scheme(self) -> str:
        return "http" if self.certfile is None else "https"


def serve(settings: Settings, front: Front, say: Callable[[str], object], warn: Callable[[str], object]) -> None:
    """Listen at `GSD_API_HOST` and `GSD_API_PORT` until told to stop by a signal; main thread only.

    Raises:
        ConfigurationError: it cannot listen there, or there are no addresses of servers.
    """
    resolve_addresses(settings)
    if settings.api_metrics is not None:
        place = Place.parse(settings.api_metrics)
        if not is_free(place.port, place.host):
            raise ConfigurationError(
                f"GSD_API_METRICS: {settings.api_metrics} cannot be had: end what has it, or set another"
            )
    with _listen(settings.api_host, settings.api_port) as listener:
        host, port = listener.getsockname()[:2]
        shown = in_url(host)
        server = uvicorn.Server(_config(settings, front))
        # The app is there for good. Looking through it for what could go would stop every stream, for a twentieth of a
        # second and more each time.
        begun()
        if front.certfile is None and not ipaddress.ip_address(host).is_loopback:
            warn(f"whoever is on the way to {shown}:{port} can read tokens: put TLS in front, or give --certfile")
        # What comes at this level is what strangers send that is no HTTP.
        logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
        say(f"listening at {front.scheme}://{shown}:{port}")
        with _stopped_is_done():
            server.run([listener])


def _config(settings: Settings, front: Front) -> uvicorn.Config:
    try:
        config = uvicorn.Config(
            create_app(settings),
            http=BoundedProtocol,
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=front.is_behind_proxy,
            backlog=BACKLOG,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=STOP_S,
            h11_max_incomplete_event_size=LARGEST_HEAD,
            ssl_certfile=front.certfile,
            ssl_keyfile=front.keyfile,
        )
        config.load()
    except OSError as error:
        raise ConfigurationError(f"--certfile, --keyfile: {error.strerror or error}") from error
    return config


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        return socket.create_server(address[:2], family=family, backlog=BACKLOG)
    except OSError as error:
        raise ConfigurationError(
            f"cannot listen at {host} port {port}: {_why(error)}: give another --host or --port"
        ) from error


def _stopped_is_done() -> AbstractContextManager[None]:
    """When all is closed, the server sends itself once more the signal that it was stopped by: nobody need hear it."""
    return handled(dict.fromkeys((signal.SIGINT, signal.SIGTERM), lambda *_: None))


def _why(error: OSError) -> str:
    return os.strerror(error.errno) if error.errno is not None and error.errno > 0 else str(error.strerror or error)
