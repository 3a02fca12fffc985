"""idle: what a cluster does that has nothing to do, with its usual settings.

Worker (its nursery included), maintenance, beat, API and Flower run beside a Postgres and a Valkey. A wake-up is a time
that a thread of theirs had slept and was given a processor again (`voluntary_ctxt_switches`); every statement is a
commit, and what a command of Valkey is says its own counter.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

import psutil
import psycopg
import redis

from benchmarks.measuring import Contestant, Figure, Reading, Role, told
from benchmarks.rig import Rig, rig
from gsd_tasks.local.ports import choose_port
from tests.waiting import until

if TYPE_CHECKING:
    from gsd_tasks.local.embedded import EmbeddedServers

PARTS: Final = ("worker", "maintenance", "beat", "API", "Flower", "Postgres", "Valkey")
WAKEUPS: Final = "{}, wake-ups a second"
CPU: Final = "{}, CPU a minute"
STATEMENTS: Final = "statements of Postgres"
COMMANDS: Final = "commands of Valkey"
FIGURES: Final = (
    *(Figure("idle", what, what, "/s", told("/s")) for what in map(WAKEUPS.format, PARTS)),
    *(Figure("idle", what, what, "ms", told("ms")) for what in map(CPU.format, PARTS)),
    *(Figure("idle", what, what, "/s", told("/s")) for what in (STATEMENTS, COMMANDS)),
)
#: What is done only once after a start is over.
SETTLED_S: Final = 15
MINUTE_MS: Final = 60 / 1e6


def contestants(seconds: int) -> Sequence[Contestant]:
    """Ours alone, for so long."""
    return (Ours(seconds),)


class Ours:
    """One process of each part."""

    name = "gsd-tasks"
    role = Role.OURS

    def __init__(self, seconds: int) -> None:
        self._seconds = seconds

    def run(self) -> Reading:
        with rig() as own, own.api() as api:
            port = choose_port(None)
            flower = psutil.Process(own.cluster.part("flower", env={"GSD_FLOWER_PORT": str(port)}).pid)
            until(lambda: _listens(flower, port), timeout_s=60, what="Flower")
            parts = dict(_parts(own)) | {"API": api.process, "Flower": flower}
            time.sleep(min(SETTLED_S, self._seconds))
            return self._reading(parts, own.servers)

    def _reading(self, parts: Mapping[str, psutil.Process], servers: EmbeddedServers) -> Reading:
        with (
            psycopg.connect(servers.database_url, autocommit=True) as database,
            redis.Redis.from_url(servers.redis_url) as broker,
        ):
            before, began = _counted(parts, database, broker), time.monotonic()
            time.sleep(self._seconds)
            after, took_s = _counted(parts, database, broker), time.monotonic() - began
        return {what: (now - before[what]) / took_s for what, now in after.items()}


def _parts(own: Rig) -> Iterator[tuple[str, psutil.Process]]:
    """Those that a rig has anyway."""
    yield "worker", own.worker
    yield "Postgres", own.postgres
    marks = {
        "maint@%h": "maintenance",
        str(own.folder / "schedule"): "beat",
        str(own.servers.valkey.folder / "valkey.conf"): "Valkey",
    }
    # The newest first: of two maintenance processes, that of this rig.
    for process in sorted(psutil.Process().children(recursive=True), key=psutil.Process.create_time, reverse=True):
        for word in marks.keys() & set(process.cmdline()):
            yield marks.pop(word), process


def _counted(
    parts: Mapping[str, psutil.Process], database: psycopg.Connection, broker: redis.Redis
) -> Mapping[str, float]:
    """By the quantities of the figures, since ever."""
    found = database.execute("SELECT sum(xact_commit) FROM pg_stat_database").fetchone()
    assert found is not None
    counted = {STATEMENTS: float(found[0]), COMMANDS: float(broker.info("stats")["total_commands_processed"])}
    for what, process in parts.items():
        counted[WAKEUPS.format(what)] = counted[CPU.format(what)] = 0.0
        for task in _tasks(process):
            # One that has ended meanwhile has hardly done anything.
            with suppress(OSError):
                status, spent = (task / "status").read_text(), (task / "schedstat").read_text()
                counted[WAKEUPS.format(what)] += int(status.rpartition("\nvoluntary_ctxt_switches:")[2].split()[0])
                counted[CPU.format(what)] += int(spent.split()[0]) * MINUTE_MS
    return counted


def _tasks(process: psutil.Process) -> Iterator[Path]:
    """All threads of a process and of all below it."""
    for one in (process, *process.children(recursive=True)):
        yield from Path(f"/proc/{one.pid}/task").glob("*")


def _listens(process: psutil.Process, port: int) -> bool:
    return any(one.laddr.port == port for one in process.net_connections("tcp"))
