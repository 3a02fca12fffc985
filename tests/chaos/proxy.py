"""A wire that can be cut: a TCP proxy between one process and one server.

Each of its connections is a pair of streams. What `Wire` says holds for all of them, old and new, until it is changed.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from enum import StrEnum
from typing import Final

from tests.waiting import BOUND_S

LOOPBACK: Final = "127.0.0.1"
CHUNK_BYTES: Final = 64 * 1024
#: What a worker writes is larger: rows, claims, ends. A ping, a renewal and the greetings of a connection are not.
LARGE_BYTES: Final = 256
TCP_USER_TIMEOUT: Final = 18  # <linux/tcp.h>
#: Close without a word of goodbye: the other side sees a reset.
ABRUPTLY: Final = struct.pack("ii", 1, 0)
#: As `gsd_tasks.store.database` has it of a server: who is gone without a word is let go of after a minute.
KEEPALIVE: Final = {socket.TCP_KEEPIDLE: 30, socket.TCP_KEEPINTVL: 10, TCP_USER_TIMEOUT: 60_000}


class Wire(StrEnum):
    """How it is. What was sent while it was `held` arrives, late; after any other cut the connection is reset."""

    PASSING = "passing"
    HELD = "held"
    DEAF = "deaf"  # a connection's first large question arrives, and from there on no answer
    DROPPING = "dropping"
    RESETTING = "resetting"


CUTS: Final = (Wire.HELD, Wire.DEAF, Wire.DROPPING, Wire.RESETTING)


class Proxy:
    """Listens on a port of its own and passes on to `target`. All that it does, it does in the thread of its `Loop`."""

    def __init__(self, target_port: int, address: str) -> None:
        self._target_port = target_port
        self._address = address
        self._wire = Wire.PASSING
        self._changed = asyncio.Event()
        self._links: set[_Link] = set()
        self._server: asyncio.Server | None = None

    async def open(self) -> int:
        """Begin to listen; the port."""
        self._server = await asyncio.start_server(self._serve, self._address, 0)
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    def set(self, wire: Wire) -> None:
        """From now on."""
        if wire is Wire.RESETTING or self._wire is Wire.RESETTING:
            broken = set(self._links)
        else:
            broken = {link for link in self._links if link.is_broken} if wire is Wire.PASSING else set()
        self._wire = wire
        for link in broken:
            link.reset()
        self._changed.set()
        self._changed = asyncio.Event()

    def close(self) -> None:
        if self._server is not None:
            self._server.close()
        for link in set(self._links):
            link.reset()

    async def _serve(self, asker: asyncio.StreamReader, to_asker: asyncio.StreamWriter) -> None:
        if self._wire is Wire.RESETTING:
            _reset(to_asker)
            return
        _keep_alive(to_asker)
        try:
            server, to_server = await asyncio.open_connection(LOOPBACK, self._target_port)
        except OSError:
            _reset(to_asker)
            return
        link = _Link(to_asker, to_server)
        self._links.add(link)
        try:
            await asyncio.gather(self._pump(link, asker, to_server, asks=True), self._pump(link, server, to_asker))
        except OSError:
            link.reset()
        finally:
            self._links.discard(link)
            link.close()

    async def _pump(
        self, link: _Link, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, asks: bool = False
    ) -> None:
        while True:
            data = await source.read(CHUNK_BYTES)
            while self._wire is Wire.HELD:
                await self._changed.wait()
            if self._wire is Wire.DEAF and asks and len(data) >= LARGE_BYTES:
                link.is_broken = True
            if self._wire is Wire.DROPPING or (self._wire is Wire.DEAF and link.is_broken and not asks):
                link.is_broken = True
                if data:
                    continue
            if not data:
                break
            sink.write(data)
            await sink.drain()
        with contextlib.suppress(OSError):
            sink.write_eof()


class _Link:
    """Both ends of one connection. Broken: bytes of it are gone."""

    def __init__(self, *ends: asyncio.StreamWriter) -> None:
        self._ends = ends
        self.is_broken = False

    def reset(self) -> None:
        for end in self._ends:
            _reset(end)

    def close(self) -> None:
        for end in self._ends:
            end.close()


def _reset(end: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        end.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ABRUPTLY)
    end.transport.abort()


def _keep_alive(end: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        connection = end.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in KEEPALIVE.items():
            connection.setsockopt(socket.IPPROTO_TCP, option, value)


class Loop:
    """The one thread of all proxies."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxies", daemon=True)
        self._proxies: list[Proxy] = []
        self._thread.start()

    def proxy(self, target_port: int, address: str = LOOPBACK) -> tuple[Proxy, int]:
        """A proxy, and the port of `address` on which it listens."""

        async def make() -> tuple[Proxy, int]:
            proxy = Proxy(target_port, address)
            return proxy, await proxy.open()

        proxy, port = asyncio.run_coroutine_threadsafe(make(), self._loop).result(BOUND_S)
        self._proxies.append(proxy)
        return proxy, port

    def set(self, proxy: Proxy, wire: Wire) -> None:
        self._loop.call_soon_threadsafe(proxy.set, wire)

    def close(self) -> None:
        for proxy in self._proxies:
            self._loop.call_soon_threadsafe(proxy.close)
        asyncio.run_coroutine_threadsafe(self._finish(), self._loop).result(BOUND_S)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(BOUND_S)
        self._loop.close()

    @staticmethod
    async def _finish() -> None:
        """Let every connection's task see its end."""
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
