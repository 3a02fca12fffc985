"""F1, F9, F3, F5 of others: open-kknaks, plain Celery and procrastinate, each as its own documentation has it.

Celery (three processes) and procrastinate (three at once) run a task that INSERTs each line that its child prints;
open-kknaks puts each into a Redis stream, where its own client reads it, and has a stand-in for the claude CLI that
runs the same children. Jobs come at random moments, so that whoever looks for them now and then is met at any of these.
"""

from __future__ import annotations

import random
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import Any, Final

import psutil
import psycopg
import redis

from benchmarks.figures import dispatching, lines
from benchmarks.gate import held
from benchmarks.measuring import Contestant, Reading, Role
from benchmarks.peer import CELERY, KKNAKS, PROCRASTINATE, Peer, are_there, at_work
from benchmarks.rig import SLOTS, Rig, cpu_s
from tests.waiting import until

#: Of the lines that were written: what a reader gets who is there from the beginning, and one who comes after the end.
READ: Final = "lines read meanwhile, %"
KEPT: Final = "lines kept, %"
PATIENCE_S: Final = 300
LINES: Final = 3_000
CHILDREN: Final = 8
JOBS: Final = 150


class Peers:
    """Their workers, which wait idle while others are measured."""

    def __init__(self, rig: Rig, peers: Sequence[Sink]) -> None:
        self._rig = rig
        self._peers = peers

    def contestants(self, quantities: set[str]) -> Sequence[Contestant]:
        """Those that have to do with one of these quantities."""
        if lines.RATE in quantities:
            return [Lines(peer, self._rig, LINES) for peer in self._peers]
        if dispatching.DISPATCH in quantities:
            return [Dispatching(peer, CHILDREN, JOBS) for peer in self._peers]
        return []


@contextmanager
def peers(rig: Rig) -> Iterator[Peers]:
    """All three, for the length of the block, once each has run something; nobody where they are not installed."""
    if not are_there():
        print("no peers: `scripts/bootstrap bench` installs them", file=sys.stderr)
    with ExitStack() as ending:
        sinks: list[Sink] = []
        for place, kind in enumerate((CELERY, PROCRASTINATE, KKNAKS) if are_there() else (), start=1):
            peer = ending.enter_context(at_work(kind, rig, place))
            sinks.append(Stream(peer) if kind is KKNAKS else Rows(peer))
            ending.callback(sinks[-1].close)
            sinks[-1].last_end(peer.submit(["true"])[1])
        yield Peers(rig, sinks)


class Rows:
    """Where a peer's task puts lines into Postgres."""

    #: Prints when it began.
    now: Sequence[str] = dispatching.NOW

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self._connection = psycopg.connect(peer.database_url, autocommit=True)

    def follow(self, *commands: Sequence[str]) -> list[str]:
        return self.peer.submit(*commands)[1]

    def seen(self, ids: list[str]) -> list[int]:
        query = "SELECT (SELECT max(seq) FROM lines WHERE job = id) FROM unnest(%s::text[]) AS id"
        return [count or 0 for (count,) in self._connection.execute(query, (ids,))]

    def is_read(self, ids: list[str]) -> bool:
        """Whether nobody will read more: here, everybody can."""
        return not ids

    def kept(self, ids: list[str]) -> int:
        return int(self._one("SELECT count(*) FROM lines WHERE job = ANY(%s)", ids))

    def first_line(self, id_: str) -> str:
        until(lambda: self._one("SELECT count(*) FROM ended WHERE job = ANY(%s)", [id_]), timeout_s=PATIENCE_S)
        return str(self._one("SELECT data FROM lines WHERE job = ANY(%s)", [id_]))

    def last_end(self, ids: list[str]) -> float:
        def ended() -> bool:
            return bool(self._one("SELECT count(DISTINCT job) FROM ended WHERE job = ANY(%s)", ids) == len(ids))

        until(ended, timeout_s=PATIENCE_S, what="the end of jobs")
        return float(self._one("SELECT extract(epoch FROM max(at)) FROM ended WHERE job = ANY(%s)", ids))

    def forget(self) -> None:
        """Nobody pays for what another one has left."""
        self._connection.execute("TRUNCATE lines, ended")
        self._connection.execute("CHECKPOINT")

    def close(self) -> None:
        self._connection.close()

    def _one(self, query: str, ids: list[str]) -> Any:
        found = self._connection.execute(query, (ids,)).fetchone()
        assert found is not None
        return found[0]


