from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gsd_tasks.domain.claude_rendering import render_line


def shown(event: Any) -> list[str]:
    return render_line(json.dumps(event))


def assistant(*blocks: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"type": "assistant", "message": {"content": list(blocks)}} | fields


def user(*blocks: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return assistant(*blocks, **fields) | {"type": "user"}


def text(said: str) -> dict[str, Any]:
    return {"type": "text", "text": said}


def tool_result(content: Any, *, is_error: bool = False) -> dict[str, Any]:
    return user({"type": "tool_result", "content": content, "is_error": is_error})


def test_text_is_shown_as_it_is() -> None:
    assert shown(assistant(text("First.\nSecond.\n"))) == ["First.", "Second."]


def test_what_people_say_is_told_from_what_the_model_says() -> None:
    assert shown(user(text("Do it,\nplease"), isReplay=True)) == ["< Do it,", "  please"]
    assert shown({"type": "user", "message": {"content": "Do it"}}) == ["< Do it"]
    assert shown(user(text("What was said so far"), isSynthetic=True)) == []


def test_what_a_subagent_does_stands_behind_a_bar() -> None:
    assert shown(assistant(text("a\nb"), parent_tool_use_id="t")) == ["| a", "| b"]
    assert shown(user(text("Look around"), agent_id="a")) == ["| < Look around"]


@pytest.mark.parametrize(
    ("thought", "expected"),
    [
        ("", "~ thinking"),
        ("Hm.", "~ thinking: Hm."),
        ("One.\nTwo.", "~ thinking: One. Two. (2 lines)"),
        ("word " * 100, "~ thinking: " + "word " * 15 + "word…"),
    ],
)
def test_thinking_is_folded_into_one_line(thought: str, expected: str) -> None:
    assert shown(assistant({"type": "thinking", "thinking": thought, "signature": "s"})) == [expected]


def test_thinking_that_is_kept_secret_is_thinking_still() -> None:
    assert shown(assistant({"type": "redacted_thinking", "data": "x"})) == ["~ thinking"]


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


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("3 failed\na\nb", "  3 failed (+ 2 lines)"),
        ("3 failed\na", "  3 failed (+ 1 line)"),
        ([{"type": "text", "text": "whole"}, {"type": "image", "source": {}}], "  whole (+ 1 line)"),
        ([{"type": "image", "source": {}}], "  [image]"),
        ([{"type": "web_search_result", "title": "A page", "url": "u"}], "  A page"),
        ({"type": "web_search_tool_result_error", "error_code": "unavailable"}, "! unavailable"),
    ],
)
def test_a_tools_result_is_its_first_line(content: Any, expected: str) -> None:
    assert shown(tool_result(content)) == [expected]


@pytest.mark.parametrize("content", [None, "", " \n", [], [[["deep"]]]])
def test_a_result_of_nothing_shows_nothing(content: Any) -> None:
    assert shown(tool_result(content)) == []
    assert shown(tool_result(content, is_error=True)) == ["!"]


def test_a_failed_tool_is_marked() -> None:
    assert shown(tool_result([text("no such file")], is_error=True)) == ["! no such file"]


def test_a_line_is_never_long() -> None:
    assert max(map(len, shown(tool_result("x" * 10_000 + "\n" * 5_000 + "y")))) <= 200
    assert max(map(len, shown(assistant({"type": "tool_use", "name": "Write", "input": {"a": "x" * 10_000}})))) <= 200
    assert len(shown(assistant(text("x\n" * 1000)))) < 100
    denials = [{"tool_name": f"Tool{number}"} for number in range(1000)]
    assert max(map(len, shown({"type": "result", "permission_denials": denials}))) <= 200


def test_the_end_says_what_it_took() -> None:
    usage = {"input_tokens": 1000, "cache_read_input_tokens": 200, "output_tokens": 31}
    event = {"type": "result", "num_turns": 1, "duration_ms": 12_300, "total_cost_usd": 0.0412, "usage": usage}
    took = "1 turn, 12.3 s, 1,200 tokens in, 31 out, $0.0412 in all"
    assert shown(event) == [f"= finished: {took}"]
    assert shown(event | {"is_error": True, "result": "API Error: 529"}) == [f"= failed: API Error: 529 ({took})"]
    denials = [{"tool_name": name} for name in ("Bash", "Write", "Bash")]
    assert shown(event | {"permission_denials": denials})[0] == "! 3 calls were not allowed: Bash, Write"


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"error_status": 529, "error": "overloaded"}, "! the API answered 529 (overloaded): again in 2.1 s (1 of 3)"),
        ({"error_status": None, "error": ""}, "! the API answered nothing: again in 2.1 s (1 of 3)"),
    ],
)
def test_a_retry_says_why_and_how_long_it_waits(fields: dict[str, Any], expected: str) -> None:
    event = {"type": "system", "subtype": "api_retry", "retry_delay_ms": 2100, "attempt": 1, "max_retries": 3}
    assert shown(event | fields) == [expected]


