"""What is measured: figures, each of ours beside its yardstick, in repetitions that take turns."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple, Protocol

#: What one repetition gave, by quantity.
Reading = Mapping[str, float]


class Role(StrEnum):
    """As what somebody takes part."""

    OURS = "ours"
    #: What the machine, or the bare parts that everybody is built of, could do.
    YARDSTICK = "yardstick"
    #: Who does the like in a way of its own: stands beside, and no goal is about it.
    PEER = "peer"


class Contestant(Protocol):
    """Somebody who does what is measured."""

    name: str
    role: Role

    def run(self) -> Reading:
        """Do it once."""


class Verdict(NamedTuple):
    """How ours stands to the goal: the number that counts, in words, and whether that is enough, if that was asked."""

    number: float
    words: str
    met: bool | None


class Counts(StrEnum):
    """What of ours is held against the bound."""

    ITSELF = "itself"
    RATIO = "its ratio to the yardstick"
    EXCESS = "what it is more than the yardstick"
    SHARE = "that excess, in percent of ours"


@dataclass(frozen=True, slots=True)
class Goal:
    """What ours is to reach: at least, or at most, the bound; without one it is told, and nothing is asked of it."""

    bound: float | None
    is_least: bool
    unit: str = ""
    counts: Counts = Counts.ITSELF

    def judge(self, ours: Sequence[float], yardstick: Sequence[float]) -> Verdict:
        """By the repetitions of both, the first of one beside the first of the other."""
        number = statistics.median(self._counted(ours, yardstick))
        return Verdict(number, f"{shown(number)} {self.unit}", self._is_met(number))

    def __str__(self) -> str:
        """As a table has it."""
        if self.bound is None:
            return ""
        return f"{'≥' if self.is_least else '≤'} {self.bound:,g} {self.unit}"

    def _is_met(self, number: float) -> bool | None:
        if self.bound is None:
            return None
        return number >= self.bound if self.is_least else number <= self.bound

    def _counted(self, ours: Sequence[float], yardstick: Sequence[float]) -> list[float]:
        match self.counts:
            case Counts.ITSELF:
                return list(ours)
            case Counts.RATIO:
                return [_times(one, other) for one, other in zip(ours, yardstick, strict=True)]
            case Counts.EXCESS:
                return [one - other for one, other in zip(ours, yardstick, strict=True)]
            case Counts.SHARE:
                return [100 * _times(one - other, one) for one, other in zip(ours, yardstick, strict=True)]


def _times(one: float, other: float) -> float:
    """How often the other goes into the one; too little to be measured goes into anything without end."""
    return one / other if other else math.inf


def shown(value: float) -> str:
    """As a table has it: three digits say enough."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def at_least(bound: float, unit: str) -> Goal:
    """Whatever others do."""
    return Goal(bound, is_least=True, unit=unit)


def at_most(bound: float, unit: str) -> Goal:
    """Whatever others do."""
    return Goal(bound, is_least=False, unit=unit)


def ratio_at_least(bound: float) -> Goal:
    """At least this much of the yardstick."""
    return Goal(bound, is_least=True, unit="x", counts=Counts.RATIO)


def ratio_at_most(bound: float) -> Goal:
    """At most this many times the yardstick."""
    return Goal(bound, is_least=False, unit="x", counts=Counts.RATIO)


def within(bound: float, unit: str) -> Goal:
    """At most so much more than the yardstick."""
    return Goal(bound, is_least=False, unit=f"{unit} more", counts=Counts.EXCESS)


def told(unit: str) -> Goal:
    """Nothing is asked of it."""
    return Goal(None, is_least=False, unit=unit)


def share_told() -> Goal:
    """How much of it the yardstick has no part in; nothing is asked of that."""
    return Goal(None, is_least=False, unit="% ours", counts=Counts.SHARE)


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table: which quantity of a contest, and what of it is enough."""

    key: str
    what: str
    quantity: str
    unit: str
    goal: Goal
    #: Whether more of it is better: of several yardsticks, the best one counts.
    more_is_better: bool = True


@dataclass(slots=True)
class Result:
    """What everybody gave, repetition by repetition."""

    figures: Sequence[Figure]
    roles: dict[str, Role] = field(default_factory=dict)
    readings: dict[str, list[Reading]] = field(default_factory=dict)

    def series(self, name: str, quantity: str) -> list[float]:
        """One quantity of one contestant, in the order of the repetitions."""
        return [reading[quantity] for reading in self.readings[name] if quantity in reading]

    def names(self, role: Role, quantity: str) -> list[str]:
        """Those of a role who have that quantity."""
        return [name for name, its in self.roles.items() if its is role and self.series(name, quantity)]

    def yardstick(self, figure: Figure) -> str | None:
        """The best one, by its median."""
        best = max if figure.more_is_better else min
        names = self.names(Role.YARDSTICK, figure.quantity)
        return best(names, key=lambda name: statistics.median(self.series(name, figure.quantity)), default=None)

    def verdict(self, figure: Figure) -> Verdict:
        """Of ours, against the best yardstick."""
        (ours,) = self.names(Role.OURS, figure.quantity)
        yardstick = self.yardstick(figure)
        beside = [] if yardstick is None else self.series(yardstick, figure.quantity)
        return figure.goal.judge(self.series(ours, figure.quantity), beside)


def take_turns(
    figures: Sequence[Figure], contestants: Sequence[Contestant], repetitions: int, *, warm_ups: int = 1
) -> Result:
    """Each runs some times unmeasured, to warm up, and then as often as that, always one after the other."""
    for _ in range(warm_ups):
        for contestant in contestants:
            contestant.run()
    result = Result(figures, {contestant.name: contestant.role for contestant in contestants})
    for _ in range(repetitions):
        for contestant in contestants:
            result.readings.setdefault(contestant.name, []).append(contestant.run())
    return result
