"""What `kill -9` of a worker costs: ours and the peers', all at once, each with a worker and servers' place of its own.

A job writes a line every tenth of a second, and has a silent tool that runs beside it. Once it has written some, the
worker's main process is killed, as the kernel's out-of-memory killer would, and another worker is started at once, as a
supervisor would; it is given another job, too. What each does then is what its documentation offers, within `WATCH_S`.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol
from uuid import UUID

import psutil
import psycopg
import redis

from benchmarks.figures.lines import LENGTH
from benchmarks.peer import CELERY, KKNAKS, PROCRASTINATE, Peer, are_there
from benchmarks.rig import Rig
from tests.cluster import Cluster
from tests.waiting import until

if TYPE_CHECKING:
    from pathlib import Path

KEY: Final = "killed"
LINES: Final = 300
EVERY_S: Final = 0.1
#: After so many lines, the worker is killed.
BEFORE: Final = 30
#: What the other job writes, which the next worker is given at once; at another pace, so that it is still there then.
NEXT_LINES: Final = 260
NEXT_EVERY_S: Final = 0.5
WATCH_S: Final = 180
LOOK_S: Final = 0.25
#: An hour by default. A job that takes longer than this is given to another worker while it runs.
VISIBILITY_S: Final = 60
CHILD: Final = """
import json, subprocess, sys, time
runs, lines, every_s, length = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4])
silent = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
tool = subprocess.Popen(["tail", "-f", runs], **silent)
with open(runs, "a") as file:
    print(time.time(), file=file)
for number in range(1, lines + 1):
    text = str(number).ljust(length - 67)
    print(json.dumps({"type": "assistant", "message": {"content": [{"type": "text", "text": text}]}}), flush=True)
    time.sleep(every_s)
