"""Followers that are cut at random, while workers and the API are killed: each is told what Postgres has, once.

`GSD_TEST_STREAMS_S` is for how many seconds there are attacks (default: 5); the sessions last as long, and from 30 s on
there are more followers.
"""

from __future__ import annotations

import http.client
import os
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from gsd_tasks.domain.session import Session
from gsd_tasks.domain.tokens import Scope
from gsd_tasks.service import tokens
from gsd_tasks.settings import Settings
from gsd_tasks.store import Database, history, outputs
from gsd_tasks.wire.plain import plain
from tests.cluster import Cluster
from tests.http.events import Told, read_events
from tests.http.serving import Api, Stream, process_env
from tests.waiting import BOUND_S, until

ATTACKS_S = float(os.environ.get("GSD_TEST_STREAMS_S", "5"))
SESSIONS = 3
FOLLOWERS_OF_EACH = 3 if ATTACKS_S < 30 else 10
#: How long a follower has from the last attack on.
CATCH_UP_S = 2 * BOUND_S
TRIES = 4
WORKER = {"GSD_LEASE_S": "4", "GSD_HEARTBEAT_S": "1", "GSD_RETRY_BASE_S": "0.2"}
#: How long a worker stays away: whoever comes at once adopts; after a while what it held is run again.
RESTS_S = (0, 1) if ATTACKS_S < 30 else (0, 0, 1, 12)
CHILD = """
import random, sys, time
ends, number = time.monotonic() + float(sys.argv[1]), 0
while time.monotonic() < ends:
    for _ in range(5):
        number += 1
        print(f"line {number} ".ljust(number % 300, "x"), file=sys.stderr if number % 7 == 0 else sys.stdout)
    sys.stdout.flush()
    time.sleep(0.01)
sys.exit(random.choice([0, 1, 1]))
"""


class Follower:
    """Follows a path in a thread, comes again wherever it was cut, and cuts itself off now and then."""

    def __init__(self, port: int, path: str, token: str, *, seed: int) -> None:
        self.told: list[Told] = []
        self.visits = self.cuts = 0
        self.has_ended = False
        self.stop = threading.Event()
        self._where = port, path, token
        self._chance = random.Random(seed)
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()

    def join(self) -> list[Told]:
        self._thread.join()
        return self.told

    def _follow(self) -> None:
        while not self.stop.is_set() and not self.has_ended:
            try:
                self._visit()
            except (OSError, http.client.HTTPException):
                time.sleep(0.05)

    def _visit(self) -> None:
        stream = Stream(*self._where, self.told[-1].id if self.told else None)
        self.visits += 1
        seen, cut_at = 0, time.monotonic() + self._chance.expovariate(1)
        try:
            if stream.status == 503:
                return
            assert stream.status in (200, 204), (stream.status, stream.answer.read())
            self.has_ended = stream.status == 204
            # A timeout cuts it off too, in the middle of whatever it waits for.
            stream.bound(0.5)
            while stream.read():
                seen = self._take(stream.body, seen)
                if time.monotonic() > cut_at:
                    self.cuts += 1
                    stream.cut()
                    return
        finally:
            stream.close()

    def _take(self, body: bytes, seen: int) -> int:
        """The whole events after the first `seen` bytes; how far they reach."""
        end = body.rfind(b"\n\n") + 2
        if end < 2:
            return seen
        self.told += read_events(body[seen:end])
        return end


@pytest.fixture
def api(settings: Settings) -> Iterator[Api]:
    api = Api(process_env(settings))
    api.start()
    yield api
    api.close()


@contextmanager
def _workers(cluster: Cluster, chance: random.Random) -> Iterator[Callable[[], None]]:
    """Two of them, and a function that kills one and starts it again after a while."""
    cluster.maintenance(env=WORKER)
    processes = {name: cluster.start_worker(name, env=WORKER) for name in ("one", "two")}

    def attack() -> None:
        name = chance.choice(list(processes))
        processes[name].kill()
        processes[name].wait()
        time.sleep(chance.choice(RESTS_S))
        processes[name] = cluster.start_worker(name, env=WORKER)

    yield attack


