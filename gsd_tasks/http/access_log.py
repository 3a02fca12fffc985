"""A line of the log for each request, and a name for it that stands on every line that it has led to."""

from __future__ import annotations

import re
import secrets
import time
from typing import TYPE_CHECKING, Final

from gsd_tasks.domain.sanitize import one_line
from gsd_tasks.telemetry import about, get_log
from gsd_tasks.telemetry.caller import called_by

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADER: Final = b"x-request-id"
#: What a proxy or a client may call its request: else it is named here.
_NAME: Final = re.compile(rb"[A-Za-z0-9._:-]{1,128}")
#: Asked every few seconds by machines.
_PROBES: Final = frozenset({"/healthz", "/readyz", "/metrics"})
_LONGEST_PATH: Final = 512


class Logged:
    """Says of every request, once it is answered: method, path, status, how long it took, and whose token it brought.

    Never its query or its headers: they may hold what is nobody's business. The answer tells its name
    (`X-Request-Id`). What it enqueues belongs to its trace (`traceparent`).
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._log = get_log("access")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        name = _name(scope)
        status = 499  # as /metrics has it: nobody waited

        async def named(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = int(message["status"])  # a route may have given an `HTTPStatus`
                message["headers"] = [*message.get("headers", ()), (HEADER, name.encode())]
            await send(message)

        began = time.perf_counter()
        with about(request=name), called_by(_traceparent(scope)):
            try:
                await self._app(scope, receive, named)
            finally:
                token = scope.get("state", {}).get("token")
                say = self._log.debug if scope["path"] in _PROBES else self._log.info
                say(
                    "request",
                    method=scope["method"][:16],
                    path=one_line(scope["path"], _LONGEST_PATH),
                    status=status,
                    seconds=round(time.perf_counter() - began, 4),
                    token=None if token is None else token.id,
                )


def _traceparent(scope: Scope) -> str | None:
    given = [value for header, value in scope["headers"] if header == b"traceparent"]
    return given[0].decode("latin-1") if len(given) == 1 else None


def _name(scope: Scope) -> str:
    given = [value for header, value in scope["headers"] if header == HEADER]
    if len(given) == 1 and _NAME.fullmatch(given[0]):
        return bytes(given[0]).decode("ascii")
    return secrets.token_hex(8)
