"""HTTP as the server reads it: with a bound on how long a request's head may take, and problems told as elsewhere."""

from __future__ import annotations

import asyncio
import json
import socket
from contextlib import suppress
from http import HTTPStatus
from typing import Final

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

from gsd_tasks.http.problems import framework_problem
from gsd_tasks.wire.problems import MEDIA_TYPE

#: From the first byte to the last one of a head; and how long a connection may say nothing at first.
HEAD_S: Final = 10.0
#: Who takes nothing of an answer for so long, or does not even acknowledge it, is left.
TAKE_S: Final = 60.0


class BoundedProtocol(H11Protocol):
    """The server's own, which would wait for the rest of a head for ever, and answers rubbish in plain text."""

    _patience: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A stranger is there."""
        super().connection_made(transport)
        _bound_taking(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        """He says something. Beside a request that is being answered, it is for `Bounds` to be impatient."""
        super().data_received(data)
        # None at first, whatever the server's annotation says.
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is None or cycle.response_complete:
            self._wait()
        else:
            self._stop_waiting()

    def connection_lost(self, exc: Exception | None) -> None:
        """He is gone."""
        self._stop_waiting()
        super().connection_lost(exc)

    def send_400_response(self, _msg: str) -> None:
        """What comes is no HTTP."""
        problem = framework_problem(HTTPStatus.BAD_REQUEST, "this is no HTTP request that can be read")
        body = json.dumps(problem.document()).encode("ascii")
        headers = [
            (b"content-type", MEDIA_TYPE.encode("ascii")),
            (b"content-length", str(len(body)).encode("ascii")),
            (b"connection", b"close"),
        ]
        events = (h11.Response(status_code=400, headers=headers), h11.Data(data=body), h11.EndOfMessage())
        # In the middle of an answer there is no place for another one.
        with suppress(h11.LocalProtocolError):
            self.transport.write(b"".join(self.conn.send(event) or b"" for event in events))
        self.transport.close()

    def _wait(self) -> None:
        if self._patience is None and not self.transport.is_closing():
            self._patience = self.loop.call_later(HEAD_S, self.transport.abort)

    def _stop_waiting(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None


def _bound_taking(transport: asyncio.Transport) -> None:
    """Left to itself, the kernel asks a reader for room in his window for ever."""
    connection = transport.get_extra_info("socket")
    if connection is not None and hasattr(socket, "TCP_USER_TIMEOUT"):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(TAKE_S * 1000))
