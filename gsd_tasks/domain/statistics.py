"""What a cluster has done over some time, in figures."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from gsd_tasks.domain.claude_results import Tokens
from gsd_tasks.domain.state import Reason, Status

#: How far `stats` looks back if nobody says.
LOOK_BACK: Final = timedelta(days=30)


class By(StrEnum):
    """What figures are told apart by: the day in UTC, the model, the sessions' `thread`."""

    DAY = "day"
    MODEL = "model"
    THREAD = "thread"


@dataclass(frozen=True, slots=True)
class Outcome:
    """So many sessions ended in this way."""

    status: Status
    reason: Reason
    sessions: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Took:
    """How long sessions took from their first start to their end, rests included; of those `sessions` that began."""

    sessions: int
    p50_s: float | None
    p95_s: float | None
    max_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Sessions count where they ended, turns and their costs where they were recorded.

    `key` is the day, model or thread; None for all together, and for those that have none.
    `attempts`, `tries` and `recoveries` are the sums of what the ended sessions have of them.
    """

    key: str | None
    sessions: int
    outcomes: tuple[Outcome, ...]
    took: Took
    attempts: int
    tries: int
    recoveries: int
    turns: int
    tokens: Tokens
    cost_usd: float

    def count(self, status: Status) -> int:
        """How many sessions ended so."""
        return sum(outcome.sessions for outcome in self.outcomes if outcome.status is status)


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistics:
    """From `since` to `until`: in all, and by `by` if that was asked for.

    Days stand in their order, models and threads by their costs, the dearest first.
    """

    since: datetime
    until: datetime
    by: By | None
    total: Figures
    groups: tuple[Figures, ...]
