"""What each turn of a Claude session cost, taken out of the CLI's running totals.

`total_cost_usd` and `modelUsage` of a result count over all turns of its process, and on from the last `cost-state` of
the transcript that the process was resumed from. Without one they begin at 0, and after a `/clear` they do so again.
So a turn's cost is its total less the total before it; or the total itself, where the CLI began anew.

Tokens are taken from `modelUsage` too: `usage`, which is of the turn alone, is empty where a budget was used up.

Pure. Measured with CLI 2.1.327.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Self

from gsd_tasks.domain.claude_fields import Fields, read_json
from gsd_tasks.domain.claude_results import ResultEvent, Tokens
from gsd_tasks.domain.session import SessionId
from gsd_tasks.domain.transcript import COSTS

#: Sums of floats differ by less than this, and no price is that small.
NOISE_USD: Final = 1e-9
_DIGITS: Final = 9
#: A model that the CLI did not name.
UNNAMED: Final = "unknown"


@dataclass(frozen=True, slots=True)
class Use(Tokens):
    """What was read, written and paid."""

    cost_usd: float

    @classmethod
    def of_totals(cls, usage: object) -> Self:
        """What the CLI says of one model."""
        tokens = Tokens.of_model(usage)
        cost_usd = Fields(usage).number("costUSD")
        return cls(tokens.input, tokens.output, tokens.cache_read, tokens.cache_write, cost_usd)

    def __add__(self, other: Use) -> Use:
        return Use(
            self.input + other.input,
            self.output + other.output,
            self.cache_read + other.cache_read,
            self.cache_write + other.cache_write,
            _usd(self.cost_usd + other.cost_usd),
        )

    def since(self, before: Use) -> Use:
        """What came to it since `before`; never less than nothing."""
        return Use(
            max(0, self.input - before.input),
            max(0, self.output - before.output),
            max(0, self.cache_read - before.cache_read),
            max(0, self.cache_write - before.cache_write),
            _usd(self.cost_usd - before.cost_usd),
        )


NOTHING: Final = Use(0, 0, 0, 0, 0.0)


@dataclass(frozen=True, slots=True)
class Totals:
    """How far the CLI has counted: over all models, and for each."""

    cost_usd: float = 0.0
    models: Mapping[str, Use] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """What the CLI reported when it ended a turn, the costs being those of this turn alone.

    `seq` is the output row that the result ended in, `num_turns` how many the CLI counted in it for its `--max-turns`.
    `models` has every model that was used, subagents' included; `model` is the session's own. `tokens` are of all.
    """

    seq: int
    model: str | None
    subtype: str
    is_error: bool
    num_turns: int
    duration_s: float
    tokens: Tokens
    cost_usd: float
    models: Mapping[str, Use]


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedTurn(Turn):
    """A turn as Postgres has it. `at` is when it was recorded."""

    session_id: SessionId
    attempt: int
    at: datetime


class TurnMeter:
    """Takes the totals of one process apart, turn by turn, in the order in which it reported them."""

    def __init__(self, begin: Totals) -> None:
        """`begin` is the total of the last `cost-state` that the process was resumed from, if there was one."""
        self._before = begin

    def turn(self, result: ResultEvent, seq: int) -> Turn:
        """The turn that `result` ended."""
        now = _totals(result.total_cost_usd, result.model_usage)
        before = Totals() if _began_anew(self._before, now) else self._before
        self._before = now if now.models else Totals(now.cost_usd, before.models)
        cost_usd = _usd(now.cost_usd - before.cost_usd)
        models = _models(before, now) if now.models else _only_model(result, cost_usd)
        used = sum(models.values(), NOTHING)
        return Turn(
            seq=seq,
            model=result.model,
            subtype=result.subtype,
            is_error=result.is_error,
            num_turns=result.num_turns,
            duration_s=max(0.0, result.duration_ms / 1000),
            tokens=Tokens(used.input, used.output, used.cache_read, used.cache_write),
            cost_usd=cost_usd,
            models=models,
        )


def totals_of_cost_state(entry_json: str | bytes) -> Totals | None:
    """What an entry of the transcript says of the costs until then; None for one that says nothing of them."""
    match read_json(entry_json):
        case {"type": kind, "totalCostUSD": int() | float() as cost, **more} if kind == COSTS:
            return _totals(Fields({"cost": cost}).number("cost"), more.get("modelUsage"))
        case _:
            return None


def sum_turns(turns: Iterable[Turn]) -> Use:
    """What they used and cost in all."""
    return sum((use_of(turn) for turn in turns), NOTHING)


def use_of(turn: Turn) -> Use:
    """What a turn used, whichever model it was."""
    tokens = turn.tokens
    return Use(tokens.input, tokens.output, tokens.cache_read, tokens.cache_write, turn.cost_usd)


def _totals(cost_usd: float, models: Any) -> Totals:
    named = models if isinstance(models, Mapping) else {}
    return Totals(max(0.0, cost_usd), {name: Use.of_totals(usage) for name, usage in named.items()})


def _began_anew(before: Totals, now: Totals) -> bool:
    """A total never falls. The models tell it also where a first turn cost more than all that was before."""
    if now.cost_usd < before.cost_usd - NOISE_USD:
        return True
    fell = (now.models.get(name, NOTHING).cost_usd < use.cost_usd - NOISE_USD for name, use in before.models.items())
    return bool(now.models) and any(fell)


def _models(before: Totals, now: Totals) -> dict[str, Use]:
    """What each model came to in between, without those that did nothing."""
    used = {name: use.since(before.models.get(name, NOTHING)) for name, use in now.models.items()}
    return {name: use for name, use in used.items() if use != NOTHING}


def _only_model(result: ResultEvent, cost_usd: float) -> dict[str, Use]:
    """A CLI that does not tell models apart: all of it is that of the session's own."""
    tokens = result.tokens
    use = Use(tokens.input, tokens.output, tokens.cache_read, tokens.cache_write, cost_usd).since(NOTHING)
    return {} if use == NOTHING else {result.model or UNNAMED: use}


def _usd(amount: float) -> float:
    """Without the noise of floats: never -0.0, nor 1e-17."""
    return max(0.0, round(amount, _DIGITS)) + 0.0