class Stream:
    """Where open-kknaks puts lines into Redis; a line counts when its client has read it."""

    now: Sequence[str] = ("date", '+{"type":"result","result":"%s.%N"}')

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self._redis = redis.Redis.from_url(peer.redis_url)

    def follow(self, *commands: Sequence[str]) -> list[str]:
        return self.peer.submit(*commands, follow=True)[1]

    def seen(self, ids: list[str]) -> list[int]:
        return [int(count) for count in self.peer.ask(seen=ids)["seen"]]

    def is_read(self, ids: list[str]) -> bool:
        """Whether its readers have come to an end, with all lines or without."""
        return bool(self.peer.ask(read=ids)["read"])

    def kept(self, ids: list[str]) -> int:
        return sum(int(self._redis.xlen(f"peer:stream:{id_}")) for id_ in ids)

    def first_line(self, id_: str) -> str:
        return str(self.peer.ask(result=id_)["result"])

    def last_end(self, ids: list[str]) -> float:
        ends: list[float] = self.peer.ask(wait=ids)["ended_at"]
        assert len(ends) == len(ids), f"{len(ends)} of {len(ids)} ended"
        return max(ends)

    def forget(self) -> None:
        for key in self._redis.scan_iter("peer:stream:*"):
            self._redis.delete(key)

    def close(self) -> None:
        self._redis.close()


Sink = Rows | Stream


class Lines:
    """F1, F9: three children at once. What they use themselves is in the CPU: they end with their last line."""

    role = Role.PEER

    def __init__(self, sink: Sink, rig: Rig, number: int) -> None:
        self.name = sink.peer.kind.name
        self._sink = sink
        self._rig = rig
        self._folder = rig.folder
        self._valkey = redis.Redis.from_url(rig.servers.redis_url)
        self._lines = number

    def run(self) -> Reading:
        written = self._lines * SLOTS
        # Nobody holds the second file: a child ends with its last line.
        (self._folder / "stay").touch()
        with held(self._folder / "begin") as begin:
            ids = self._sink.follow(*[lines.command(begin, self._folder / "stay", self._lines)] * SLOTS)
            self._wait(lambda: self._sink.seen(ids) == [1] * SLOTS, "three children")
            before_s = self._cpu_s()
        began = time.perf_counter()
        self._wait(lambda: sum(self._sink.seen(ids)) == written or self._sink.is_read(ids), "all lines")
        took_s = time.perf_counter() - began
        read = sum(self._sink.seen(ids))
        self._sink.last_end(ids)
        spent_s = self._cpu_s() - before_s
        kept = self._sink.kept(ids)
        self._sink.forget()
        return {
            lines.RATE: read / took_s,
            lines.CPU: spent_s / written * 1e6,
            READ: 100 * read / written,
            KEPT: 100 * kept / written,
        }

    def _cpu_s(self) -> float:
        """Of the worker and the servers that it uses; not of who reads."""
        valkey = self._valkey.info("cpu")
        servers_s = cpu_s(self._rig.postgres) + valkey["used_cpu_user"] + valkey["used_cpu_sys"]
        while True:
            with suppress(psutil.NoSuchProcess):  # a child that ended while it was looked at
                return float(servers_s + sum(cpu_s(psutil.Process(worker.pid)) for worker in self._sink.peer.workers))

    def _wait(self, probe: Callable[[], bool], what: str) -> None:
        until(probe, timeout_s=PATIENCE_S, what=f"{what} of {self.name}")


class Dispatching:
    """F3 and F5."""

    role = Role.PEER

    def __init__(self, sink: Sink, children: int, jobs: int) -> None:
        self.name = sink.peer.kind.name
        self._sink = sink
        self._children = children
        self._jobs = jobs

    def run(self) -> Reading:
        late_ms = [self._dispatch_ms() for _ in range(self._children)]
        began, ids = self._sink.peer.submit(*[["true"]] * self._jobs)
        rate = self._jobs / (self._sink.last_end(ids) - began)
        self._sink.forget()
        return {dispatching.DISPATCH: statistics.median(late_ms), dispatching.RATE: rate}

    def _dispatch_ms(self) -> float:
        time.sleep(random.random())
        began, (id_,) = self._sink.peer.submit(self._sink.now)
        return (float(self._sink.first_line(id_)) - began) * 1000
