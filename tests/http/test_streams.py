"""The streams as a client sees them: what is told, where one goes on, and how they end."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import text

from gsd_tasks.domain.tokens import Scope
from gsd_tasks.http.live import lookout, tail
from gsd_tasks.http.live.pages import ROW_BYTES
from gsd_tasks.http.live.sse import HEARTBEAT, RETRY
from gsd_tasks.service import tokens
from gsd_tasks.service.bell import HISTORY, ring_once, session_channel
from gsd_tasks.settings import Settings
from gsd_tasks.store import Database
from tests.http.attempts import Attempt, enqueue
from tests.http.events import read_events, seqs
from tests.http.following import listened_at
from tests.http.serving import HOST, Api, Stream, process_env, served
from tests.waiting import BOUND_S, until

STREAMS = 3


@pytest.fixture
def token(database: Database) -> str:
    return str(tokens.create(database, "reader", {Scope.READ}, None)[1])


@pytest.fixture
def streaming(settings: Settings) -> Settings:
    """With few streams for a token."""
    return settings.model_copy(update={"api_streams": STREAMS})


@pytest.fixture
def api(settings: Settings) -> Iterator[Api]:
    api = Api(process_env(settings))
    yield api
    api.close()


def test_a_stream_tells_all_from_where_one_left_off_and_then_says_that_there_is_no_more(
    streaming: Settings, database: Database, token: str
) -> None:
    session_id = enqueue(database)
    attempt = Attempt(database, session_id)
    attempt.write(b"one", b"two\x7f\r", "\N{LINE SEPARATOR}".encode(), b"\xff\0")
    attempt.complete()
    path = f"/v1/sessions/{session_id}/events"
    with served(streaming) as server:
        whole = server.stream(path, token)
        assert whole.rest().startswith(RETRY)
        assert whole.status == 200
        headers = whole.answer.headers
        assert headers["Content-Type"].startswith("text/event-stream")
        assert (headers["Cache-Control"], headers["X-Accel-Buffering"]) == ("no-store", "no")
        told = read_events(whole.body)
        rows = [event.data for event in told if event.name == "session:output"]
        assert [row["data"] for row in rows] == ["one", "two\x7f\r", "\N{LINE SEPARATOR}", None]
        assert rows[3]["raw"] == "/wA="
        assert [event.name for event in told[-2:]] == ["session:completed", "end"]
        assert told[-1].data == {"status": "completed", "reason": "finished"}

        for number, event in enumerate(told[:-2]):
            rest = told[number + 1 :]
            assert read_events(server.stream(path, token, event.id).rest()) == rest
            assert read_events(server.stream(f"{path}?after={event.id}", token).rest()) == rest
        assert read_events(server.stream(f"{path}?after=0.0", token, told[-3].id).rest()) == told[-2:]
        nothing = server.stream(path, token, told[-1].id)
        assert (nothing.status, nothing.rest()) == (204, b"")
        short = server.stream(f"/v1/sessions/{str(session_id)[:-2]}/events?after={told[0].id}", token)
        assert read_events(short.rest()) == told[1:]

        assert _problem(server.stream(path, token, "rubbish")) == (422, "invalid-value")
        assert _problem(server.stream(path, token, "99.0")) == (422, "invalid-value")
        assert _problem(server.stream("/v1/events?after=9.9", token)) == (422, "invalid-value")
        assert _problem(server.stream(f"/v1/sessions/{'0' * 32}/events", token)) == (404, "no-such-session")
        assert _problem(server.stream(path, "gsd_0_0")) == (401, "unauthenticated")


def test_streams_of_a_token_are_bounded_and_those_of_one_that_is_revoked_or_expires_end(
    streaming: Settings, database: Database, token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lookout, "TOKENS_S", 0.5)
    monkeypatch.setattr(tail, "HEARTBEAT_S", 0.5)
    session_id = enqueue(database)
    path = f"/v1/sessions/{session_id}/events"
    other = str(tokens.create(database, "other", {Scope.READ}, None)[1])
    with served(streaming) as server:
        streams = [server.stream(path, token), *(server.stream("/v1/events", token) for _ in "ab")]
        assert _problem(server.stream(path, token)) == (429, "too-many")
        others = server.stream(path, other)
        streams.pop().cut()
        until(lambda: len(server.app.state.live.visits) == STREAMS)
        streams.append(server.stream(path, token))

        brief = str(tokens.create(database, "brief", {Scope.READ}, 3600)[1])
        expiring = server.stream(path, brief)
        with database.connection() as connection:
            connection.execute(text("UPDATE tokens SET expires_at = clock_timestamp() WHERE name = 'brief'"))
        tokens.revoke(database, "reader")
        for ending in (*streams, expiring):
            assert ending.rest().endswith(b": the token is no longer good\n\n")
        while HEARTBEAT not in others.body:
            assert others.read()
        Attempt(database, session_id).complete()
        events = read_events(others.rest())
        assert [event.name for event in events][-3:] == ["session:started", "session:completed", "end"]
        until(lambda: not len(server.app.state.live.visits))


def test_the_stream_of_all_begins_now_and_goes_on_from_a_cursor(
    settings: Settings, database: Database, redis_url: str, token: str
) -> None:
    enqueue(database)
    with served(settings) as server:
        first = server.stream("/v1/events", token)
        session_id = enqueue(database)
        attempt = Attempt(database, session_id)
        attempt.write(b"not told here")
        attempt.complete()
        ring_once(redis_url, (HISTORY, ""))
        while len(read_events(first.body)) < 3:
            assert first.read()
        told = read_events(first.body)
        assert [event.name for event in told] == ["session:enqueued", "session:started", "session:completed"]
        assert {event.data["session_id"] for event in told} == {str(session_id)}
        again = server.stream("/v1/events", token, told[0].id)
        while len(read_events(again.body)) < 2:
            assert again.read()
        assert [event.data for event in read_events(again.body)] == [event.data for event in told[1:]]
        first.close()
        again.close()


def test_a_follower_that_takes_nothing_costs_a_page_and_is_cut_and_goes_on_where_it_was(
    settings: Settings,
    database: Database,
    token: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    session_id = enqueue(database)
    attempt = Attempt(database, session_id)
    for _ in range(10):
        attempt.write(*(b"x" * 50_000 for _ in range(30)))
    attempt.complete()
    path = f"/v1/sessions/{session_id}/events"
    with served(settings) as server:
        with _slow(server.port, path, token) as slow:
            until(lambda: len(server.app.state.live.visits))
            (connection,) = server.uvicorn.server_state.connections
            until(lambda: connection.transport.get_write_buffer_size() > ROW_BYTES, what="a page that nobody takes")
            # The time is over that he has to take it in; until he is cut, nothing more is put before him.
            monkeypatch.setattr(lookout, "STALL_S", 1)
            while server.uvicorn.server_state.connections:
                assert connection.transport.get_write_buffer_size() < 2 * (ROW_BYTES + 50_000)
                time.sleep(0.02)
            # The server's loop first lets go of the connection, then goes on to the end of the stream.
            until(lambda: not len(server.app.state.live.visits))
            assert not caplog.records
            received = _until_cut(slow)
        assert not received.endswith(b"0\r\n\r\n")
        events = read_events(_dechunked(received))
        assert len(seqs(events)) < 300
        rest = read_events(server.stream(path, token, events[-1].id).rest())
        assert seqs(events + rest) == list(range(1, 301))


def test_stopping_the_api_ends_streams_and_waits_politely_and_a_follower_goes_on_at_the_next_one(
    api: Api, database: Database, redis_url: str, token: str
) -> None:
    session_id = enqueue(database)
    attempt = Attempt(database, session_id)
    for _ in range(6):
        attempt.write(*(b"x" * 2000 for _ in range(500)))
    path = f"/v1/sessions/{session_id}/events"
    process = api.start()
    with _slow(api.port, path, token), ThreadPoolExecutor(1) as pool:
        followers = [api.stream(path, token), api.stream("/v1/events", token)]
        while seqs(read_events(followers[0].body)[-1:]) != [3000]:
            assert followers[0].read()
        waited_for = enqueue(database)
        Attempt(database, waited_for)
        waiting = pool.submit(api.stream, f"/v1/sessions/{waited_for}?wait_s=60", token)
        asyncio.run(listened_at(redis_url, session_channel(waited_for)))
        process.terminate()
        for follower in followers:
            assert follower.rest().endswith(b": the API stops: go on at the next one\n\n")
        # Nobody waited for the one who takes nothing, to whom it goes on saying goodbye.
        assert process.poll() is None
        answer = waiting.result()
        assert (answer.status, json.loads(answer.rest())["status"]) == (200, "running")
        process.wait(BOUND_S)

    api.start()
    told = read_events(followers[0].body)
    going_on = api.stream(path, token, told[-1].id)
    attempt.write(b"more")
    attempt.complete()
    ring_once(redis_url, (session_channel(session_id), ""))
    events = told + read_events(going_on.rest())
    assert seqs(events) == list(range(1, 3002))
    assert events[-1].name == "end"


def _problem(stream: Stream) -> tuple[int, str]:
    body = json.loads(stream.rest())
    assert stream.answer.headers["Content-Type"] == "application/problem+json"
    return stream.status, body["type"].rpartition(":")[2]


def _slow(port: int, path: str, token: str) -> socket.socket:
    """A reader that has asked, and takes nothing."""
    slow = socket.socket()
    slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    slow.connect((HOST, port))
    slow.sendall(f"GET {path} HTTP/1.1\r\nHost: {HOST}\r\nAuthorization: Bearer {token}\r\n\r\n".encode())
    return slow


def _until_cut(connection: socket.socket) -> bytes:
    """What still comes."""
    received = b""
    try:
        while more := connection.recv(1 << 20):
            received += more
    except ConnectionResetError:
        pass
    return received


def _dechunked(answer: bytes) -> bytes:
    """The body, as far as it came."""
    body, rest = b"", answer.partition(b"\r\n\r\n")[2]
    while b"\r\n" in rest:
        size, _, rest = rest.partition(b"\r\n")
        length = int(size, 16)
        body += rest[:length]
        rest = rest[length + 2 :]
    return body
