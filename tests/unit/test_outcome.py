"""What the CLI says at the end, as it was recorded (CLI 2.1.327), and what a session's outcome is by that."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from gsd_tasks.domain.claude_conversation import Conversation
from gsd_tasks.domain.credentials import ADVICE
from gsd_tasks.domain.outcome import Verdict, judge
from gsd_tasks.domain.session import OnDenied
from gsd_tasks.domain.state import Reason

NOW = datetime(2026, 11, 21, 10, 0, tzinfo=UTC)
RESET = datetime(2026, 11, 21, 13, 0, tzinfo=UTC)
INIT = {"type": "system", "subtype": "init", "model": "m"}
SUCCESS = {"type": "result", "subtype": "success", "terminal_reason": "completed", "num_turns": 2, "result": "Done."}
API_ERROR = {"type": "result", "subtype": "success", "is_error": True, "terminal_reason": "api_error", "num_turns": 1}
THEN_RETRY = f"{ADVICE}, then `gsd-tasks retry` this session"
LIMIT_HIT = {
    "type": "rate_limit_event",
    "rate_limit_info": {"status": "rejected", "resetsAt": RESET.timestamp(), "rateLimitType": "five_hour"},
}


def heard(*events: dict[str, Any]) -> Conversation:
    conversation = Conversation()
    for event in events:
        conversation.feed(json.dumps(event, separators=(",", ":")))
    return conversation


def failed(error: str | None = None, text: str = "", **fields: Any) -> Conversation:
    """A turn whose request the API refused, as the CLI tells it: by a message of its own, then by the result."""
    told: list[dict[str, Any]] = [{"type": "assistant", "message": {"content": []}, "error": error}] if error else []
    return heard(INIT, *told, API_ERROR | {"result": text} | fields)


def verdict(conversation: Conversation, exit_code: int | None = 1, **more: Any) -> Verdict:
    return judge(conversation, exit_code, None, ended_at=NOW, **more)


def denied(*tools: str) -> dict[str, Any]:
    return {"permission_denials": [{"tool_name": tool, "tool_use_id": "t", "tool_input": {}} for tool in tools]}


@pytest.mark.parametrize(
    ("exit_code", "exit_signal", "words"),
    [
        (1, None, "exit code 1"),
        (0, None, "exit code 0"),
        (None, 9, "signal 9 (SIGKILL)"),
        (None, 64, "signal 64 (SIGRTMAX)"),
        (None, None, "an unknown exit"),
    ],
)
def test_without_a_result_it_has_failed_however_it_exited(
    exit_code: int | None, exit_signal: int | None, words: str
) -> None:
    ended = judge(heard(INIT), exit_code, exit_signal, ended_at=NOW)
    assert ended[:2] == (False, Reason.NO_RESULT)
    assert ended.detail == f"claude ended with {words} before it gave a result; what it printed may say why"


@pytest.mark.parametrize(
    ("turns", "exit_code", "exit_signal", "words"),
    [
        (2, 0, None, "claude answered after 2 turns, $0.2500"),
        (1, None, 15, "claude answered after 1 turn, $0.2500, then signal 15 (SIGTERM)"),
        (1, 1, None, "claude answered after 1 turn, $0.2500, then exit code 1"),
    ],
)
def test_an_answer_is_believed_before_the_exit(
    turns: int, exit_code: int | None, exit_signal: int | None, words: str
) -> None:
    answered = heard(INIT, SUCCESS | {"num_turns": turns, "total_cost_usd": 0.25})
    assert judge(answered, exit_code, exit_signal, ended_at=NOW) == (True, Reason.FINISHED, words, None)


def test_an_error_under_success_is_a_failure_even_with_exit_code_0() -> None:
    ended = verdict(heard(INIT, SUCCESS | {"is_error": True, "result": "It\nbroke"}), exit_code=0)
    assert ended == (False, Reason.CLAUDE_ERROR, "It broke", None)


@pytest.mark.parametrize(
    ("fields", "reason", "words"),
    [
        (
            {"subtype": "error_max_turns", "terminal_reason": "max_turns", "errors": ["Reached maximum (2)"]},
            Reason.MAX_TURNS,
            "it has used up its turns: Reached maximum (2); --max-turns allows more",
        ),
        (
            {"subtype": "error_max_budget_usd", "terminal_reason": "budget_exhausted", "errors": ["Reached ($1)"]},
            Reason.MAX_BUDGET,
            "it has used up its budget: Reached ($1); --max-budget-usd allows more",
        ),
        (
            {"subtype": "error_during_execution", "terminal_reason": "aborted_streaming", "errors": ["[ede] x"]},
            Reason.INTERRUPTED,
            "it was interrupted before its turn was done",
        ),
        (
            {"subtype": "error_during_execution", "terminal_reason": "aborted_tools"},
            Reason.INTERRUPTED,
            "it was interrupted before its turn was done",
        ),
        (
            {"subtype": "error_during_execution", "terminal_reason": "completed"},
            Reason.CLAUDE_ERROR,
            "claude reports error_during_execution (completed)",
        ),
        ({"subtype": "error_of_tomorrow"}, Reason.CLAUDE_ERROR, "claude reports error_of_tomorrow (no reason given)"),
    ],
)
def test_what_ends_a_turn_has_its_reason(fields: dict[str, Any], reason: Reason, words: str) -> None:
    ended = verdict(heard(INIT, {"type": "result", "is_error": True} | fields))
    assert ended == (False, reason, words, None)


@pytest.mark.parametrize(
    ("conversation", "reason"),
    [
        (failed("rate_limit", api_error_status=429, api_error_type="rate_limit_error"), Reason.RATE_LIMITED),
        (failed("rate_limit", api_error_status=429, api_error="usage_limit_reached"), Reason.RATE_LIMITED),
        (failed("rate_limit", api_error_status=429, api_error="long_context_credits_required"), Reason.REFUSED),
        # The CLI's class for an overloaded API is that of any other fault of it.
        (failed("server_error", api_error_status=529, api_error_type="overloaded_error"), Reason.OVERLOADED),
        (failed("unknown", api_error_status=529, api_error_type="overloaded_error"), Reason.OVERLOADED),
        (failed("server_error", api_error_status=500, api_error_type="api_error"), Reason.API_FAILED),
        (failed("server_error", api_error_status=521, api_error_type="api_error"), Reason.API_FAILED),
        (failed("unknown", api_error_type="api_error"), Reason.API_FAILED),
        (failed("unknown", api_error_status=408), Reason.API_FAILED),
        (failed("server_error", api_error="connection_failed"), Reason.UNREACHABLE),
        (failed("server_error", api_error="stream_idle_timeout"), Reason.UNREACHABLE),
        (failed("server_error"), Reason.API_FAILED),
        (failed("authentication_failed", api_error_status=401), Reason.UNAUTHENTICATED),
        (failed("authentication_failed", api_error_status=403), Reason.UNAUTHENTICATED),
        (failed("authentication_failed"), Reason.UNAUTHENTICATED),
        (failed("cloud_credential_error", api_error="provider_credentials"), Reason.UNAUTHENTICATED),
        (failed("billing_error", api_error_status=400), Reason.REFUSED),
        (failed("unknown", api_error_status=400, api_error_type="invalid_request_error"), Reason.REFUSED),
        (failed("unknown", api_error_status=403, api_error_type="permission_error"), Reason.REFUSED),
        (failed("model_not_found", api_error_status=404), Reason.REFUSED),
        (failed("invalid_request", api_error_status=413, terminal_reason="image_error"), Reason.REFUSED),
        (failed("invalid_request", api_error_status=400, terminal_reason="prompt_too_long"), Reason.REFUSED),
        (failed("invalid_request"), Reason.REFUSED),
        (failed("max_output_tokens", api_error="max_output_tokens"), Reason.CLAUDE_ERROR),
        (failed("class_of_tomorrow", api_error="cause_of_tomorrow", text="Oh"), Reason.CLAUDE_ERROR),
    ],
)
def test_a_fault_of_the_api_is_told_by_what_the_cli_says_in_fields(conversation: Conversation, reason: Reason) -> None:
    ended = verdict(conversation)
    assert ended[:2] == (False, reason)
    assert ended.retry_at is None


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('API Error: 529 {"type":"error","error":{"type":"overloaded_error"}}', Reason.OVERLOADED),
        ("API Error: Request rejected (429) · slow down", Reason.RATE_LIMITED),
        ("API Error: 500 Internal server error", Reason.API_FAILED),
        ("Failed to authenticate. API Error: 401 OAuth token has expired.", Reason.UNAUTHENTICATED),
        ("Not logged in · Please run /login", Reason.UNAUTHENTICATED),
        ("Invalid API key · Fix external API key", Reason.UNAUTHENTICATED),
        ("Claude AI usage limit reached|1763730000", Reason.RATE_LIMITED),
        ("You've hit your 5-hour limit · resets 1pm (UTC)", Reason.RATE_LIMITED),
        ("Credit balance is too low", Reason.REFUSED),
        ("API Error: Connection refused (ECONNREFUSED)", Reason.UNREACHABLE),
        ("API Error: Connection error.", Reason.UNREACHABLE),
        ("Something else", Reason.CLAUDE_ERROR),
    ],
)
def test_an_old_cli_has_words_alone(text: str, reason: Reason) -> None:
    assert verdict(failed(text=text)).reason is reason


def test_words_of_the_model_and_of_other_errors_are_no_fault_of_the_api() -> None:
    answer = "API Error: 529 is what they got. Please run /login"
    assert verdict(heard(INIT, SUCCESS | {"result": answer}), exit_code=0).ok
    other = API_ERROR | {"subtype": "error_during_execution", "errors": [answer]}
    assert verdict(heard(INIT, other)).reason is Reason.CLAUDE_ERROR


@pytest.mark.parametrize(
    ("error", "fields", "words"),
    [
        ("rate_limit", {"api_error_status": 429}, "the API limits how much this account may ask for: Slow down"),
        ("overloaded", {}, "the API is overloaded: Slow down"),
        ("server_error", {}, "the API failed: Slow down"),
        (
            "server_error",
            {"api_error": "connection_failed"},
            "the API could not be reached from the worker, or broke off: Slow down",
        ),
        ("billing_error", {}, "the API refused the request, and would refuse it again: Slow down"),
        (
            "authentication_failed",
            {},
            f"the API does not accept the worker's credentials: Slow down; {THEN_RETRY}",
        ),
    ],
)
def test_each_fault_of_the_api_has_a_sentence_for_a_newcomer(error: str, fields: dict[str, Any], words: str) -> None:
    assert verdict(failed(error, "Slow down", **fields)).detail == words


def test_what_the_cli_says_can_be_gone_on_from() -> None:
    assert verdict(failed("overloaded", "Try again later.")).detail == "the API is overloaded: Try again later"


def test_a_long_error_is_one_short_sentence() -> None:
    assert len(verdict(failed(text="why\n" * 100_000)).detail) <= 500


def test_a_limit_of_the_account_says_when_it_is_lifted() -> None:
    told = {"type": "assistant", "message": {"content": []}, "error": "rate_limit"}
    hit = heard(INIT, LIMIT_HIT, told, API_ERROR | {"api_error_status": 429})
    assert verdict(hit).retry_at == RESET

    # The CLI says so when it changes: the next turn hits the same limit in silence.
    again = heard(INIT, LIMIT_HIT, API_ERROR | {"api_error_status": 429}, INIT, API_ERROR | {"api_error_status": 429})
    assert verdict(again).retry_at == RESET


def test_an_old_cli_says_in_its_words_when_the_limit_is_lifted() -> None:
    ended = verdict(failed(text=f"Claude AI usage limit reached|{RESET.timestamp():.0f}"))
    assert ended.retry_at == RESET


@pytest.mark.parametrize(
    ("info", "error"),
    [
        ({"status": "allowed_warning"}, "rate_limit"),
        ({"resetsAt": None}, "rate_limit"),
        # Milliseconds.
        ({"resetsAt": RESET.timestamp() * 1000}, "rate_limit"),
        ({"resetsAt": -5}, "rate_limit"),
        # Whose limit that is matters to nobody else.
        ({}, "overloaded"),
        ({}, "billing_error"),
    ],
)
def test_other_news_of_limits_move_no_retry(info: dict[str, Any], error: str) -> None:
    limit = LIMIT_HIT | {"rate_limit_info": LIMIT_HIT["rate_limit_info"] | info}  # type: ignore[operator]
    told = {"type": "assistant", "message": {"content": []}, "error": error}
    assert verdict(heard(INIT, limit, told, API_ERROR)).retry_at is None


@pytest.mark.parametrize("error", ["rate_limit", "overloaded", "server_error"])
def test_a_session_rests_no_shorter_than_the_cli_did(error: str) -> None:
    retry = {"type": "system", "subtype": "api_retry", "retry_delay_ms": 45_000, "error_status": 429}
    told = {"type": "assistant", "message": {"content": []}, "error": error}
    assert verdict(heard(INIT, retry, told, API_ERROR)).retry_at == NOW + timedelta(seconds=45)
    # Of an earlier turn it says nothing any more.
    assert verdict(heard(INIT, retry, SUCCESS, INIT, told, API_ERROR)).retry_at is None


def test_the_error_of_a_former_turn_or_of_a_subagent_is_not_this_ones() -> None:
    told = {"type": "assistant", "message": {"content": []}, "error": "authentication_failed"}
    broken = {"type": "result", "subtype": "success", "is_error": True, "result": "Oh"}
    assert verdict(heard(INIT, told, INIT, broken)).reason is Reason.CLAUDE_ERROR
    assert verdict(heard(INIT, told | {"parent_tool_use_id": "t"}, broken)).reason is Reason.CLAUDE_ERROR
    assert verdict(heard(INIT, told, broken)).reason is Reason.UNAUTHENTICATED


def test_denied_tools_fail_an_answer_and_are_named_with_what_to_do() -> None:
    ended = verdict(heard(INIT, SUCCESS | denied("Bash", "Write", "Bash")), exit_code=0)
    assert ended[:2] == (False, Reason.PERMISSION_DENIED)
    assert ended.detail == (
        "claude was not allowed to use Bash (2 times), Write: allow it with --allowed-tools or --permission-mode, or "
        "say --on-denied ignore if it can do without"
    )
    many = verdict(heard(INIT, SUCCESS | denied(*(f"T{number}" for number in range(12)))))
    assert "T9 and 2 more:" in many.detail


def test_denied_tools_are_ignored_where_the_producer_says_so() -> None:
    conversation = heard(INIT, SUCCESS | denied("Bash"))
    assert verdict(conversation, exit_code=0, on_denied=OnDenied.IGNORE).ok
    assert conversation.result is not None
    assert [denial.tool for denial in conversation.result.permission_denials] == ["Bash"]


def test_the_last_result_counts_and_of_all_results_the_denials() -> None:
    assert verdict(heard(INIT, API_ERROR, INIT, SUCCESS), exit_code=0).ok
    assert verdict(heard(INIT, SUCCESS, INIT, API_ERROR)).reason is Reason.CLAUDE_ERROR
    assert verdict(heard(INIT, SUCCESS, INIT)).reason is Reason.NO_RESULT
    for turns in ([denied("Bash"), {}], [{}, denied("Bash")]):
        ended = verdict(heard(*(event for turn in turns for event in (INIT, SUCCESS | turn))), exit_code=0)
        assert ended.reason is Reason.PERMISSION_DENIED
        assert "Bash:" in ended.detail


def test_a_failure_that_ended_the_run_says_more_than_a_denial_on_the_way() -> None:
    assert verdict(heard(INIT, API_ERROR | {"api_error_status": 529} | denied("Bash"))).reason is Reason.OVERLOADED
