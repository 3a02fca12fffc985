"""Running totals of the CLI, taken apart into what each turn cost."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gsd_tasks.domain.claude_parsing import parse_line
from gsd_tasks.domain.claude_results import ResultEvent, Tokens
from gsd_tasks.domain.costs import NOTHING, Totals, Turn, TurnMeter, Use, sum_turns, totals_of_cost_state

OPUS, HAIKU = "claude-opus-5-5", "claude-haiku-4-5"
# As CLI 2.1.327 wrote it.
COST_STATE = (
    '{"type":"cost-state","sessionId":"b1617ef0-ce92-4d44-a2a7-4dc1537df86e","totalCostUSD":0.047556,'
    '"totalAPIDuration":22,"totalAPIDurationWithoutRetries":19,"totalToolDuration":0,"totalLinesAdded":0,'
    '"totalLinesRemoved":0,"totalDuration":1616,"startTime":1795254903692,"modelUsage":{"claude-opus-5-5":'
    '{"inputTokens":11844,"outputTokens":9,"thinkingTokens":0,"cacheReadInputTokens":3,"cacheCreationInputTokens":4,'
    '"cacheCreationEphemeral5mInputTokens":0,"cacheCreationEphemeral1hInputTokens":0,"webSearchRequests":0,'
    '"costUSD":0.047556}},"hasUnknownModelCost":false}'
)


def of_model(cost_usd: float, tokens: int = 0) -> dict[str, Any]:
    counts = {"inputTokens": tokens, "outputTokens": 2 * tokens, "cacheReadInputTokens": 3 * tokens}
    return {**counts, "cacheCreationInputTokens": 4 * tokens, "costUSD": cost_usd}


def result(total: float, models: Any = None, **fields: Any) -> ResultEvent:
    event = {"type": "result", "subtype": "success", "is_error": False, "num_turns": 2, "duration_ms": 1500}
    event |= {"total_cost_usd": total, "modelUsage": {OPUS: of_model(total)} if models is None else models}
    parsed = parse_line(json.dumps(event | fields))
    assert isinstance(parsed, ResultEvent)
    return parsed


def metered(*results: ResultEvent, begin: Totals | None = None) -> list[Turn]:
    meter = TurnMeter(begin or Totals())
    return [meter.turn(each, seq) for seq, each in enumerate(results, 1)]


def costs(turns: list[Turn]) -> list[float]:
    return [turn.cost_usd for turn in turns]


def test_a_turn_has_what_its_result_says_and_what_came_to_the_totals() -> None:
    first, second = metered(
        result(0.5, {OPUS: of_model(0.5, 10)}),
        result(0.9, {OPUS: of_model(0.7, 15), HAIKU: of_model(0.2, 1)}, subtype="error_max_turns", is_error=True),
    )
    assert (first.seq, first.model, first.subtype, first.is_error) == (1, OPUS, "success", False)
    assert (first.num_turns, first.duration_s, first.cost_usd) == (2, 1.5, 0.5)
    assert first.tokens == Tokens(10, 20, 30, 40)
    assert (second.seq, second.subtype, second.is_error, second.cost_usd) == (2, "error_max_turns", True, 0.4)
    assert second.models == {OPUS: Use(5, 10, 15, 20, 0.2), HAIKU: Use(1, 2, 3, 4, 0.2)}
    assert second.tokens == Tokens(6, 12, 18, 24)
    assert sum_turns([first, second]) == Use(16, 32, 48, 64, 0.9)


def test_a_resumed_process_counts_on_from_the_cost_state_of_its_transcript() -> None:
    begin = totals_of_cost_state(COST_STATE)
    assert begin == Totals(0.047556, {OPUS: Use(11844, 9, 3, 4, 0.047556)})
    after = of_model(0.1) | {"inputTokens": 12000, "outputTokens": 9}
    [turn] = metered(result(0.1, {OPUS: after}), begin=begin)
    assert turn.models == {OPUS: Use(156, 0, 0, 0, 0.052444)}
    assert turn.cost_usd == 0.052444


def test_a_model_that_did_nothing_in_a_turn_has_no_part_in_it() -> None:
    _, second = metered(
        result(0.5, {OPUS: of_model(0.5, 1)}), result(0.6, {OPUS: of_model(0.5, 1), HAIKU: of_model(0.1)})
    )
    assert set(second.models) == {HAIKU}


def test_a_total_that_fell_was_counted_from_nothing() -> None:
    """As after a `/clear`, whose own result has no totals at all."""
    assert costs(metered(result(0.5), result(0, {}), result(0.6), result(0.7))) == [0.5, 0, 0.6, 0.1]
    assert costs(metered(result(0.5), begin=Totals(2.0))) == [0.5]


def test_a_total_was_counted_from_nothing_if_that_of_a_model_fell() -> None:
    begin = Totals(0.5, {OPUS: Use(1, 1, 1, 1, 0.5)})
    [turn] = metered(result(0.8, {OPUS: of_model(0.2, 7), HAIKU: of_model(0.6, 1)}), begin=begin)
    assert turn.cost_usd == 0.8
    assert turn.models[OPUS] == Use(7, 14, 21, 28, 0.2)
    [other] = metered(result(0.8, {HAIKU: of_model(0.8)}), begin=begin)
    assert other.cost_usd == 0.8


def test_the_noise_of_floats_is_no_cost_and_no_new_beginning() -> None:
    turns = metered(result(0.1), result(0.1 + 0.2), result(0.3), result(0.1 + 0.2))
    assert costs(turns) == [0.1, 0.2, 0, 0]
    assert all(math.copysign(1, cost) == 1 for cost in costs(turns))
    assert turns[2].models == turns[3].models == {}


def test_where_the_cli_tells_no_models_apart_its_usage_counts_for_its_own() -> None:
    usage = {"input_tokens": 1, "output_tokens": 2, "cache_read_input_tokens": 3, "cache_creation_input_tokens": 4}
    [turn] = metered(result(0.5, {}, usage=usage))
    assert turn.models == {"unknown": Use(1, 2, 3, 4, 0.5)}
    assert turn.tokens == Tokens(1, 2, 3, 4)
    [nothing] = metered(result(0, {}))
    assert (nothing.models, nothing.model, nothing.cost_usd) == ({}, None, 0)


@pytest.mark.parametrize(
    "fields",
    [
        {"total_cost_usd": "much", "modelUsage": [1]},
        {"total_cost_usd": -1, "modelUsage": {"m": None}, "duration_ms": -5},
        {"total_cost_usd": None, "modelUsage": {"m": {"inputTokens": -7, "costUSD": "x"}}},
        {"total_cost_usd": 1e300, "modelUsage": {"m": {"inputTokens": 1e300, "outputTokens": True}}},
    ],
)
def test_rubbish_never_raises_and_no_figure_is_negative(fields: dict[str, Any]) -> None:
    for turn in metered(result(0.2), result(0, **fields), result(0.3)):
        assert turn.cost_usd >= 0
        assert turn.duration_s >= 0
        assert all(figure >= 0 for use in turn.models.values() for figure in asdict(use).values())


@pytest.mark.parametrize(
    "entry", ["", "{", "[]", '{"type":"user"}', '{"type":"cost-state"}', '{"type":"cost-state","totalCostUSD":"1"}']
)
def test_another_entry_says_nothing_of_costs(entry: str) -> None:
    assert totals_of_cost_state(entry) is None


def test_a_cost_state_without_models_has_its_total() -> None:
    assert totals_of_cost_state('{"type":"cost-state","totalCostUSD":2,"modelUsage":null}') == Totals(2.0)


@given(st.lists(st.tuples(st.sampled_from([OPUS, HAIKU]), st.integers(0, 10**7), st.integers(0, 10**6)), max_size=8))
def test_the_costs_of_all_turns_are_the_total(steps: list[tuple[str, int, int]]) -> None:
    """Whatever was spent on which model; and however often the CLI was resumed with or without its total."""
    meter, totals, models, spent = TurnMeter(Totals()), 0.0, dict[str, Use](), NOTHING
    turns = []
    for seq, (model, micros, tokens) in enumerate(steps, 1):
        used = Use(tokens, 0, 0, 0, micros / 1e6)
        if micros % 5 == 1:
            meter, totals, models = TurnMeter(Totals()), 0.0, {}
        elif micros % 5 == 2:
            meter = TurnMeter(Totals(totals, dict(models)))
        totals += used.cost_usd
        models[model] = models.get(model, NOTHING) + used
        spent += used
        named = {name: {"inputTokens": use.input, "costUSD": use.cost_usd} for name, use in models.items()}
        turns.append(meter.turn(result(totals, named), seq))
    assert sum_turns(turns) == spent