@pytest.mark.timeout(600 + 3 * ATTACKS_S)
def test_streams_that_are_cut_are_told_exactly_what_postgres_has(
    cluster: Cluster, database: Database, api: Api, tmp_path: Path
) -> None:
    chance = random.Random(5)
    token = str(tokens.create(database, "reader", {Scope.READ}, None)[1])
    with _workers(cluster, chance) as attack_worker:
        command = (sys.executable, "-c", CHILD, str(ATTACKS_S / TRIES))
        often = {"on_lost": "requeue", "max_recoveries": 100, "max_tries": TRIES}
        sessions = [
            cluster.client.enqueue(command=command, working_dir=tmp_path, **often)  # type: ignore[arg-type]
            for _ in range(SESSIONS)
        ]
        paths = [f"/v1/sessions/{session.id}/events" for session in sessions for _ in range(FOLLOWERS_OF_EACH)]
        followers = [Follower(api.port, path, token, seed=number) for number, path in enumerate(paths)]
        of_all = Follower(api.port, "/v1/events?after=0.0.0", token, seed=99)
        until(lambda: any(cluster.client.get(session.id).seq for session in sessions), timeout_s=BOUND_S, what="output")
        attacks: dict[str, Callable[[], object]] = {
            "worker kills": attack_worker,
            "API kills": partial(_kill, api),
            "API stops": partial(_stop, api),
        }
        made, ends = Counter[str](), time.monotonic() + ATTACKS_S
        # On a busy machine one attack takes as long as several.
        while time.monotonic() < ends or made.total() < 2:
            time.sleep(chance.uniform(0.2, 1.5))
            kind = chance.choice(list(attacks))
            attacks[kind]()
            made[kind] += 1
        until(lambda: all(follower.has_ended for follower in followers), timeout_s=CATCH_UP_S + ATTACKS_S)
        all_entries = [plain(entry) for session in sessions for entry in _history(database, session)]
        until(lambda: len(of_all.told) >= len(all_entries), timeout_s=CATCH_UP_S)
        of_all.stop.set()

    for place, follower in enumerate(followers):
        _check(database, sessions[place // FOLLOWERS_OF_EACH], follower.join())
    told = [event.data for event in of_all.join() if event.name != "recovery:complete"]
    assert sorted(told, key=lambda entry: entry["id"]) == sorted(all_entries, key=lambda entry: entry["id"])
    for session in sessions:
        ids = [entry["id"] for entry in told if entry["session_id"] == str(session.id)]
        assert ids == sorted(ids)
    visits, cuts = (sum(counts) for counts in zip(*((each.visits, each.cuts) for each in followers), strict=True))
    rows = sum(cluster.client.get(session.id).seq for session in sessions)
    said = f"{dict(made)}; {len(followers)} followers, {visits} visits, of which they cut {cuts} themselves"
    print(f"{said}; {rows} rows, {len(all_entries)} entries")  # noqa: T201  (for whoever runs it at length)
    assert made.total() > 1
    assert visits > 2 * len(followers)


def _kill(api: Api) -> None:
    assert api.process is not None
    api.process.kill()
    api.process.wait()
    api.start()


def _stop(api: Api) -> None:
    assert api.process is not None
    api.process.terminate()
    assert api.process.wait(BOUND_S) in (0, -15)
    api.start()


def _check(database: Database, session: Session, told: list[Told]) -> None:
    """The rows and the history of Postgres, each once and in order, and each attempt's rows within it."""
    with database.connection() as connection:
        rows = [plain(row) for row in outputs.read(connection, session.id, limit=1_000_000, largest_bytes=2**40)]
    entries = [plain(entry) for entry in _history(database, session)]
    events = [event for event in told if event.name != "end"]
    assert [event.data for event in events if event.name == "session:output"] == rows
    assert [event.data for event in events if event.name != "session:output"] == entries
    attempt, is_running = 0, False
    for event in events:
        if event.name == "session:output":
            assert is_running
            assert event.data["attempt"] == attempt
        else:
            attempt, is_running = event.data["attempt"], event.data["to_status"] == "running"
    # Where the follower was cut in the very end, the next visit found nothing left.
    assert told[-1].name in {"end", "session:completed", "session:failed"}


def _history(database: Database, session: Session) -> list[Any]:
    with database.connection() as connection:
        return history.of_session(connection, session.id)
