"""Refusing a request whose body is still coming, so that whoever sends it hears why.

A connection that is closed while something unread lies in it is reset, and the answer may go down with it: the sender
would only see that we broke off. So the answer goes out first, and what still comes is thrown away for a while.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from starlette.types import Message, Receive, Send

#: After that it is reset all the same.
LINGER_S: Final = 5.0
LINGER_BYTES: Final = 64 * 1024**2


class Lingering:
    """Both sides of a request. Before a refusal counts as sent, the rest of the body is let pass by."""

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        self._has_all = False
        self._refuses = False

    async def receive(self) -> Message:
        """As the server has it."""
        message = await self._receive()
        self._has_all = not message.get("more_body")
        return message

    async def send(self, message: Message) -> None:
        """As the server has it."""
        if message["type"] == "http.response.start":
            self._refuses = message["status"] >= HTTPStatus.BAD_REQUEST
        elif self._refuses and not self._has_all and not message.get("more_body"):
            await self._send({**message, "more_body": True})
            with suppress(TimeoutError):
                async with asyncio.timeout(LINGER_S):
                    await self._let_pass()
            message = {"type": "http.response.body", "body": b""}
        await self._send(message)

    async def _let_pass(self) -> None:
        left = LINGER_BYTES
        while left > 0 and not self._has_all:
            left -= len((await self.receive()).get("body") or b"")
