"""A stream of Server-Sent Events as a response: what one follower is sent, until all is told or he is gone."""

from __future__ import annotations

import asyncio
import socket
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Final

import anyio
from starlette.exceptions import HTTPException
from starlette.responses import Response

from gsd_tasks.http.live import lookout, sse
from gsd_tasks.http.live.visits import Ending

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

    from gsd_tasks.http.live.tail import Tail
    from gsd_tasks.http.live.visits import Visit

HEADERS: Final = {"cache-control": "no-store", "x-accel-buffering": "no"}
#: How long the last words of a stream may take.
GOODBYE_S: Final = 2.0
#: Where `Abortable` puts the connection.
TRANSPORT: Final = "gsd_tasks.transport"


class LiveStream(Response):
    """What `tail` tells after `position`: `visit` is entered first, then `tail`, both for as long as it lasts.

    What they raise, and a position that cannot be, comes before anything is sent. Where all has been told already, the
    answer is 204, which keeps an `EventSource` from coming again.
    """

    media_type = sse.MEDIA_TYPE

    def __init__(
        self,
        visit: AbstractContextManager[Visit],
        tail: AbstractContextManager[Tail[Any]],
        position: Any,
        *,
        opening: bytes = sse.RETRY,
    ) -> None:
        self.status_code = 200
        self.background = None
        self.init_headers(HEADERS)
        self._visit = visit
        self._tail = tail
        self._position = position
        self._opening = opening

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._visit as visit, self._tail as tail:
            page = await tail.first(self._position)
            if page.has_ended and page.position == self._position:
                await Response(status_code=204, headers=HEADERS)(scope, receive, send)
                return
            _bound_silence(scope)
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            watch = asyncio.create_task(_until_gone(receive, visit))
            try:
                with visit.scope:
                    await _send(send, visit, self._opening + page.body)
                    while not page.has_ended:
                        page = await tail.after(page.position)
                        await _send(send, visit, page.body)
                await _say_goodbye(scope, send, visit)
            finally:
                watch.cancel()


class Abortable:
    """Lets the app break a connection off whose reader takes nothing, as the server that it runs in only waits for it.

    It has to be the outermost layer of the app: what lies further in may stand for the server's own `receive`.
    """

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # Uvicorn's protocols all have it; on another server a reader who takes nothing is left to the kernel's bounds.
        scope[TRANSPORT] = getattr(getattr(receive, "__self__", None), "transport", None)
        await self._app(scope, receive, send)


def _bound_silence(scope: Scope) -> None:
    """A reader who is gone without a word acknowledges no more what he is sent, comments too: then he is let go of.

    Left to itself, Linux sends it again and again for a quarter of an hour.
    """
    transport = scope.get(TRANSPORT)
    connection = None if transport is None else transport.get_extra_info("socket")
    if connection is not None and hasattr(socket, "TCP_USER_TIMEOUT"):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(lookout.STALL_S * 1000))


async def _send(send: Send, visit: Visit, body: bytes) -> None:
    visit.offered_at = asyncio.get_running_loop().time()
    await send({"type": "http.response.body", "body": body, "more_body": True})
    visit.offered_at = None


async def _until_gone(receive: Receive, visit: Visit) -> None:
    """A body out of bounds is read no further, and from then on nothing says any more that its sender is gone."""
    try:
        while (await receive())["type"] != "http.disconnect":
            pass
    except HTTPException:
        visit.end(Ending.BODY)
    else:
        visit.end(Ending.GONE)


async def _say_goodbye(scope: Scope, send: Send, visit: Visit) -> None:
    """The stream's proper end, or a broken off connection where the reader takes not even that."""
    if visit.ending is Ending.GONE:
        return
    last_words = b"" if visit.ending is None else sse.comment(visit.ending)
    if visit.ending is not Ending.STALLED:
        with anyio.move_on_after(GOODBYE_S):
            await send({"type": "http.response.body", "body": last_words, "more_body": False})
            return
    transport = scope.get(TRANSPORT)
    if transport is not None:
        transport.abort()
        # So that the server has seen it before we return, and does not complain of half an answer.
        await asyncio.sleep(0)
