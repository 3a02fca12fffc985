"""Flower's own application, with our gate before every route, and what is served behind it."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

import tornado.web
from flower.app import Flower
from tornado import ioloop
from tornado.http1connection import HTTP1Connection

from gsd_tasks.celery_flower.gate import Gate, Refusal
from gsd_tasks.celery_flower.inspector import ShownInspector
from gsd_tasks.celery_flower.state import SessionEvents
from gsd_tasks.domain.errors import ConfigurationError
from gsd_tasks.local.addresses import resolve_addresses
from gsd_tasks.local.flower_password import USER, flower_password
from gsd_tasks.service.showing import Showing
from gsd_tasks.settings import SHORTEST_PASSWORD, Settings, settings
from gsd_tasks.store import Database
from gsd_tasks.telemetry import get_log

if TYPE_CHECKING:
    from tornado.httputil import HTTPHeaders, HTTPServerRequest

#: How many sessions are kept in memory, the newest ones; `--max_tasks` says otherwise.
MOST_SESSIONS: Final = 10_000
#: Workers that have said nothing for so long are not shown any more; `--purge_offline_workers` says otherwise.
FORGET_S: Final = 24 * 3600
COLUMNS: Final = "name,uuid,state,result,received,runtime,worker"
LARGEST_BODY: Final = 1024**2

_SAID: Final = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        "default-src 'self'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; "
        "img-src 'self' data:; frame-ancestors 'none'; form-action 'self'; base-uri 'none'"
    ),
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class GuardedFlower(Flower):
    """Flower as this cluster has it. `options` are Flower's, from its command line and its environment.

    Raises:
        ConfigurationError: there are no servers or no password, or an option would open what is to be closed.
    """

    def __init__(self, options: Any, capp: Any, **given: Any) -> None:
        configured = settings()
        options.basic_auth = credentials(configured, options)
        self._gate = Gate(
            options.basic_auth,
            (configured.flower_host, options.address, *configured.flower_hosts),
            url_prefix=options.url_prefix or "",
        )
        loop = ioloop.IOLoop.instance()
        super().__init__(
            options=options,
            capp=capp,
            io_loop=loop,
            events=_events(configured, options, capp, loop),
            transforms=[Saying],
            **given,
        )
        self.inspector = ShownInspector(self.events.state.name_of, loop, capp, options.inspect_timeout / 1000.0)

    def find_handler(self, request: HTTPServerRequest, **named: Any) -> Any:
        """The route's handler, for those who get in."""
        refusal = self._gate.refusal(
            request.method or "",
            request.path,
            host=request.host,
            authorization=request.headers.get("Authorization", ""),
            read_only=self.options.read_only,
        )
        if refusal is not None:
            return self.get_handler_delegate(request, Refuse, {"refusal": refusal})
        if isinstance(request.connection, HTTP1Connection):
            request.connection.set_max_body_size(LARGEST_BODY)
        return super().find_handler(request, **named)


@tornado.web.stream_request_body
class Refuse(tornado.web.RequestHandler):
    """Answers as soon as the headers are there, whatever else was to come."""

    def initialize(self, refusal: Refusal) -> None:
        """Take what is to be said."""
        self._refusal = refusal

    def check_xsrf_cookie(self) -> None:
        """Nothing is done here that anybody could be tricked into."""

    def prepare(self) -> None:
        """Say it."""
        self.set_status(self._refusal.status)
        if self._refusal.status is HTTPStatus.UNAUTHORIZED:
            self.set_header("WWW-Authenticate", 'Basic realm="gsd-tasks", charset="UTF-8"')
        self.set_header("Content-Type", "text/plain; charset=utf-8")
        self.finish(f"{self._refusal.words}\n")

    def data_received(self, chunk: bytes) -> None:
        """Of no use to anybody."""


class Saying(tornado.web.OutputTransform):
    """Adds to each answer what every answer says."""

    def transform_first_chunk(
        self, status_code: int, headers: HTTPHeaders, chunk: bytes, *_: Any, **__: Any
    ) -> tuple[int, HTTPHeaders, bytes]:
        """Before the headers go out."""
        for name, value in _SAID.items():
            if name not in headers:
                headers[name] = value
        headers.pop("Server", None)
        return status_code, headers, chunk


def set_defaults(options: Any, configured: Settings) -> None:
    """What Flower's options are where its command line and environment say nothing."""
    options.address = configured.flower_host
    options.port = configured.flower_port
    options.read_only = True
    options.max_tasks = MOST_SESSIONS
    options.purge_offline_workers = FORGET_S
    options.tasks_columns = COLUMNS


def credentials(configured: Settings, options: Any) -> list[str]:
    """Who gets in: those of Flower's own `--basic_auth` if it is given, else our one user.

    Raises:
        ConfigurationError: a password cannot be used, or there is none.
    """
    if options.persistent:
        get_log("flower").warning("--persistent is passed over: Flower reads sessions from Postgres, and keeps no file")
    given = list(options.basic_auth or ())
    for one in given:
        if len(one.partition(":")[2]) < SHORTEST_PASSWORD or not one.isascii():
            raise ConfigurationError(
                f"--basic_auth: is user:password, with a password of {SHORTEST_PASSWORD} ASCII characters or more"
            )
    if given and configured.flower_password is None:
        return given
    password = flower_password(configured)
    get_log("flower").info("Flower asks for a password", user=USER, password=password.place)
    return [*given, f"{USER}:{password.text}"]


def _events(configured: Settings, options: Any, capp: Any, loop: Any) -> SessionEvents:
    addresses = resolve_addresses(configured)
    database = Database(addresses.database_url, connections=1, name="gsd-tasks flower")
    return SessionEvents(
        Showing(database, addresses.redis_url, latest=options.max_tasks),
        capp=capp,
        io_loop=loop,
        enable_events=options.enable_events,
        max_workers_in_memory=options.max_workers,
        max_tasks_in_memory=options.max_tasks,
    )
