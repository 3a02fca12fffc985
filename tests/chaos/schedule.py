"""Which faults, when, and at what: drawn from a seed, the same ones for the same seed."""

from __future__ import annotations

import random
from collections.abc import Collection, Iterator, Sequence
from enum import StrEnum
from typing import Final, NamedTuple, TypeVar

T = TypeVar("T")

SHORTEST_PAUSE_S: Final = 0.3
LONGEST_PAUSE_S: Final = 2.0


class Kind(StrEnum):
    """`kill` is SIGKILL, `stop` SIGSTOP and SIGCONT later, `term` SIGTERM; what is dead is started again later."""

    CHILD_KILL = "child.kill"
    CHILD_STOP = "child.stop"
    SHIM_KILL = "shim.kill"
    SHIM_STOP = "shim.stop"
    INIT_KILL = "init.kill"
    INIT_STOP = "init.stop"
    WORKER_KILL = "worker.kill"
    WORKER_STOP = "worker.stop"
    WORKER_TERM = "worker.term"
    WORKER_CUT = "worker.cut"
    CABLE_CUT = "cable.cut"
    HOST_KILL = "host.kill"
    MAINTENANCE_KILL = "maintenance.kill"
    MAINTENANCE_STOP = "maintenance.stop"
    BEAT_KILL = "beat.kill"
    BEAT_STOP = "beat.stop"
    REDIS_WIPE = "redis.wipe"
    REDIS_KILL = "redis.kill"
    REDIS_RESTART = "redis.restart"
    REDIS_STOP = "redis.stop"
    POSTGRES_KILL = "postgres.kill"
    POSTGRES_RESTART = "postgres.restart"
    POSTGRES_STOP = "postgres.stop"
    POSTGRES_CUT = "postgres.cut"
    DISK_FULL = "disk.full"
    USER_CANCEL = "user.cancel"
    USER_RETRY = "user.retry"
    USER_PAUSE = "user.pause"


class Habit(NamedTuple):
    """How often a kind comes, compared with the others, and for how long."""

    weight: int
    shortest_s: float = 0.0
    longest_s: float = 0.0

    def draw(self, share: float) -> float:
        """As often from half a second to one as from four to eight."""
        return self.shortest_s * (self.longest_s / self.shortest_s) ** share if self.shortest_s else 0.0


# Around the lease of 3 s: some are over before it ends, others not.
HABITS: Final[dict[Kind, Habit]] = {
    Kind.CHILD_KILL: Habit(4),
    Kind.CHILD_STOP: Habit(5, 0.2, 4),
    Kind.SHIM_KILL: Habit(4),
    Kind.SHIM_STOP: Habit(7, 0.5, 6),
    Kind.INIT_KILL: Habit(3),
    Kind.INIT_STOP: Habit(4, 0.2, 4),
    Kind.WORKER_KILL: Habit(9, 0.1, 2.5),
    Kind.WORKER_STOP: Habit(9, 0.5, 8),
    Kind.WORKER_TERM: Habit(8, 0.1, 1),
    Kind.WORKER_CUT: Habit(9, 0.5, 8),
    Kind.CABLE_CUT: Habit(9, 0.5, 12),
    Kind.HOST_KILL: Habit(4, 0.5, 6),
    Kind.MAINTENANCE_KILL: Habit(4, 0.2, 3),
    Kind.MAINTENANCE_STOP: Habit(3, 0.5, 6),
    Kind.BEAT_KILL: Habit(3, 0.2, 6),
    Kind.BEAT_STOP: Habit(2, 0.5, 6),
    Kind.REDIS_WIPE: Habit(4),
    Kind.REDIS_KILL: Habit(3, 0.2, 4),
    Kind.REDIS_RESTART: Habit(2, 0.2, 4),
    Kind.REDIS_STOP: Habit(3, 0.5, 5),
    Kind.POSTGRES_KILL: Habit(3, 0.2, 3),
    Kind.POSTGRES_RESTART: Habit(3, 0.2, 3),
    Kind.POSTGRES_STOP: Habit(4, 0.5, 6),
    Kind.POSTGRES_CUT: Habit(7),
    Kind.DISK_FULL: Habit(2, 0.5, 3),
    Kind.USER_CANCEL: Habit(4),
    Kind.USER_RETRY: Habit(4),
    Kind.USER_PAUSE: Habit(3, 0.2, 3),
}


class Fault(NamedTuple):
    """One of the schedule. `aim` and `twist`, 0 to 1, choose among what there is to strike, and among its forms."""

    number: int
    pause_s: float
    kind: Kind
    aim: float
    lasts_s: float
    twist: float

    def __str__(self) -> str:
        return f"#{self.number} {self.kind} lasts={self.lasts_s:.2f}s aim={self.aim:.3f} twist={self.twist:.3f}"

    def choose(self, among: list[T]) -> T | None:
        return among[int(self.aim * len(among))] if among else None

    def choose_form(self, among: Sequence[T]) -> T:
        return among[int(self.twist * len(among))]


def faults(seed: int, kinds: Collection[Kind] = (), without: Collection[Kind] = ()) -> Iterator[Fault]:
    """Without end. With `kinds`, those alone. `without` leaves some out, and changes nothing else."""
    drawn = random.Random(seed)
    habits = {kind: habit for kind, habit in HABITS.items() if not kinds or kind in kinds}
    weights = [habit.weight for habit in habits.values()]
    number = 0
    while True:
        number += 1
        pause_s = drawn.uniform(SHORTEST_PAUSE_S, LONGEST_PAUSE_S)
        (kind,) = drawn.choices(list(habits), weights)
        lasts_s = habits[kind].draw(drawn.random())
        fault = Fault(number, pause_s, kind, drawn.random(), lasts_s, drawn.random())
        if kind not in without:
            yield fault
