"""What streams may cost: a long session is caught up with page by page, and nobody who is gone is kept."""

from __future__ import annotations

import itertools
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest

from gsd_tasks.domain.tokens import Scope
from gsd_tasks.http.live import lookout, tail
from gsd_tasks.http.live.tails import CACHE_BYTES
from gsd_tasks.service import tokens
from gsd_tasks.service.bell import ring_once, session_channel
from gsd_tasks.settings import Settings
from gsd_tasks.store import Database
from tests.chaos import netns
from tests.chaos.netns import Cable, Cut
from tests.http.attempts import Attempt, enqueue
from tests.http.events import read_events, seqs
from tests.http.serving import Api, process_env, served
from tests.waiting import BOUND_S, until

MIB = 1024 * 1024
ROWS = 24_000
BATCH = 2_000
LINE = b"x" * 4_500
#: Where the other one begins.
FAR = ROWS * 4 // 5
#: Each control character takes six letters of JSON.
LARGEST = b"\1" * MIB
FOLLOW = """
import socket, sys, time
connection = socket.create_connection((sys.argv[1], int(sys.argv[2])))
connection.sendall(sys.argv[3].encode())
while connection.recv(65536):
    pass
"""


@pytest.fixture
def token(database: Database) -> str:
    return str(tokens.create(database, "reader", {Scope.READ}, None)[1])


@pytest.fixture
def api(settings: Settings) -> Iterator[Api]:
    api = Api(process_env(settings))
    api.start()
    yield api
    api.close()


@pytest.mark.timeout(600)
def test_a_long_session_is_caught_up_with_in_bounded_memory_while_others_are_told_as_ever(
    api: Api, database: Database, redis_url: str, token: str
) -> None:
    long_id, other_id = enqueue(database), enqueue(database)
    long, other = Attempt(database, long_id), Attempt(database, other_id)
    long.write(LARGEST)
    for _ in range(ROWS // BATCH):
        long.write(*itertools.repeat(LINE, BATCH))
    long.complete()
    assert api.process is not None
    process = psutil.Process(api.process.pid)
    beside = api.stream(f"/v1/sessions/{other_id}/events", token)
    before = process.memory_info().rss

    with ThreadPoolExecutor(2) as pool:
        path = f"/v1/sessions/{long_id}/events"
        # From different places: what one has read is of no use to the other.
        catching_up = [pool.submit(api.stream(f"{path}{after}", token).rest) for after in ("", f"?after={FAR}.0")]
        most_rss, delays_s, number, began = 0, [], 0, time.monotonic()
        while not all(each.done() for each in catching_up):
            number += 1
            begun, beside.body = time.monotonic(), b""
            other.write(b"line")
            ring_once(redis_url, (session_channel(other_id), ""))
            while seqs(read_events(beside.body))[-1:] != [number]:
                assert beside.read()
            delays_s.append(time.monotonic() - begun)
            most_rss = max(most_rss, process.memory_info().rss)
        took_s = time.monotonic() - began
        whole, the_rest = (each.result() for each in catching_up)
    told = read_events(whole)
    assert seqs(told) == list(range(1, ROWS + 2))
    assert next(event.data["data"] for event in told if event.name == "session:output").encode() == LARGEST
    assert seqs(read_events(the_rest)) == list(range(FAR + 1, ROWS + 2))
    assert len(whole) > 3 * CACHE_BYTES
    assert most_rss - before < 2.5 * CACHE_BYTES
    assert number > 10
    assert max(delays_s) < took_s / 2


def test_a_follower_that_is_gone_without_a_word_is_noticed(
    settings: Settings, database: Database, token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a laptop that is shut: nothing of it comes any more, and what it is sent is lost."""
    if (reason := netns.why_not()) is not None:
        pytest.skip(f"no network namespaces: {reason}")
    monkeypatch.setattr(lookout, "STALL_S", 1)
    monkeypatch.setattr(tail, "HEARTBEAT_S", 0.2)
    path = f"/v1/sessions/{enqueue(database)}/events"
    with ThreadPoolExecutor(1) as network:
        # One thread is in it, and a socket stays in the network that it was made in.
        network.submit(netns.enter).result()
        cable = network.submit(Cable, 1).result()
        listener = network.submit(socket.create_server, (cable.address, 0)).result()
        with served(settings, listener) as server:
            request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\r\n"
            command = cable.at_far_end(sys.executable, "-c", FOLLOW, cable.address, str(server.port), request)
            follower = network.submit(subprocess.Popen, command).result()
            try:
                visits = server.app.state.live.visits
                until(lambda: len(visits), what="the follower")
                # More than he may be silent for: he takes what he is sent, and stays.
                time.sleep(2)
                assert len(visits)
                network.submit(cable.cut, Cut.DOWN).result()
                until(lambda: not len(visits), timeout_s=BOUND_S, what="its end")
            finally:
                follower.kill()
                follower.wait()
        cable.close()


def test_a_follower_who_sends_what_nobody_reads_is_not_followed_for_ever(
    settings: Settings, database: Database, token: str
) -> None:
    """Nothing would say any more that he is gone, and his stream would count for his token until the API stops."""
    path = f"/v1/sessions/{enqueue(database)}/events"
    head = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n"
    with served(settings.model_copy(update={"api_largest_body": 1024})) as server:
        visits = server.app.state.live.visits
        with socket.create_connection(("127.0.0.1", server.port), 10) as follower:
            follower.sendall(head.encode() + b"Transfer-Encoding: chunked\r\n\r\n")
            until(lambda: len(visits), what="the follower")
            follower.sendall(b"800\r\n" + b"x" * 2048)
            heard = b""
            while not heard.endswith(b"0\r\n\r\n"):
                heard += follower.recv(65536)
            assert b"too large" in heard
        until(lambda: not len(visits), what="its end")
