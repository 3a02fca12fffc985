"""F2: from a line that is written to the row that is committed, and to the follower that sees it.

Three children at once write a thousand lines a second each, and each line says when. When a row was committed is what
Postgres noted of its transaction (`track_commit_timestamp`); each session has one follower over the API.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final

import psycopg

from benchmarks.measuring import Contestant, Figure, Reading, Role, at_most
from benchmarks.rig import SLOTS

if TYPE_CHECKING:
    from uuid import UUID

    from benchmarks.rig import Rig
    from gsd_tasks import Client

RATE: Final = 1000
COMMITTED: Final = ("committed, p50", "committed, p99")
SEEN: Final = ("seen, p50", "seen, p99")
FIGURES: Final = tuple(
    Figure("F2", f"line written to {what}", what, "ms", at_most(most, "ms"))
    for names, bounds in ((COMMITTED, (25, 100)), (SEEN, (25, 100)))
    for what, most in zip(names, bounds, strict=True)
)
CHILD: Final = """
import sys, time
rate, lines = int(sys.argv[1]), int(sys.argv[2])
begin = time.monotonic() + 2
for number in range(lines):
    time.sleep(max(0.0, begin + number / rate - time.monotonic()))
    print(f"{time.time():.6f} ".ljust(199, "x"), flush=True)
"""


def contestants(rig: Rig, lines: int) -> Sequence[Contestant]:
    """Ours alone, with so many lines of each child."""
    return (Ours(rig, lines),)


class Ours:
    """Three sessions of one worker, and as many followers of one API process."""

    name = "gsd-tasks"
    role = Role.OURS

    def __init__(self, rig: Rig, lines: int) -> None:
        self._rig = rig
        self._lines = lines

    def run(self) -> Reading:
        command = (sys.executable, "-c", CHILD, str(RATE), str(self._lines))
        ids = [self._rig.client.enqueue(command=command, working_dir=self._rig.folder).id for _ in range(SLOTS)]
        with self._rig.api() as remote, ThreadPoolExecutor(SLOTS) as followers:
            seen = [late for its in followers.map(lambda id_: self._follow(remote, id_), ids) for late in its]
        committed = self._committed(ids)
        assert len(seen) == len(committed) == SLOTS * self._lines
        return {
            **dict(zip(COMMITTED, percentiles(committed), strict=True)),
            **dict(zip(SEEN, percentiles(seen), strict=True)),
        }

    def _follow(self, remote: Client, id_: UUID) -> list[float]:
        return [time.time() - float(row.body.split()[0]) for row in remote.follow(id_)]

    def _committed(self, ids: Sequence[UUID]) -> list[float]:
        query = """
            SELECT extract(epoch FROM pg_xact_commit_timestamp(xmin)), data
              FROM session_outputs WHERE session_id = ANY(%s)"""
        with psycopg.connect(self._rig.servers.database_url) as connection:
            return [float(at) - float(data.split()[0]) for at, data in connection.execute(query, (list(ids),))]


def percentiles(late_s: Sequence[float]) -> tuple[float, float]:
    """The 50th and the 99th, in milliseconds."""
    cuts = statistics.quantiles(late_s, n=100)
    return cuts[49] * 1000, cuts[98] * 1000
