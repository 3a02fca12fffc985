"""F6: memory that is ours, beyond the children's: of an idle worker, for each running session, over 1 GB of output.

Proportional set size: what several processes share is counted once.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import psutil

from benchmarks.measuring import Contestant, Figure, Reading, Role, at_most
from benchmarks.rig import SLOTS
from gsd_tasks.domain.state import Status
from tests.waiting import until

if TYPE_CHECKING:
    from uuid import UUID

    from benchmarks.rig import Rig

MIB: Final = 1024 * 1024
IDLE: Final = "idle worker"
SESSION: Final = "each running session"
GROWTH: Final = "growth over 1 GB of output"
FIGURES: Final = (
    Figure("F6", "memory of an idle worker, its nursery included", IDLE, "MiB", at_most(200, "MiB")),
    Figure("F6", "memory for each session that runs, beyond its child", SESSION, "MiB", at_most(25, "MiB")),
    Figure("F6", "memory while 1 GB goes through, beyond one session's", GROWTH, "MiB", at_most(50, "MiB")),
)
SLEEP: Final = ("sleep", "600")
TORRENT: Final = """
import sys
line = b"x" * 199 + b"\\n"
for _ in range(int(sys.argv[1]) // 50):
    sys.stdout.buffer.write(line * 50)
"""


def contestants(rig: Rig, torrent: int) -> Sequence[Contestant]:
    """Ours alone, with so many lines of 200 bytes that go through."""
    return (Ours(rig, torrent),)


class Ours:
    """One worker with three slots."""

    name = "gsd-tasks"
    role = Role.OURS

    def __init__(self, rig: Rig, torrent: int) -> None:
        self._rig = rig
        self._torrent = torrent

    def run(self) -> Reading:
        idle = self._pss()
        ids = [self._begin(*SLEEP) for _ in range(SLOTS)]
        for id_ in ids:
            until(lambda id_=id_: self._rig.client.get(id_).status is Status.RUNNING, timeout_s=60)  # type: ignore[misc]
        held = (self._pss() - idle) / SLOTS
        for id_ in ids:
            self._rig.client.cancel(id_)
            self._rig.client.wait(id_, timeout_s=60)
        torrent, most = self._begin(sys.executable, "-c", TORRENT, str(self._torrent)), 0.0
        while self._rig.client.get(torrent).ended_at is None:
            most = max(most, self._pss())
        assert self._rig.client.get(torrent).seq == self._torrent
        self._rig.client.delete(torrent)
        return {IDLE: idle / MIB, SESSION: held / MIB, GROWTH: (most - idle - held) / MIB}

    def _begin(self, *command: str) -> UUID:
        return self._rig.client.enqueue(command=command, working_dir=self._rig.folder).id

    def _pss(self) -> float:
        """Of the worker and all below it but the children."""
        total = 0
        for process in (self._rig.worker, *self._rig.worker.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                if process.name().startswith("gsd-") or process == self._rig.worker:
                    total += process.memory_full_info().pss
        return float(total)
