"""What comes through the socket and is no request, or never becomes one. No database."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
import uvicorn

from gsd_tasks.http import lingering, protocol
from gsd_tasks.http.bounds import Bounds
from gsd_tasks.http.protocol import BoundedProtocol
from gsd_tasks.http.serve import LARGEST_HEAD
from tests.waiting import BOUND_S, until

PATIENCE_S = 1.5
#: How much later than that. Whoever drips goes on for twenty seconds.
LATE_S = 10
HOST = b"Host: 127.0.0.1\r\n"


async def echo(_scope: Any, receive: Any, send: Any) -> None:
    """Reads all of it, and says how much that was."""
    length, more = 0, True
    while more:
        message = await receive()
        length, more = length + len(message.get("body", b"")), message.get("more_body", False)
    body = str(length).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """Of an app within bounds, on the server that `gsd-tasks api` runs, whose patience is short."""
    with pytest.MonkeyPatch.context() as patched, socket.create_server(("127.0.0.1", 0)) as listener:
        patched.setattr(protocol, "HEAD_S", PATIENCE_S)
        patched.setattr(protocol, "TAKE_S", PATIENCE_S)
        patched.setattr(lingering, "LINGER_S", PATIENCE_S)
        app = Bounds(echo, hosts=["127.0.0.1"], largest_body=1000, slowest_s=PATIENCE_S)
        config = uvicorn.Config(
            app,
            http=BoundedProtocol,
            ws="none",
            lifespan="off",
            log_config=None,
            h11_max_incomplete_event_size=LARGEST_HEAD,
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
        thread.start()
        until(lambda: server.started, what="the server")
        yield listener.getsockname()[1]
        server.should_exit = True
        thread.join(BOUND_S)


class Stranger:
    """A connection that is written to byte by byte, if need be."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), BOUND_S)

    def say(self, said: bytes) -> None:
        self._socket.sendall(said)

    def say_on_and_on(self, said: bytes) -> None:
        """Without taking what comes back. Raises `ConnectionError` when the other side has left."""
        self._socket.setblocking(False)
        try:
            with suppress(BlockingIOError):
                while True:
                    self._socket.send(said)
        except ConnectionError:
            self._socket.close()
            raise

    def drip(self, said: bytes, every_s: float) -> bytes:
        """All that comes back while this is said a byte at a time."""
        for number in range(len(said)):
            try:
                self.say(said[number : number + 1])
            except OSError:
                break
            time.sleep(every_s)
        return self.rest()

    def rest(self) -> bytes:
        """All that comes, until the other side closes."""
        heard = b""
        try:
            while more := self._socket.recv(65536):
                heard += more
        except ConnectionError:
            pass
        self._socket.close()
        return heard


@pytest.fixture
def stranger(port: int) -> Stranger:
    return Stranger(port)


def status_of(heard: bytes) -> int:
    return int(heard.split(b" ", 2)[1])


def problem_of(heard: bytes) -> tuple[int, str]:
    head, _, body = heard.partition(b"\r\n\r\n")
    assert b"content-type: application/problem+json" in head.lower()
    document = json.loads(body)
    assert document["status"] == status_of(heard)
    return status_of(heard), document["type"].rpartition(":")[2]


def test_who_says_nothing_is_left(stranger: Stranger) -> None:
    began = time.monotonic()
    assert stranger.rest() == b""
    assert PATIENCE_S * 0.8 < time.monotonic() - began < PATIENCE_S + LATE_S


def test_a_head_that_drips_is_not_waited_for(stranger: Stranger) -> None:
    began = time.monotonic()
    assert stranger.drip(b"GET / HTTP/1.1\r\nX-A: " + b"a" * 1000, 0.02) == b""
    assert time.monotonic() - began < PATIENCE_S + LATE_S


def test_nor_one_that_drips_after_a_good_request(stranger: Stranger) -> None:
    stranger.say(b"GET / HTTP/1.1\r\n" + HOST + b"\r\n")
    began = time.monotonic()
    heard = stranger.drip(b"GET / HTTP/1.1\r\nX-A: " + b"a" * 1000, 0.02)
    assert (status_of(heard), heard.count(b"HTTP/1.1")) == (200, 1)
    assert time.monotonic() - began < PATIENCE_S + LATE_S


