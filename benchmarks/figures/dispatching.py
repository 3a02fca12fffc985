"""F3, F5: from `enqueue` to a child's first instruction, and how many sessions a second come and go.

The child of F3 is `date`, which prints when it began; that of F5 is `true`. Plain Celery spawns the same children in a
task, with three processes: it keeps nothing of them.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final
from uuid import uuid4

from benchmarks.measuring import Contestant, Figure, Reading, Role, ratio_at_least, within

if TYPE_CHECKING:
    from benchmarks.bare import Bare
    from benchmarks.rig import Rig

DISPATCH: Final = "ms to the first instruction"
RATE: Final = "sessions/s"
FIGURES: Final = (
    Figure("F3", "enqueue to a child, idle", DISPATCH, "ms", within(60, "ms")),
    Figure("F5", "no-op sessions, three slots", RATE, "/s", ratio_at_least(0.5)),
)
NOW: Final = ("date", "+%s.%N")


def contestants(rig: Rig, bare: Bare, children: int, sessions: int) -> Sequence[Contestant]:
    """Both, with so many children one after the other, and so many sessions at once."""
    return Ours(rig, children, sessions), Theirs(bare, children, sessions)


class Ours:
    """Sessions of one worker with three slots."""

    name = "gsd-tasks"
    role = Role.OURS

    def __init__(self, rig: Rig, children: int, sessions: int) -> None:
        self._rig = rig
        self._children = children
        self._sessions = sessions

    def run(self) -> Reading:
        return {DISPATCH: statistics.median(self._dispatch_ms() for _ in range(self._children)), RATE: self._rate()}

    def _dispatch_ms(self) -> float:
        client, began = self._rig.client, time.time()
        session = client.enqueue(command=NOW, working_dir=self._rig.folder)
        client.wait(session.id, timeout_s=30)
        (row,) = client.output(session.id)
        return (float(row.body) - began) * 1000

    def _rate(self) -> float:
        client, began = self._rig.client, time.time()
        requests = [{"command": ["true"], "working_dir": str(self._rig.folder)} for _ in range(self._sessions)]
        ids = [session.id for session in client.enqueue_many(requests)]
        ended = [client.wait(id_, timeout_s=300).ended_at for id_ in ids]
        return self._sessions / (max(at.timestamp() for at in ended if at is not None) - began)


class Theirs:
    """Tasks of a plain Celery worker with three processes."""

    name = "Celery and spawn"
    role = Role.YARDSTICK

    def __init__(self, bare: Bare, children: int, sessions: int) -> None:
        self._bare = bare
        self._children = children
        self._sessions = sessions

    def run(self) -> Reading:
        return {DISPATCH: statistics.median(self._dispatch_ms() for _ in range(self._children)), RATE: self._rate()}

    def _dispatch_ms(self) -> float:
        to, began = str(uuid4()), time.time()
        self._bare.spawn(to, *NOW)
        return (float(self._bare.answer(to)) - began) * 1000

    def _rate(self) -> float:
        to, began = str(uuid4()), time.time()
        for _ in range(self._sessions):
            self._bare.spawn(to, "true")
        for _ in range(self._sessions):
            self._bare.answer(to)
        return self._sessions / (time.time() - began)
