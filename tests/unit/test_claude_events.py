from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gsd_tasks.domain import claude_conversation
from gsd_tasks.domain.claude_blocks import (
    TextBlock,
    ThinkingBlock,
    ToolResultBlock,
    ToolUseBlock,
    UnknownBlock,
)
from gsd_tasks.domain.claude_conversation import Conversation
from gsd_tasks.domain.claude_events import (
    AssistantEvent,
    CommandLifecycleEvent,
    ControlRequestEvent,
    ControlResponseEvent,
    InitEvent,
    RateLimitEvent,
    ToolProgressEvent,
    Unknown,
)
from gsd_tasks.domain.claude_parsing import parse_line
from gsd_tasks.domain.claude_results import Denial, ResultEvent, Tokens

INIT = {"type": "system", "subtype": "init", "session_id": "s", "model": "m", "claude_code_version": "2", "cwd": "/w"}
# The order is the CLI's: the type of a result stands far behind.
RESULT = {
    "duration_api_ms": 0,
    "total_cost_usd": 0.25,
    "usage": {"input_tokens": 7},
    "permission_denials": [{"tool_name": "Bash", "tool_use_id": "t", "tool_input": {"command": "x"}}],
    "terminal_reason": "completed",
    "is_error": False,
    "num_turns": 2,
    "subtype": "success",
    "result": "Done.",
    "type": "result",
}


def line(event: Any) -> str:
    return json.dumps(event, separators=(",", ":"))


def result(**changes: Any) -> ResultEvent:
    event = parse_line(line(RESULT | changes))
    assert isinstance(event, ResultEvent)
    return event


def test_a_result_is_found_wherever_its_type_stands() -> None:
    event = result(result="x" * 100_000)
    assert (event.num_turns, event.total_cost_usd) == (2, 0.25)
    assert event.permission_denials == (Denial("Bash", "t", {"command": "x"}),)
    assert event.usage == {"input_tokens": 7}
    assert event.extras == {"duration_api_ms": 0}


def test_a_session_keeps_what_people_ask_for() -> None:
    event = result(
        duration_ms=1500,
        usage={"input_tokens": 7, "output_tokens": 5, "cache_read_input_tokens": 3, "cache_creation_input_tokens": 2},
        modelUsage={"m": {"inputTokens": 9, "outputTokens": 8, "cacheReadInputTokens": 1, "costUSD": 0.25, "x": 1}},
        structured_output={"answer": 42},
        api_error_status=529,
        errors=["why"],
    )
    summary = event.summary()
    assert summary.pop("usage") == event.usage
    assert summary == {
        "text": "Done.",
        "structured_output": {"answer": 42},
        "is_error": False,
        "turns": 2,
        "duration_s": 1.5,
        "tokens": {"input": 7, "output": 5, "cache_read": 3, "cache_write": 2},
        "cost_usd": 0.25,
        "model": "m",
        "models": {"m": {"input": 9, "output": 8, "cache_read": 1, "cache_write": 0, "cost_usd": 0.25}},
        "subtype": "success",
        "terminal_reason": "completed",
        "api_error_status": 529,
        "denials": [{"tool": "Bash", "input": {"command": "x"}}],
        "permission_denials": ["Bash"],
    }
    # With subagents, where the CLI tells of them.
    used = {"m": {"inputTokens": 4}, "n": {"inputTokens": 5, "outputTokens": 1}}
    assert result(model_usage_since_last_result=used).tokens == Tokens(9, 1, 0, 0)


@pytest.mark.parametrize(
    "other",
    ["", "no JSON", "[]", "{}", '{"type":"result"', '{"type":5}', '{"type":"resu\\u006ct"', "[" * 100_000],
)
def test_a_line_may_hold_no_event(other: str) -> None:
    assert parse_line(other) is None


@pytest.mark.parametrize(
    "other",
    [
        {"type": "assistant", "message": {"content": [RESULT]}},
        {"message": {"type": "result"}, "type": "user"},
        {"type": "user", "text": line(RESULT)},
        {"type": "system", "subtype": "status"},
        {"type": "system", "subtype": "permission_denied", "tool_name": "Bash"},
    ],
)
def test_what_has_no_part_in_the_outcome_is_passed_over(other: dict[str, Any]) -> None:
    conversation = Conversation()
    conversation.feed(line(RESULT))
    before = conversation.result
    conversation.feed(line(other))
    assert (conversation.result, conversation.init, conversation.retry) == (before, None, None)