tool.kill()
tool.wait()
"""


class Row(NamedTuple):
    """A line that is stored, and when it was."""

    number: int
    at: float


class Outcome(NamedTuple):
    """What came of one job."""

    who: str
    #: How long the killed worker's child and its tool went on, in seconds; None: they were there to the end.
    child_s: float | None
    tool_s: float | None
    #: From the kill to the next line that is stored; None: there was none.
    goes_on_s: float | None
    #: How often the job was begun, and how many of these ran at the same moment.
    runs: int
    at_once: int
    #: Of all lines: those that are not stored at the end, and those that are there more than once.
    missing: int
    repeated: int
    #: What it says of the job itself.
    state: str
    #: `runs` and `at_once` of the job that the next worker was given meanwhile.
    next_runs: int
    next_at_once: int


class Case(Protocol):
    """Somebody whose worker is killed."""

    name: str

    def worker(self) -> subprocess.Popen[bytes]:
        """One more."""

    def begin(self, command: Sequence[str]) -> str:
        """The id of a job."""

    def rows(self, job: str) -> list[Row]:
        """What is stored of it."""

    def state(self, job: str) -> str:
        """What the system itself says of it."""

    def stop(self) -> None:
        """All that was started for this."""


@dataclass(slots=True)
class Job:
    """A job, and what was seen of its processes."""

    #: Each run of it writes a line there, and names it in its arguments.
    runs: Path
    lines: int
    every_s: float
    id: str = ""
    #: Those that the killed worker had.
    children: set[int] = field(default_factory=set)
    tools: set[int] = field(default_factory=set)
    seen_at: dict[int, float] = field(default_factory=dict)
    at_once: int = 0

    @property
    def command(self) -> list[str]:
        return [sys.executable, "-c", CHILD, str(self.runs), str(self.lines), str(self.every_s), str(LENGTH)]

    @property
    def begun(self) -> int:
        return len(self.runs.read_text().split())


@dataclass(slots=True)
class Watched:
    """A case with its two jobs."""

    case: Case
    job: Job
    next: Job
    killed_at: float = 0.0


def outcomes(rig: Rig) -> list[Outcome]:
    """Of ours and, if they are installed, of all peers."""
    with _cases(rig) as cases:
        watched = [
            Watched(
                case,
                Job(_file(rig, f"runs-{number}"), LINES, EVERY_S),
                Job(_file(rig, f"next-{number}"), NEXT_LINES, NEXT_EVERY_S),
            )
            for number, case in enumerate(cases)
        ]
        with _looking(watched):
            for one in watched:
                _kill_worker(one)
            give_up_at = time.monotonic() + WATCH_S
            while time.monotonic() < give_up_at and not all(_is_complete(one) for one in watched):
                time.sleep(1)
        ended_at = time.time()
        found = [_outcome(one, ended_at) for one in watched]
        _end(watched)
    return found


def _kill_worker(one: Watched) -> None:
    first = one.case.worker()
    one.job.id = one.case.begin(one.job.command)
    until(lambda: len(one.case.rows(one.job.id)) >= BEFORE, timeout_s=60, what=f"lines of {one.case.name}")
    one.job.children, one.job.tools = _processes().get(str(one.job.runs), (set(), set()))
    first.send_signal(signal.SIGKILL)
    one.killed_at = time.time()
    first.wait()
    one.case.worker()
    one.next.id = one.case.begin(one.next.command)


class OfRows:
    """Celery or procrastinate."""

    def __init__(self, peer: Peer, name: str) -> None:
        self.name = name
        self.peer = peer
        self._connection = psycopg.connect(peer.database_url, autocommit=True)

    def worker(self) -> subprocess.Popen[bytes]:
        return self.peer.start_worker()

    def begin(self, command: Sequence[str]) -> str:
        _, (id_,) = self.peer.submit(command)
        return id_

    def rows(self, job: str) -> list[Row]:
        return _rows(self._connection, "SELECT data, {at} FROM lines WHERE job = %s", job)

    def state(self, job: str) -> str:
        if self.peer.kind is PROCRASTINATE:
            found = self._connection.execute(
                "SELECT status::text FROM procrastinate_jobs WHERE args->>'job' = %s", (job,)
            )
            return ", ".join(status for (status,) in found)
        found = self._connection.execute("SELECT code FROM ended WHERE job = %s", (job,))
        return "ended" if found.fetchone() else "nothing"

    def stop(self) -> None:
        self._connection.close()
        self.peer.stop()


class OfStream:
    """open-kknaks."""

    name = "open-kknaks"

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self._redis = redis.Redis.from_url(peer.redis_url, decode_responses=True)

    def worker(self) -> subprocess.Popen[bytes]:
        return self.peer.start_worker()

    def begin(self, command: Sequence[str]) -> str:
        _, (id_,) = self.peer.submit(command)
        return id_

    def rows(self, job: str) -> list[Row]:
        entries: Any = self._redis.xrange(f"peer:stream:{job}")
        return [Row(int(json.loads(its["data"])["text"]), int(id_.partition("-")[0]) / 1000) for id_, its in entries]

    def state(self, job: str) -> str:
        return str(json.loads(self._redis.hget(f"peer:task:{job}", "data") or "{}").get("status"))

    def stop(self) -> None:
        self._redis.close()
        self.peer.stop()


class Ours:
    """A worker of another cluster on the same servers, with a queue and a host's state of its own."""

    name = "gsd-tasks"
    QUEUE: Final = "killed"

    def __init__(self, rig: Rig) -> None:
        self._folder = rig.folder / "killed"
        self._folder.mkdir()
        self._cluster = Cluster(rig.servers.database_url, rig.servers.redis_url, self._folder)
        self._connection = psycopg.connect(rig.servers.database_url, autocommit=True)

    def worker(self) -> subprocess.Popen[bytes]:
        return self._cluster.start_worker("killed", "-Q", self.QUEUE)

    def begin(self, command: Sequence[str]) -> str:
        return str(self._cluster.client.enqueue(command=command, working_dir=self._folder, queue=self.QUEUE).id)

    def rows(self, job: str) -> list[Row]:
        return _rows(self._connection, "SELECT data, {at} FROM session_outputs WHERE session_id = %s", job)

    def state(self, job: str) -> str:
        return str(self._cluster.client.get(UUID(job)).status)

    def stop(self) -> None:
        self._connection.close()
        self._cluster.__exit__(None, None, None)


