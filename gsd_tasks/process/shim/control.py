"""The shim's socket: answers requests, and tells followers that there is something new in the spool."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import socket
import struct
from collections.abc import Callable
from typing import Any, Final

from gsd_tasks.process.shim.protocol import CONTROL_NAME, MAX_LINE_BYTES, PROTOCOL, line

Answer = Callable[[dict[str, Any]], dict[str, Any]]

_RECEIVE_BYTES: Final = 64 * 1024
_MOST_CLIENTS: Final = 32
_PEER: Final = struct.Struct("3i")


def listen() -> socket.socket:
    """A socket in the present folder: its path may have 107 bytes, and a spool's may be longer."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    listener.bind(CONTROL_NAME)
    listener.listen(_MOST_CLIENTS)
    return listener


class ControlServer:
    """Serves the requests that come in on `listener`.

    Nothing here waits: a client that does not read what it is sent loses its connection, a follower only the news.
    """

    def __init__(self, listener: socket.socket, selector: selectors.BaseSelector, answer: Answer) -> None:
        self._listener = listener
        self._selector = selector
        self._answer = answer
        self._clients: set[_Client] = set()
        selector.register(listener, selectors.EVENT_READ, self._accept)

    def tell_news(self) -> None:
        """Something was spooled, or happened."""
        for client in list(self._clients):
            if client.follows:
                client.tell_news()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # it went away again
            connection, _ = self._listener.accept()
            if len(self._clients) >= _MOST_CLIENTS or not _is_trusted(connection):
                connection.close()
                return
            connection.setblocking(False)
            client = _Client(connection)
            self._clients.add(client)
            self._selector.register(connection, selectors.EVENT_READ, lambda: self._hear(client))

    def _hear(self, client: _Client) -> None:
        try:
            for request in client.receive():
                if request:
                    client.send(self._reply(client, request))
                else:
                    client.ask()
        except (OSError, EOFError):
            self._drop(client)

    def _reply(self, client: _Client, request: bytearray) -> dict[str, Any]:
        try:
            message = json.loads(request)
            if message["do"] == "follow":
                client.follow()
                return {"protocol": PROTOCOL, "ok": True}
            return {"protocol": PROTOCOL, "ok": True, **self._answer(message)}
        except (ValueError, KeyError, TypeError) as error:
            return {"protocol": PROTOCOL, "ok": False, "error": f"{type(error).__name__}: {error}"}

    def _drop(self, client: _Client) -> None:
        self._clients.discard(client)
        self._selector.unregister(client.connection)
        client.connection.close()


class _Client:
    """A connection. As a follower it asks for one word of news at a time.

    It says when it wants to be told, and is told once: a child that writes a thousand times between two looks of its
    reader costs one word, and news that came before it asked are told as it asks.
    """

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.follows = False
        self._asked = False
        self._news = False
        self._heard = bytearray()

    def receive(self) -> list[bytearray]:
        """The whole lines that have come in. Raises EOFError at their end, OSError."""
        data = self.connection.recv(_RECEIVE_BYTES)
        self._heard += data
        lines: list[bytearray] = []
        if b"\n" in data:  # else a line of megabytes would be looked through for each of its pieces
            *lines, self._heard = self._heard.split(b"\n")
        if not data or len(self._heard) > MAX_LINE_BYTES:
            raise EOFError
        return lines

    def send(self, reply: dict[str, Any]) -> None:
        self.connection.sendall(line(reply))

    def follow(self) -> None:
        """What was spooled before counts as news: the follower may have looked before it."""
        self.follows = self._news = True

    def ask(self) -> None:
        self._asked = True
        self._tell()

    def tell_news(self) -> None:
        self._news = True
        self._tell()

    def _tell(self) -> None:
        if self._asked and self._news and self.follows:
            self._asked = self._news = False
            with contextlib.suppress(OSError):  # gone, which its end says too
                self.connection.send(b"\n")


def _is_trusted(connection: socket.socket) -> bool:
    """The folder lets in our own user and root; so does this, should the folder be opened to others one day."""
    peer = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size)
    return _PEER.unpack(peer)[1] in (0, os.geteuid())