def test_unknown_types_and_fields_are_kept() -> None:
    assert parse_line('{"type":"brand_new","a":1}') == Unknown("brand_new", {"type": "brand_new", "a": 1})
    event = parse_line('{"type":"system","subtype":"later","a":1}')
    assert isinstance(event, Unknown)
    assert event.type == "system/later"
    told = parse_line(line(INIT | {"tools": ["Bash"], "model": 7}))
    assert isinstance(told, InitEvent)
    # One of another type is kept, too, and reads as if it were not there.
    assert (told.model, told.extras) == ("", {"tools": ["Bash"], "model": 7})


def test_what_is_left_of_an_inner_object_is_kept_under_its_name() -> None:
    event = parse_line(line({"type": "assistant", "message": {"id": "m", "content": [], "stop_reason": "end_turn"}}))
    assert isinstance(event, AssistantEvent)
    assert event.extras == {"message": {"stop_reason": "end_turn"}}


def test_the_blocks_of_a_message_are_values() -> None:
    content = [
        {"type": "text", "text": "a", "citations": []},
        {"type": "thinking", "thinking": "b", "signature": "s"},
        {"type": "redacted_thinking", "data": "x"},
        {"type": "server_tool_use", "id": "1", "name": "web_search", "input": {"query": "q"}},
        {"type": "web_search_tool_result", "tool_use_id": "1", "content": {"error_code": "unavailable"}},
        {"type": "hologram", "depth": 3},
        "no block",
    ]
    event = parse_line(line({"type": "assistant", "message": {"content": content}}))
    assert isinstance(event, AssistantEvent)
    assert event.blocks == (
        TextBlock("a", {"citations": []}),
        ThinkingBlock("b", {"signature": "s"}),
        ThinkingBlock("", {"data": "x"}),
        ToolUseBlock("1", "web_search", {"query": "q"}, {}),
        ToolResultBlock("1", {"error_code": "unavailable"}, is_error=True, extras={}),
        UnknownBlock("hologram", {"type": "hologram", "depth": 3}),
    )


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (
            {"type": "tool_progress", "tool_name": "Bash", "tool_use_id": "t", "elapsed_time_seconds": 30},
            ToolProgressEvent(tool="Bash", tool_use_id="t", elapsed_s=30, extras={}),
        ),
        (
            {
                "type": "rate_limit_event",
                "rate_limit_info": {"status": "rejected", "resetsAt": 1763730000, "rateLimitType": "five_hour"},
            },
            RateLimitEvent(
                status="rejected", limit="five_hour", resets_at=1763730000, utilization=None, extras={}
            ),
        ),
        (
            {"type": "command_lifecycle", "command_uuid": "u", "state": "queued"},
            CommandLifecycleEvent(uuid="u", state="queued", extras={}),
        ),
        (
            {
                "type": "control_request",
                "request_id": "r",
                "request": {"subtype": "can_use_tool", "tool_name": "Bash", "input": {"command": "x"}},
            },
            ControlRequestEvent(
                request_id="r", subtype="can_use_tool", tool="Bash", input={"command": "x"}, extras={}
            ),
        ),
        (
            {"type": "control_response", "response": {"subtype": "error", "request_id": "r", "error": "no"}},
            ControlResponseEvent(request_id="r", subtype="error", error="no", extras={}),
        ),
    ],
)  # fmt: skip
def test_what_no_recording_has_is_read_by_its_description(event: dict[str, Any], expected: object) -> None:
    assert parse_line(line(event)) == expected


def test_fields_of_a_wrong_type_do_no_harm() -> None:
    fields = {name: {"a": [None]} for name in RESULT}
    event = parse_line(line(fields | {"type": "result"}))
    assert isinstance(event, ResultEvent)
    assert (event.text, event.num_turns, event.is_error) == ("", 0, False)
    assert parse_line('{"type":"result","num_turns":1e999,"total_cost_usd":NaN,"a":-Infinity}') is not None
    assert parse_line('{"type":"result","num_turns":' + "9" * 5000 + "}") is None
    huge = result(num_turns=1e300, total_cost_usd=10**400, api_error_status=True)
    assert (huge.num_turns, huge.total_cost_usd, huge.api_error_status) == (0, 0, None)
    assert huge.extras["api_error_status"] is True


KNOWN = ("assistant", "user", "result", "stream_event", "tool_progress", "rate_limit_event", "control_request")
SUBTYPES = ("init", "status", "api_retry", "permission_denied", "task_started", "model_fallback", "compact_boundary")
NAMES = ("message", "content", "request", "rate_limit_info", "usage", "modelUsage", "permission_denials", "num_turns")
odd = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=3),
    max_leaves=6,
)


