"""Reads a stream in a thread of its own, so that whoever waits for it can look at other things meanwhile."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from queue import Empty, Full, Queue
from typing import TYPE_CHECKING, Final, Self

import httpx2

if TYPE_CHECKING:
    from types import TracebackType

#: So many pieces, of 64 KiB or so, may wait for their reader; then the connection does.
AHEAD: Final = 32
_LOOK_S: Final = 0.2
_JOIN_S: Final = 2.0


class Pump:
    """The pieces of a response, as they arrive. Leaving the block breaks off what has not ended."""

    def __init__(self, response: httpx2.Response) -> None:
        self._response = response
        self._pieces: Queue[bytes | Exception] = Queue(AHEAD)
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="gsd-stream", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._closing.set()
        if self._thread.is_alive():
            self._wake()
            self._thread.join(_JOIN_S)

    def next(self, within_s: float) -> bytes | None:
        """The next piece, empty at the end of the stream; None: there was none within this time.

        Raises:
            httpx2.RequestError: it broke.
        """
        try:
            piece = self._pieces.get(timeout=within_s)
        except Empty:
            return None
        if isinstance(piece, Exception):
            raise piece
        return piece

    def _run(self) -> None:
        try:
            for piece in self._response.iter_bytes():
                if piece and not self._put(piece):
                    return
            self._put(b"")
        except Exception as error:  # noqa: BLE001 - whoever reads the pieces raises it
            self._put(error)

    def _put(self, piece: bytes | Exception) -> bool:
        while not self._closing.is_set():
            with suppress(Full):
                self._pieces.put(piece, timeout=_LOOK_S)
                return True
        return False

    def _wake(self) -> None:
        """The thread may be waiting for what comes, which a `close` would not end."""
        connection = self._response.extensions["network_stream"].get_extra_info("socket")
        if connection is not None:
            with suppress(OSError):
                # Not that of `ssl`, which forgets its own state over it, in the middle of a read.
                socket.socket.shutdown(connection, socket.SHUT_RDWR)