@pytest.mark.parametrize(
    ("info", "expected"),
    [
        ({"status": "allowed"}, []),
        (
            {"status": "allowed_warning", "rateLimitType": "five_hour", "utilization": 0.9},
            ["! the five hour limit is near: 90% used"],
        ),
        ({"status": "rejected", "rateLimitType": "seven_day"}, ["! the seven day limit is reached"]),
    ],
)
def test_a_limit_is_news_only_when_it_is_near(info: dict[str, Any], expected: list[str]) -> None:
    assert shown({"type": "rate_limit_event", "rate_limit_info": info}) == expected


def test_control_says_what_is_asked_and_what_is_refused() -> None:
    request = {"subtype": "can_use_tool", "tool_name": "Bash", "input": {"command": "rm x"}}
    assert shown({"type": "control_request", "request_id": "1", "request": request}) == ["? may it use Bash rm x"]
    assert shown({"type": "control_request", "request": {"subtype": "hook_callback"}}) == []
    assert shown({"type": "control_response", "response": {"subtype": "error", "error": "no"}}) == [
        "! the CLI refuses: no"
    ]
    assert shown({"type": "control_response", "response": {"subtype": "success"}}) == []


@pytest.mark.parametrize(
    "event",
    [
        {"type": "stream_event", "event": {"type": "message_stop"}},
        {"type": "system", "subtype": "status", "status": "requesting"},
        {"type": "system", "subtype": "thinking_tokens"},
        {"type": "command_lifecycle", "state": "queued"},
        {"type": "brand_new"},
        {"type": "assistant", "message": 5},
    ],
)
def test_what_tells_a_person_nothing_shows_nothing(event: dict[str, Any]) -> None:
    assert shown(event) == []


def test_a_line_that_is_no_event_is_shown_itself() -> None:
    assert render_line("") == []
    assert render_line("Segmentation fault\r") == ["Segmentation fault"]
    assert render_line('{"type":"assistant","message":{"con') == ['? {"type":"assistant","message":{"con']
    assert len(render_line("{" + "x" * 10_000)[0]) <= 160


@pytest.mark.parametrize(
    "event",
    [
        assistant(text("\x1b[31mred\x07")),
        assistant({"type": "thinking", "thinking": "\x1b[31mred\x07"}),
        assistant({"type": "tool_use", "name": "\x1b[31mred\x07", "input": {"command": "\x1b[2J"}}),
        tool_result("\x1b[31mred\x07"),
        user(text("\x1b[31mred\x07"), agent_id="a"),
        {"type": "system", "subtype": "init", "model": "\x1b[31mred\x07"},
        {"type": "system", "subtype": "permission_denied", "tool_name": "\x1b[31mred\x07"},
        {"type": "result", "is_error": True, "result": "\x1b[31mred\x07"},
    ],
)
def test_nothing_that_a_terminal_obeys_comes_through(event: dict[str, Any]) -> None:
    words = "\n".join(shown(event))
    assert "^[[31mred^G" in words
    assert "\x1b" not in words


json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["type", "message", "content"]), inner),
    max_leaves=8,
)


@given(
    st.sampled_from(["assistant", "user", "result", "system", "rate_limit_event", "control_request"]),
    st.sampled_from(["init", "api_retry", "permission_denied", "success", "compact_boundary", "task_started"]),
    st.dictionaries(
        st.sampled_from(["message", "content", "num_turns", "duration_ms", "request", "tool_use_result"]), json_values
    ),
)
def test_an_odd_event_never_raises(kind: str, subtype: str, fields: dict[str, Any]) -> None:
    for words in shown(fields | {"type": kind, "subtype": subtype}):
        assert "\n" not in words


@given(json_values)
def test_an_odd_block_never_raises(block: Any) -> None:
    for kind in ("text", "thinking", "tool_use", "tool_result"):
        odd = {"type": kind, "text": block, "thinking": block, "name": "Bash", "input": block, "content": block}
        assert all("\n" not in words for words in shown(assistant(odd)))