@given(st.sampled_from((*KNOWN, *SUBTYPES)), st.dictionaries(st.sampled_from(NAMES), odd))
def test_an_odd_event_is_an_event(kind: str, fields: dict[str, Any]) -> None:
    told = {"type": "system", "subtype": kind} if kind in SUBTYPES else {"type": kind}
    event = parse_line(line(fields | told))
    assert event is not None
    if isinstance(event, ResultEvent):
        json.dumps(event.summary(), allow_nan=False)


@given(st.text() | st.binary())
def test_rubbish_never_raises(data: str | bytes) -> None:
    conversation = Conversation()
    conversation.feed(data)
    assert parse_line(data) is None


def test_what_a_database_refuses_is_replaced() -> None:
    event = result(result="a\0b\ud800c", usage={"\0": float("inf")})
    assert event.text == "a\ufffdb\ufffdc"
    assert event.usage == {"\ufffd": None}


@given(st.lists(st.integers(1, 200), max_size=8))
def test_a_conversation_takes_lines_in_pieces(cuts: list[int]) -> None:
    conversation = Conversation()
    text = json.dumps(INIT | {"cwd": "ü" * 50}, ensure_ascii=False).encode()
    conversation.feed(line({"type": "user"}), eol=False)
    conversation.feed("more of it")
    for size in cuts:
        conversation.feed(text[:size], eol=False)
        text = text[size:]
    conversation.feed(text)
    conversation.feed(line(RESULT), eol=False)
    conversation.end()

    assert isinstance(conversation.init, InitEvent)
    assert conversation.init.working_dir == "ü" * 50
    assert conversation.result is not None
    assert conversation.result.model == "m"


def test_a_further_turn_makes_the_former_result_void() -> None:
    conversation = Conversation()
    for event in (INIT, RESULT, INIT):
        conversation.feed(line(event))
    assert conversation.result is None


def test_denials_of_former_turns_are_remembered_in_brief() -> None:
    conversation = Conversation()
    long = {"tool_name": "Write", "tool_use_id": "w", "tool_input": {"file_path": "a", "content": "x" * 10_000}}
    conversation.feed(line(RESULT | {"permission_denials": [long]}))
    for _ in range(200):
        conversation.feed(line(RESULT))

    assert conversation.result is not None
    denials = conversation.result.permission_denials
    assert len(denials) <= 101
    assert {denial.tool for denial in denials} == {"Bash"}

    conversation = Conversation()
    for denied in ([long], []):
        conversation.feed(line(RESULT | {"permission_denials": denied}))
    assert conversation.result is not None
    [denial] = conversation.result.permission_denials
    assert denial.input["file_path"] == "a"
    assert len(denial.input["content"]) <= 200


@pytest.fixture
def troubled() -> Conversation:
    conversation = Conversation()
    retry = {"type": "system", "subtype": "api_retry", "attempt": 1, "retry_delay_ms": 500, "error_status": 529}
    limit = {"type": "rate_limit_event", "rate_limit_info": {"status": "rejected", "resetsAt": 5}}
    error = {"type": "assistant", "message": {"content": []}, "error": "overloaded"}
    for event in (INIT, retry, limit, error):
        conversation.feed(line(event))
    return conversation


def test_what_the_api_said_is_kept(troubled: Conversation) -> None:
    assert troubled.retry is not None
    assert (troubled.retry.status, troubled.retry.delay_ms) == (529, 500)
    assert troubled.rate_limit is not None
    assert troubled.rate_limit.resets_at == 5
    assert troubled.error == "overloaded"


def test_a_further_turn_has_troubles_of_its_own(troubled: Conversation) -> None:
    troubled.feed(line(INIT))
    assert (troubled.retry, troubled.error) == (None, None)
    assert troubled.rate_limit is not None


@pytest.mark.parametrize(
    "head", ['{"type":"user",', '{"type":"system","subtype":"thinking_tokens",', '{"type":"stream_event"']
)
def test_a_torrent_is_dropped_at_its_head(head: str) -> None:
    conversation = Conversation()
    conversation.feed(head + "x" * 300, eol=False)
    assert conversation._pieces == []


def test_the_memory_of_a_conversation_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claude_conversation, "MAX_LINE_BYTES", 10_000)
    conversation = Conversation()
    for start in ('{"type":"user",', '{"message":'):
        for piece in [start] + ["x" * 1000] * 50:
            conversation.feed(piece, eol=False)
            assert sum(map(len, conversation._pieces)) <= 10_000
        conversation.end()
    conversation.feed(line(RESULT))
    assert conversation.result is not None
