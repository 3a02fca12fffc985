from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gsd_tasks.domain.claude_rendering import render


def shown(event: Any) -> list[str]:
    return render(json.dumps(event))


def assistant(*blocks: dict[str, Any]) -> dict[str, Any]:
    return {"type": "assistant", "message": {"content": list(blocks)}}


def tool_result(content: Any, *, is_error: bool = False) -> dict[str, Any]:
    block = {"type": "tool_result", "content": content, "is_error": is_error}
    return {"type": "user", "message": {"content": [block]}}


def test_text_is_shown_as_it_is() -> None:
    assert shown(assistant({"type": "text", "text": "First.\nSecond.\n"})) == ["First.", "Second."]


@pytest.mark.parametrize(
    ("given_input", "expected"),
    [
        ({"command": "pytest -q", "description": "run"}, "> Bash pytest -q"),
        ({"command": "a\nb"}, "> Bash a b"),
        ({"odd": 1}, '> Bash {"odd": 1}'),
        ({}, "> Bash"),
        ("not a mapping", "> Bash"),
    ],
)
def test_a_tool_call_says_what_matters_most(given_input: Any, expected: str) -> None:
    assert shown(assistant({"type": "tool_use", "name": "Bash", "input": given_input})) == [expected]


def test_a_tools_result_is_its_first_line() -> None:
    assert shown(tool_result("3 failed\na\nb")) == ["  3 failed (+ 2 lines)"]
    assert shown(tool_result([{"type": "text", "text": "no such file"}], is_error=True)) == ["! no such file"]


def test_a_line_is_never_long() -> None:
    assert max(map(len, shown(tool_result("x" * 10_000 + "\n" * 5_000 + "y")))) <= 200
    assert max(map(len, shown(assistant({"type": "tool_use", "name": "Write", "input": {"a": "x" * 10_000}})))) <= 200
    assert len(shown(assistant({"type": "text", "text": "x\n" * 1000}))) < 100


def test_the_end_says_what_it_took() -> None:
    event = {"type": "result", "is_error": False, "num_turns": 1, "duration_ms": 12_300, "total_cost_usd": 0.0412}
    assert shown(event) == ["= finished: 1 turn, 12.3 s, $0.0412"]
    assert shown(event | {"is_error": True, "result": "API Error: 529"}) == [
        "= failed: API Error: 529 (1 turn, 12.3 s, $0.0412)"
    ]


def test_a_retry_says_how_long_it_waits() -> None:
    event = {"type": "system", "subtype": "api_retry", "error_status": 529, "retry_delay_ms": 2100, "attempt": 1}
    assert shown(event | {"max_retries": 3}) == ["! the API answered 529: again in 2 s (1 of 3)"]


@pytest.mark.parametrize(
    "line", ["", "plain", "{", "[]", '{"type":"stream_event"}', '{"type":"assistant","message":5}']
)
def test_noise_shows_nothing(line: str) -> None:
    assert render(line) == []


def test_nothing_that_a_terminal_obeys_comes_through() -> None:
    assert shown(assistant({"type": "text", "text": "\x1b[31mred\x07"})) == ["^[[31mred^G"]


json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["type", "message", "content"]), inner),
    max_leaves=8,
)


@given(
    st.sampled_from(["assistant", "user", "result", "system"]),
    st.sampled_from(["init", "api_retry", "permission_denied", "success"]),
    st.dictionaries(st.sampled_from(["message", "content", "num_turns", "duration_ms", "retry_delay_ms"]), json_values),
)
def test_an_odd_event_never_raises(kind: str, subtype: str, fields: dict[str, Any]) -> None:
    for text in shown(fields | {"type": kind, "subtype": subtype}):
        assert "\n" not in text


@given(json_values)
def test_an_odd_block_never_raises(block: Any) -> None:
    for kind in ("text", "tool_use", "tool_result"):
        odd = {"type": kind, "text": block, "name": "Bash", "input": block, "content": block}
        assert all("\n" not in text for text in shown(assistant(odd)))
