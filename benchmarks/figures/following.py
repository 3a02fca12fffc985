"""F8: how far behind the slowest of many followers of one busy session is, all of one API process.

A child writes a thousand lines of 100 bytes a second. The followers are a process of their own (`stream_readers.py`):
each makes sure that it gets every row once and in order. Five times a second it is noted how long ago the first row was
written that the slowest one lacks.
"""

from __future__ import annotations

import json
import resource
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from benchmarks.gate import held
from benchmarks.measuring import Contestant, Figure, Reading, Role, at_most, told
from benchmarks.rig import cpu_s

if TYPE_CHECKING:
    from uuid import UUID

    from benchmarks.rig import Rig

RATE: Final = 1000
LENGTH: Final = 100
READERS: Final = Path(__file__).parents[1] / "stream_readers.py"
MOST: Final = "s behind, at most"
MEDIAN: Final = "s behind, median"
END: Final = "s to be told of the end"
CPU: Final = "CPU of the API, % of a core"
MEMORY: Final = "KiB of the API for each"
FIGURES: Final = (
    Figure("F8", "the slowest follower of one session behind, at most", MOST, "s", at_most(1, "s")),
    Figure("F8", "the slowest follower behind, median", MEDIAN, "s", told("s")),
    Figure("F8", "until the last one is told of the end", END, "s", told("s")),
    Figure("F8", "CPU of the API meanwhile", CPU, "%", told("% of a core")),
    Figure("F8", "memory of the API for each follower", MEMORY, "KiB", told("KiB")),
)
CHILD: Final = """
import fcntl, sys, time
rate, seconds, length = map(int, sys.argv[1:4])
fcntl.flock(open(sys.argv[4]), fcntl.LOCK_SH)
begin, number = time.monotonic() + 1, 0
while number < rate * seconds:
    time.sleep(0.01)
    due = max(0, min(rate * seconds, int((time.monotonic() - begin) * rate)))
    sys.stdout.write("".join(f"{n} ".ljust(length - 1, "x") + "\\n" for n in range(number, due)))
    sys.stdout.flush()
    number = max(number, due)
"""


def contestants(rig: Rig, followers: int, seconds: int) -> Sequence[Contestant]:
    """Ours alone, with so many followers for so long."""
    # A connection each, of the API's process and of the followers'.
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    return (Ours(rig, followers, seconds),)


class Ours:
    """One API process, which has nothing else to do."""

    name = "gsd-tasks"
    role = Role.OURS

    def __init__(self, rig: Rig, followers: int, seconds: int) -> None:
        self._rig = rig
        self._followers = followers
        self._seconds = seconds

    def run(self) -> Reading:
        with self._rig.api(streams=self._followers) as api:
            idle_bytes = api.process.memory_info().rss
            with held(self._rig.folder / "begin") as begin:
                id_ = self._enqueue(begin)
                readers = api.reader(READERS, f"/v1/sessions/{id_}/events", str(self._followers))
                assert json.loads(readers.readline())["connected_s"] > 0
                each_bytes = (api.process.memory_info().rss - idle_bytes) / self._followers
                before_s = cpu_s(api.process)
            outcome = json.loads(readers.readline())
            spent_s = cpu_s(api.process) - before_s
        self._check(outcome)
        ended_at = self._rig.client.wait(id_, timeout_s=60).ended_at
        assert ended_at is not None
        behind_s = outcome["behind_s"] or [0.0]
        return {
            MOST: max(behind_s),
            MEDIAN: statistics.median(behind_s),
            END: outcome["last_ended_at"] - ended_at.timestamp(),
            CPU: spent_s / self._seconds * 100,
            MEMORY: each_bytes / 1024,
        }

    def _enqueue(self, begin: Path) -> UUID:
        sizes = map(str, (RATE, self._seconds, LENGTH))
        command = (sys.executable, "-c", CHILD, *sizes, str(begin))
        return self._rig.client.enqueue(command=command, working_dir=self._rig.folder).id

    def _check(self, outcome: dict[str, Any]) -> None:
        """Each got every row once, in order, and the same story around them."""
        assert not outcome["faults"], outcome["faults"][:3]
        assert outcome["rows"] == [RATE * self._seconds], outcome["rows"]
        assert len(outcome["others"]) == 1, outcome["others"]
