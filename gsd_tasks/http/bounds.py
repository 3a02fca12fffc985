"""What no request gets past: the name it calls us by, its size, its headers. And what every answer says."""

from __future__ import annotations

import asyncio
from collections import Counter
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from starlette.exceptions import HTTPException

from gsd_tasks.domain.errors import TooLarge
from gsd_tasks.domain.hosts import host_name, known_hosts
from gsd_tasks.http.answers import ProblemAnswer
from gsd_tasks.http.lingering import Lingering
from gsd_tasks.http.problems import answer_to, framework_problem, internal_answer

if TYPE_CHECKING:
    from collections.abc import Iterable

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from gsd_tasks.settings import Settings

LARGEST_HEADERS: Final = 32 * 1024
#: Path and query.
LONGEST_TARGET: Final = 8 * 1024
#: From the first look at a body to its end: 16 MiB over a poor line.
SLOWEST_BODY_S: Final = 60.0
#: A probe calls by whatever address it has, and is told nothing that a stranger may not know.
ANYBODYS: Final = frozenset({"/healthz", "/readyz"})

#: Headers of which a second one would leave open which of them counts.
_SINGLE: Final = frozenset(
    {b"host", b"authorization", b"content-type", b"content-length", b"idempotency-key", b"range", b"last-event-id"}
)
_SAID: Final = (
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"referrer-policy", b"no-referrer"),
)


class BodyTooLarge(HTTPException):
    """More came than may come. One of HTTP's, as the framework lets no other pass that is raised while it reads."""

    def __init__(self) -> None:
        super().__init__(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)


def hosts_of(settings: Settings) -> frozenset[str]:
    """The names by which clients may call the API."""
    return known_hosts((settings.api_host, *settings.api_hosts))


class BodyTooSlow(HTTPException):
    """What was begun did not come to its end in time."""

    def __init__(self) -> None:
        super().__init__(HTTPStatus.REQUEST_TIMEOUT, headers={"Connection": "close"})


class Bounds:
    """Refuses what is out of bounds before anything else looks at it, and lets no fault out undocumented."""

    def __init__(
        self, app: ASGIApp, *, hosts: Iterable[str], largest_body: int, slowest_s: float = SLOWEST_BODY_S
    ) -> None:
        self._app = app
        self._hosts = frozenset(hosts)
        self._largest_body = largest_body
        self._slowest_s = slowest_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        lingering = Lingering(receive, send)
        answering = _Answering(lingering.send)
        refusal = self._refusal(scope)
        if refusal is not None:
            await refusal(scope, receive, answering)
            return
        bounded = _Bounded(lingering.receive, self._largest_body, self._slowest_s)
        try:
            await self._app(scope, bounded, answering)
        except BodyTooLarge:
            await self._too_large()(scope, receive, answering)
        except BodyTooSlow as error:
            await ProblemAnswer(framework_problem(error.status_code), error.headers)(scope, receive, answering)
        except Exception as error:
            answer = internal_answer(error, scope)
            if answering.has_begun:
                # The caller must not take half an answer for a whole one: the server cuts the connection.
                raise
            await answer(scope, receive, answering)

    def _refusal(self, scope: Scope) -> ProblemAnswer | None:
        headers: list[tuple[bytes, bytes]] = scope["headers"]
        if sum(len(name) + len(value) for name, value in headers) > LARGEST_HEADERS:
            return ProblemAnswer(framework_problem(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE))
        if len(scope.get("raw_path") or b"") + len(scope["query_string"]) > LONGEST_TARGET:
            return ProblemAnswer(framework_problem(HTTPStatus.REQUEST_URI_TOO_LONG))
        twice = next(
            (name for name, times in Counter(name for name, _ in headers).items() if times > 1 and name in _SINGLE),
            None,
        )
        if twice is not None:
            words = f"there are several {twice.decode('ascii')} headers: send one"
            return ProblemAnswer(framework_problem(HTTPStatus.BAD_REQUEST, words))
        given = dict(headers)
        if b"content-length" in given and b"transfer-encoding" in given:
            # Where it ends, whoever stands in front may have taken from the other one (RFC 9112, section 6.1).
            words = "there are a Content-Length and a Transfer-Encoding: send one of them"
            return ProblemAnswer(framework_problem(HTTPStatus.BAD_REQUEST, words), {"Connection": "close"})
        if scope["path"] not in ANYBODYS and host_name(given.get(b"host", b"").decode("latin-1")) not in self._hosts:
            return ProblemAnswer(framework_problem(HTTPStatus.MISDIRECTED_REQUEST))
        length = given.get(b"content-length", b"0")
        if length.isdigit() and int(length) > self._largest_body:
            return self._too_large()
        return None

    def _too_large(self) -> ProblemAnswer:
        answer = answer_to(TooLarge("the request", self._largest_body))
        # The rest of it is of no use to anybody.
        answer.headers["connection"] = "close"
        return answer


class _Answering:
    """Passes on what is sent, with what every answer says."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.has_begun = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.has_begun = True
            headers = list(message.get("headers", ()))
            said = {name.lower() for name, _ in headers}
            message = {**message, "headers": headers + [pair for pair in _SAID if pair[0] not in said]}
        await self._send(message)


class _Bounded:
    """Passes on what is received, up to a bound of bytes and time: a body may come without saying how long it is."""

    def __init__(self, receive: Receive, largest_bytes: int, slowest_s: float) -> None:
        self._receive = receive
        self._left = largest_bytes
        self._slowest_s = slowest_s
        self._deadline: float | None = None
        self._is_whole = False

    async def __call__(self) -> Message:
        if self._is_whole:
            # All that is to come is that the caller leaves.
            return await self._receive()
        if self._deadline is None:
            self._deadline = asyncio.get_running_loop().time() + self._slowest_s
        try:
            async with asyncio.timeout_at(self._deadline):
                message = await self._receive()
        except TimeoutError:
            raise BodyTooSlow from None
        self._is_whole = not message.get("more_body", False)
        self._left -= len(message.get("body") or b"")
        if self._left < 0:
            raise BodyTooLarge
        return message
