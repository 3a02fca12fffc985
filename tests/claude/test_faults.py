"""What the real CLI makes of faults, and how it is judged. As whole sessions: tests/acceptance/test_api_faults.py."""

from __future__ import annotations

import signal
import threading
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

import pytest

from gsd_tasks.domain.session import ClaudeOptions
from gsd_tasks.domain.state import Reason
from gsd_tasks.testing import ApiError, Cut, Hang, OfflineModel, Pings, Text, ToolCall, Turn, by_prompt
from tests.claude.conftest import Claude

FORBIDDEN = ToolCall("Bash", {"command": "/usr/bin/mkfifo pipe"})
LIMITED = ApiError(429, "rate_limit_error", "Slow down", retry_after=61)
WITH_A_PLAN = {"ANTHROPIC_API_KEY": "", "CLAUDE_CODE_OAUTH_TOKEN": "offline"}
RATE = "anthropic-ratelimit-unified"


@pytest.fixture
def impatient(claude: Claude) -> Claude:
    claude.env = {"CLAUDE_CODE_MAX_RETRIES": "1"}
    return claude


@pytest.mark.parametrize(
    ("script", "env", "reason", "words"),
    [
        ([ApiError(400, "invalid_request_error", "no such field")] * 9, {}, Reason.REFUSED, "no such field"),
        (
            [ApiError(400, "invalid_request_error", "prompt is too long: 250000 tokens > 200000 maximum")] * 9,
            {},
            Reason.REFUSED,
            "Prompt is too long",
        ),
        ([ApiError(403, "permission_error", "not for you")] * 2, {}, Reason.UNAUTHENTICATED, "not for you"),
        ([ApiError(404, "not_found_error", "model: x")] * 9, {}, Reason.REFUSED, "the selected model"),
        ([], {"ANTHROPIC_API_KEY": ""}, Reason.UNAUTHENTICATED, "Not logged in"),
        ([], {"ANTHROPIC_BASE_URL": "http://host.invalid"}, Reason.UNREACHABLE, "the API could not be reached"),
    ],
)
def test_the_cli_gives_up_for_a_reason_that_is_told_apart(
    impatient: Claude, script: Sequence[Turn], env: Mapping[str, str], reason: Reason, words: str
) -> None:
    impatient.env = {**impatient.env, **env}
    with OfflineModel(script) as model:
        ended = impatient.run(model, "Are you there?")

    assert ended.verdict[:2] == (False, reason)
    assert words in ended.verdict.detail


def test_a_limit_of_the_account_says_until_when(impatient: Claude) -> None:
    resets_at = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=3)
    headers = {
        f"{RATE}-status": "rejected",
        f"{RATE}-representative-claim": "five_hour",
        f"{RATE}-reset": f"{resets_at.timestamp():.0f}",
    }
    impatient.env = {**impatient.env, **WITH_A_PLAN}
    with OfflineModel([ApiError(429, "rate_limit_error", "Over it", headers=headers)]) as model:
        ended = impatient.run(model, "Are you there?")

    assert (ended.verdict.reason, ended.verdict.retry_at) == (Reason.RATE_LIMITED, resets_at)
    assert len(model.requests) == 1


@pytest.mark.parametrize("failure", [ApiError(429, "rate_limit_error", retry_after=1), Cut(after=0), Cut(after=4)])
def test_one_failure_is_retried(impatient: Claude, failure: ApiError | Cut) -> None:
    with OfflineModel([failure, Text("After all.")]) as model:
        ended = impatient.run(model, "Are you there?")

    assert ended.verdict.reason is Reason.FINISHED
    assert ended.conversation.result is not None
    assert ended.conversation.result.text == "After all."
    assert len(model.requests) == 2


@pytest.mark.parametrize(
    ("script", "counts"),
    [
        ([FORBIDDEN, Text("I may not."), Text("But this.")], 1),
        ([Text("This."), FORBIDDEN, Text("But not that.")], 1),
        ([FORBIDDEN, Text("I may not."), FORBIDDEN, Text("Nor may I now.")], 2),
    ],
)
def test_what_was_denied_in_any_turn_counts(claude: Claude, script: Sequence[Turn], counts: int) -> None:
    with OfflineModel(script) as model:
        ended = claude.converse(model, "Make a pipe", "And now?")

    assert ended.stdout.count(b'"subtype":"init"') == 2
    assert ended.verdict[:2] == (False, Reason.PERMISSION_DENIED)
    assert ("Bash (2 times):" if counts == 2 else "Bash:") in ended.verdict.detail


def test_what_a_subagent_was_denied_counts(claude: Claude) -> None:
    delegation = ToolCall("Task", {"description": "do", "prompt": "Do it", "subagent_type": "general-purpose"})
    script = by_prompt({"Do it": [FORBIDDEN, Text("I may not.")]}, default=[delegation, Text("It may not.")])
    with OfflineModel(script) as model:
        ended = claude.run(model, "Have it done")

    assert ended.verdict[:2] == (False, Reason.PERMISSION_DENIED)


def test_a_turn_that_goes_well_after_one_that_failed_is_what_counts(impatient: Claude) -> None:
    with OfflineModel([LIMITED, Text("After all.")]) as model:
        ended = impatient.converse(model, "Are you there?", "And now?")

    assert ended.stdout.count(b'"is_error":true') == 1
    assert ended.verdict.ok, ended.verdict


def test_a_limit_of_a_former_turn_is_forgotten_when_the_last_one_meets_another_fault(impatient: Claude) -> None:
    overloaded = ApiError(529, "overloaded_error", "Overloaded")
    with OfflineModel([LIMITED, overloaded, overloaded, Text("Never said.")]) as model:
        ended = impatient.converse(model, "Are you there?", "And now?")

    assert ended.verdict.reason is Reason.OVERLOADED


def test_the_budget_is_a_limit_of_its_own(claude: Claude) -> None:
    with OfflineModel([FORBIDDEN, Text("Done.")]) as model:
        ended = claude.run(model, "Spend", ClaudeOptions(max_budget_usd=0.0001))

    assert ended.verdict[:2] == (False, Reason.MAX_BUDGET)


def test_an_interrupted_turn_is_no_answer_although_it_exits_with_0(claude: Claude) -> None:
    with OfflineModel([Hang(seconds=60, after=3)]) as model:
        process = claude.start(model, "Think hard")
        model.wait_for(1)
        process.send_signal(signal.SIGINT)
        ended = claude.end(process)

    assert (ended.exit_code, ended.verdict.reason) == (0, Reason.INTERRUPTED)


def test_a_killed_session_has_no_result(claude: Claude) -> None:
    with OfflineModel([Hang(seconds=60, after=3)]) as model:
        process = claude.start(model, "Think hard")
        model.wait_for(1)
        process.kill()
        ended = claude.end(process)

    assert ended.verdict[:2] == (False, Reason.NO_RESULT)
    assert "SIGKILL" in ended.verdict.detail
    assert ended.exit_signal == signal.SIGKILL


@pytest.mark.parametrize("kind", [Hang, Pings])
def test_a_silent_model_goes_on_when_it_is_released(claude: Claude, kind: type[Hang]) -> None:
    released = threading.Event()
    with OfflineModel([kind(seconds=60, released=released, answer=Text("At last."))]) as model:
        process = claude.start(model, "Take your time")
        model.wait_for(1)
        assert process.poll() is None
        released.set()
        ended = claude.end(process)

    assert ended.conversation.result is not None
    assert ended.conversation.result.text == "At last."
