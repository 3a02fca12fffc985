from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gsd_tasks.domain import claude_events
from gsd_tasks.domain.claude_events import Conversation, InitEvent, ResultEvent, judge, parse_line
from gsd_tasks.domain.state import Reason

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
    assert (event.num_turns, event.total_cost_usd, event.permission_denials) == (2, 0.25, ("Bash",))
    assert event.usage == {"input_tokens": 7}
    assert event.extras == {"duration_api_ms": 0}
    assert event.summary()["turns"] == 2


@pytest.mark.parametrize(
    "other",
    [
        "",
        "no JSON",
        "[]",
        '{"type":"result"',
        '{"type":"resu\\u006ct"',
        "[" * 100_000,
        line({"type": "assistant", "message": {"content": [RESULT]}}),
        line({"message": {"type": "result"}, "type": "user"}),
        line({"type": "user", "text": line(RESULT)}),
        line({"type": "system", "subtype": "status"}),
    ],
)
def test_what_is_no_init_and_no_result_is_passed_over(other: str) -> None:
    assert parse_line(other) is None


def test_fields_of_a_wrong_type_do_no_harm() -> None:
    fields = {name: {"a": [None]} for name in RESULT}
    event = parse_line(line(fields | {"type": "result"}))
    assert isinstance(event, ResultEvent)
    assert (event.text, event.num_turns, event.is_error) == ("", 0, False)
    assert parse_line('{"type":"result","num_turns":1e999,"total_cost_usd":NaN,"a":-Infinity}') is not None
    assert parse_line('{"type":"result","num_turns":' + "9" * 5000 + "}") is None


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


def test_the_memory_of_a_conversation_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claude_events, "MAX_LINE_BYTES", 10_000)
    conversation = Conversation()
    for start in ('{"type":"user",', '{"message":'):
        for piece in [start] + ["x" * 1000] * 50:
            conversation.feed(piece, eol=False)
            assert sum(map(len, conversation._pieces)) <= 10_000
        conversation.end()
    conversation.feed(line(RESULT))
    assert conversation.result is not None


@pytest.mark.parametrize(
    ("event", "exit_code", "exit_signal", "expected"),
    [
        (None, 1, None, (False, Reason.NO_RESULT, "claude ended with exit code 1 before it gave a result")),
        (None, None, 9, (False, Reason.NO_RESULT, "claude ended with signal 9 (SIGKILL) before it gave a result")),
        (None, None, None, (False, Reason.NO_RESULT, "claude ended with an unknown exit before it gave a result")),
        ({}, 0, None, (True, Reason.FINISHED, "claude answered after 2 turns, $0.2500")),
        (
            {"num_turns": 1},
            None,
            15,
            (True, Reason.FINISHED, "claude answered after 1 turn, $0.2500, then signal 15 (SIGTERM)"),
        ),
        ({"is_error": True, "result": "API\nError"}, 0, None, (False, Reason.CLAUDE_ERROR, "API Error")),
        (
            {"subtype": "error_during_execution", "result": None},
            0,
            None,
            (False, Reason.CLAUDE_ERROR, "claude reports error_during_execution (completed)"),
        ),
        (
            {"subtype": "error_max_turns", "is_error": True, "result": None, "errors": ["Reached the maximum"]},
            1,
            None,
            (False, Reason.CLAUDE_ERROR, "Reached the maximum"),
        ),
    ],
)
def test_the_result_is_believed_before_the_exit(
    event: dict[str, Any] | None, exit_code: int | None, exit_signal: int | None, expected: tuple[bool, Reason, str]
) -> None:
    assert judge(None if event is None else result(**event), exit_code, exit_signal) == expected


def test_a_long_error_is_one_short_sentence() -> None:
    assert len(judge(result(is_error=True, result="why\n" * 100_000), 1, None).detail) <= 500