@contextmanager
def _cases(rig: Rig) -> Iterator[list[Case]]:
    late = replace(CELERY, env={"BENCH_LATE_ACKS": str(VISIBILITY_S)})
    with ExitStack() as ending:
        cases: list[Case] = [Ours(rig)]
        ending.callback(cases[0].stop)
        if are_there():
            for place, (kind, name) in enumerate(
                ((CELERY, "Celery"), (late, f"Celery, late acks, {VISIBILITY_S} s"), (PROCRASTINATE, "procrastinate")),
                start=4,
            ):
                cases.append(OfRows(Peer(kind, rig, place), name))
                ending.callback(cases[-1].stop)
            cases.append(OfStream(Peer(KKNAKS, rig, 7)))
            ending.callback(cases[-1].stop)
        yield cases


def _rows(connection: psycopg.Connection[Any], query: str, of: object) -> list[Row]:
    at = "extract(epoch FROM pg_xact_commit_timestamp(xmin))"
    found = connection.execute(query.format(at=at), (of,))
    return [Row(int(json.loads(data)["message"]["content"][0]["text"]), float(at)) for data, at in found]


@contextmanager
def _looking(watched: Sequence[Watched]) -> Iterator[None]:
    """For the length of the block, every `LOOK_S`."""
    jobs = [job for one in watched for job in (one.job, one.next)]
    over = threading.Event()

    def look() -> None:
        while not over.wait(LOOK_S):
            there, now = _processes(), time.time()
            for job in jobs:
                children, tools = there.get(str(job.runs), (set(), set()))
                job.at_once = max(job.at_once, len(children))
                job.seen_at |= dict.fromkeys(children | tools, now)

    looker = threading.Thread(target=look, name="looker")
    looker.start()
    try:
        yield
    finally:
        over.set()
        looker.join()


def _processes() -> dict[str, tuple[set[int], set[int]]]:
    """Those of each job that are there: children, and tools."""
    there: dict[str, tuple[set[int], set[int]]] = {}
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            match process.cmdline():
                case [_, "-c", code, path, *_] if code == CHILD:
                    there.setdefault(path, (set(), set()))[0].add(process.pid)
                case ["tail", "-f", path]:
                    there.setdefault(path, (set(), set()))[1].add(process.pid)
                case _:
                    pass
    return there


def _is_complete(one: Watched) -> bool:
    """Whether nothing is left to happen."""
    there = _processes()
    return (
        {row.number for row in one.case.rows(one.job.id)} == set(range(1, one.job.lines + 1))
        and one.next.begun > 0
        and not {str(one.job.runs), str(one.next.runs)} & there.keys()
    )


def _outcome(one: Watched, ended_at: float) -> Outcome:
    rows = one.case.rows(one.job.id)
    counts = Counter(row.number for row in rows)
    later = [row.at - one.killed_at for row in rows if row.at > one.killed_at]

    def lived_s(pids: set[int]) -> float | None:
        last = max((one.job.seen_at.get(pid, 0.0) for pid in pids), default=0.0)
        return None if last > ended_at - 8 * LOOK_S else max(0.0, last - one.killed_at)

    return Outcome(
        who=one.case.name,
        child_s=lived_s(one.job.children),
        tool_s=lived_s(one.job.tools),
        goes_on_s=min(later, default=None),
        runs=one.job.begun,
        at_once=one.job.at_once,
        missing=one.job.lines - len(counts),
        repeated=sum(count > 1 for count in counts.values()),
        state=one.case.state(one.job.id),
        next_runs=one.next.begun,
        next_at_once=one.next.at_once,
    )


def _end(watched: Sequence[Watched]) -> None:
    """What has been left, which is ours to end: it was started for this."""
    there = _processes()
    for one in watched:
        for job in (one.job, one.next):
            children, tools = there.get(str(job.runs), (set(), set()))
            for pid in children | tools:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


def _file(rig: Rig, name: str) -> Path:
    path = rig.folder / name
    path.touch()
    return path
