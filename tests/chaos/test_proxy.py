from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator

import pytest

from tests.chaos.proxy import LARGE_BYTES, Loop, Proxy, Wire
from tests.waiting import BOUND_S

QUIET_S = 0.3


class Echo:
    """A server that gives back what it is sent, and remembers it."""

    def __init__(self) -> None:
        self.heard = b""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            while data := connection.recv(65536):
                self.heard += data
                connection.sendall(data)


@pytest.fixture
def echo() -> Iterator[Echo]:
    echo = Echo()
    yield echo
    echo.close()


@pytest.fixture
def loop() -> Iterator[Loop]:
    loop = Loop()
    yield loop
    loop.close()


@pytest.fixture
def wire(loop: Loop, echo: Echo) -> tuple[Proxy, int]:
    return loop.proxy(echo.port)


@pytest.fixture
def connection(wire: tuple[Proxy, int]) -> Iterator[socket.socket]:
    with connect(wire[1]) as connected:
        assert ask(connected, b"hello") == b"hello"
        yield connected


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), BOUND_S)


def ask(connection: socket.socket, question: bytes, within_s: float = BOUND_S) -> bytes | None:
    """The answer; None if there is none in time."""
    connection.settimeout(within_s)
    connection.sendall(question)
    try:
        return connection.recv(65536)
    except TimeoutError:
        return None


def test_what_is_large_passes_whole(connection: socket.socket) -> None:
    sent = bytes(range(256)) * 8192
    threading.Thread(target=connection.sendall, args=(sent,), daemon=True).start()
    received = b""
    while len(received) < len(sent):
        received += connection.recv(65536)

    assert received == sent


def test_a_held_wire_delivers_late(loop: Loop, wire: tuple[Proxy, int], connection: socket.socket, echo: Echo) -> None:
    loop.set(wire[0], Wire.HELD)

    assert ask(connection, b"late", QUIET_S) is None
    assert echo.heard == b"hello"
    loop.set(wire[0], Wire.PASSING)
    connection.settimeout(BOUND_S)
    assert connection.recv(100) == b"late"


def test_a_deaf_wire_passes_a_large_question_and_loses_its_answer(
    loop: Loop, wire: tuple[Proxy, int], connection: socket.socket, echo: Echo
) -> None:
    loop.set(wire[0], Wire.DEAF)

    assert ask(connection, b"?") == b"?"
    assert ask(connection, b"!" * LARGE_BYTES, QUIET_S) is None
    assert echo.heard == b"hello?" + b"!" * LARGE_BYTES
    loop.set(wire[0], Wire.PASSING)
    assert_reset(connection)


def test_a_dropping_wire_loses_what_is_sent_and_never_goes_on_with_a_hole_in_it(
    loop: Loop, wire: tuple[Proxy, int], connection: socket.socket, echo: Echo
) -> None:
    loop.set(wire[0], Wire.DROPPING)

    assert ask(connection, b"?", QUIET_S) is None
    assert echo.heard == b"hello"
    loop.set(wire[0], Wire.PASSING)
    assert_reset(connection)
    with connect(wire[1]) as another:
        assert ask(another, b"again") == b"again"


def test_a_resetting_wire_breaks_the_old_connections_and_takes_no_new_ones(
    loop: Loop, wire: tuple[Proxy, int], connection: socket.socket
) -> None:
    loop.set(wire[0], Wire.RESETTING)

    assert_reset(connection)
    with pytest.raises(ConnectionError), connect(wire[1]) as another:
        assert ask(another, b"?") != b""
    loop.set(wire[0], Wire.PASSING)
    with connect(wire[1]) as another:
        assert ask(another, b"again") == b"again"


def test_the_end_of_a_connection_passes_too(connection: socket.socket) -> None:
    connection.shutdown(socket.SHUT_WR)

    assert connection.recv(100) == b""


def test_a_server_that_is_away_is_a_reset(loop: Loop) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        nobody = taken.getsockname()[1]
    _, port = loop.proxy(nobody)

    with pytest.raises(ConnectionError), connect(port) as connection:
        assert ask(connection, b"?") != b""


def assert_reset(connection: socket.socket) -> None:
    connection.settimeout(BOUND_S)
    with pytest.raises(ConnectionError):
        assert connection.recv(100) != b""
