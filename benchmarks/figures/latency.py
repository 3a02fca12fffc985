"""F2: from a line that is written to the row that is committed, and to the follower that sees it.

Three children at once write a thousand lines a second each, and each line says when. When a row was committed is what
Postgres noted of its transaction (`track_commit_timestamp`). Each session has one follower over the API, a process of
its own that does nothing meanwhile but note when what came (`stamped_stream.py`).
"""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import psycopg

from benchmarks.gate import held
from benchmarks.measuring import Contestant, Figure, Reading, Role, at_most
from benchmarks.rig import SLOTS

if TYPE_CHECKING:
    from uuid import UUID

    from benchmarks.rig import Rig

RATE: Final = 1000
FOLLOWER: Final = Path(__file__).parents[1] / "stamped_stream.py"
COMMITTED: Final = ("committed, p50", "committed, p99")
SEEN: Final = ("seen, p50", "seen, p99")
FIGURES: Final = tuple(
    Figure("F2", f"line written to {what}", what, "ms", at_most(most, "ms"))
    for names, bounds in ((COMMITTED, (25, 100)), (SEEN, (25, 100)))
    for what, most in zip(names, bounds, strict=True)
)
CHILD: Final = """
import fcntl, sys, time
rate, lines = int(sys.argv[1]), int(sys.argv[2])
fcntl.flock(open(sys.argv[3]), fcntl.LOCK_SH)
begin = time.monotonic() + 0.5
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
        with self._rig.api() as api:
            with held(self._rig.folder / "begin") as begin:
                command = (sys.executable, "-c", CHILD, str(RATE), str(self._lines), str(begin))
                ids = [self._rig.client.enqueue(command=command, working_dir=self._rig.folder).id for _ in range(SLOTS)]
                followers = [api.reader(FOLLOWER, f"/v1/sessions/{id_}/events") for id_ in ids]
                for follower in followers:
                    assert follower.readline() == "follows\n"
            seen = [late_ms for follower in followers for late_ms in json.loads(follower.readline())]
        committed = self._committed(ids)
        assert len(seen) == len(committed) == SLOTS * self._lines
        return {
            **dict(zip(COMMITTED, percentiles(committed), strict=True)),
            **dict(zip(SEEN, percentiles(seen), strict=True)),
        }

    def _committed(self, ids: Sequence[UUID]) -> list[float]:
        query = """
            SELECT extract(epoch FROM pg_xact_commit_timestamp(xmin)), data
              FROM session_outputs WHERE session_id = ANY(%s)"""
        with psycopg.connect(self._rig.servers.database_url) as connection:
            return [(float(at) - float(data.split()[0])) * 1000 for at, data in connection.execute(query, (list(ids),))]


def percentiles(late_ms: Sequence[float]) -> tuple[float, float]:
    """The 50th and the 99th."""
    cuts = statistics.quantiles(late_ms, n=100)
    return cuts[49], cuts[98]