def test_who_asks_again_and_again_and_takes_no_answer_is_left(stranger: Stranger) -> None:
    def has_been_left() -> bool:
        try:
            stranger.say_on_and_on((b"GET / HTTP/1.1\r\n" + HOST + b"\r\n") * 100)
        except ConnectionError:
            return True
        return False

    until(has_been_left, timeout_s=BOUND_S, what="the end of a connection that nobody reads")


def test_a_body_of_two_lengths_is_refused_with_all_that_follows_it(stranger: Stranger) -> None:
    both = b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    stranger.say(b"POST / HTTP/1.1\r\n" + HOST + both + b"GET / HTTP/1.1\r\n" + HOST + b"\r\n")
    heard = stranger.rest()
    assert problem_of(heard) == (400, "bad-request")
    assert heard.count(b"HTTP/1.1") == 1


def test_a_body_that_drips_is_told_that_it_took_too_long(stranger: Stranger) -> None:
    stranger.say(b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 900\r\n\r\n")
    began = time.monotonic()
    assert problem_of(stranger.drip(b"a" * 200, 0.02)) == (408, "request-timeout")
    # A refusal lets what still comes pass by for a while.
    assert time.monotonic() - began < PATIENCE_S + LATE_S


def test_a_request_that_takes_its_time_within_the_bounds_is_answered(stranger: Stranger) -> None:
    stranger.say(b"POST / HTTP/1.1\r\n" + HOST + b"Connection: close\r\nContent-Length: 10\r\n\r\n")
    assert stranger.drip(b"a" * 10, PATIENCE_S / 50).endswith(b"10")


@pytest.mark.parametrize(
    "said",
    [
        b"\r\n\r\n\r\nrubbish\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nHost: evil\r\n\r\n",
        b"GET /\x00 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost : 127.0.0.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX: a\x00b\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: gzip\r\n\r\n",
    ],
    ids=repr,
)
def test_what_is_no_http_is_told_so_in_a_problem_document(stranger: Stranger, said: bytes) -> None:
    stranger.say(said)
    assert problem_of(stranger.rest()) == (400, "bad-request")


def test_a_chunk_that_is_none_ends_the_connection(stranger: Stranger) -> None:
    stranger.say(b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\nno number\r\n")
    assert problem_of(stranger.rest()) == (400, "bad-request")


def test_a_head_without_end_is_refused(stranger: Stranger) -> None:
    stranger.say(b"GET / HTTP/1.1\r\n" + HOST)
    try:
        for _ in range(100):
            stranger.say(b"X-Much: " + b"x" * 4000 + b"\r\n")
    except ConnectionError:
        pass
    heard = stranger.rest()
    assert heard == b"" or problem_of(heard) == (400, "bad-request")


def test_many_headers_within_that_are_refused_by_their_sum(stranger: Stranger) -> None:
    much = b"".join(b"X-%d: %s\r\n" % (number, b"x" * 1000) for number in range(40))
    stranger.say(b"GET / HTTP/1.1\r\n" + HOST + b"Connection: close\r\n" + much + b"\r\n")
    assert problem_of(stranger.rest()) == (431, "headers-too-large")


@pytest.mark.parametrize("ending", [b"", b"0\r\n\r\n"], ids=["goes on", "ends"])
def test_a_body_in_chunks_is_counted_as_it_comes(stranger: Stranger, ending: bytes) -> None:
    chunk = b"190\r\n" + b"x" * 400 + b"\r\n"
    stranger.say(b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n" + chunk * 3 + ending)
    assert problem_of(stranger.rest()) == (413, "too-large")


def test_one_that_says_its_length_is_refused_before_it_comes(stranger: Stranger) -> None:
    stranger.say(b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 1001\r\n\r\n")
    assert problem_of(stranger.rest()) == (413, "too-large")


@pytest.mark.parametrize("host", [b"evil.example", b"127.0.0.1.evil.example", b"evil.example:8470"])
def test_a_page_that_has_its_name_lead_here_gets_nothing(stranger: Stranger, host: bytes) -> None:
    stranger.say(b"GET / HTTP/1.1\r\nHost: " + host + b"\r\nConnection: close\r\n\r\n")
    assert problem_of(stranger.rest()) == (421, "misdirected-request")


def test_an_upgrade_is_passed_over(stranger: Stranger) -> None:
    upgrade = b"Connection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: eA==\r\nSec-WebSocket-Version: 13\r\n"
    stranger.say(b"GET / HTTP/1.0\r\n" + HOST + upgrade + b"\r\n")
    assert status_of(stranger.rest()) == 200
