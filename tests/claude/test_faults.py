from __future__ import annotations

import signal
import threading

import pytest

from gsd_tasks.domain.state import Reason
from gsd_tasks.testing import ApiError, Cut, Hang, OfflineModel, Text
from tests.claude.conftest import Claude


@pytest.fixture
def impatient(claude: Claude) -> Claude:
    claude.env = {"CLAUDE_CODE_MAX_RETRIES": "1"}
    return claude


@pytest.mark.parametrize(
    "error", [ApiError(401, "authentication_error", "no such key"), ApiError(529, "overloaded_error", "Overloaded")]
)
def test_an_error_of_the_api_is_the_sessions_error(impatient: Claude, error: ApiError) -> None:
    with OfflineModel([error] * 3) as model:
        ended = impatient.run(model, "Are you there?")

    assert ended.verdict[:2] == (False, Reason.CLAUDE_ERROR)
    assert str(error.status) in ended.verdict.detail
    assert error.message in ended.verdict.detail


@pytest.mark.parametrize("failure", [ApiError(429, "rate_limit_error", retry_after=1), Cut(after=0), Cut(after=4)])
def test_one_failure_is_retried(impatient: Claude, failure: ApiError | Cut) -> None:
    with OfflineModel([failure, Text("After all.")]) as model:
        ended = impatient.run(model, "Are you there?")

    assert ended.verdict.reason is Reason.FINISHED
    assert ended.conversation.result is not None
    assert ended.conversation.result.text == "After all."
    assert len(model.requests) == 2


def test_a_killed_session_has_no_result(claude: Claude) -> None:
    with OfflineModel([Hang(seconds=60, after=3)]) as model:
        process = claude.start(model, "Think hard")
        model.wait_for(1)
        process.kill()
        ended = claude.end(process)

    assert ended.verdict[:2] == (False, Reason.NO_RESULT)
    assert "SIGKILL" in ended.verdict.detail
    assert ended.exit_signal == signal.SIGKILL


def test_a_silent_model_goes_on_when_it_is_released(claude: Claude) -> None:
    released = threading.Event()
    with OfflineModel([Hang(seconds=60, released=released, answer=Text("At last."))]) as model:
        process = claude.start(model, "Take your time")
        model.wait_for(1)
        assert process.poll() is None
        released.set()
        ended = claude.end(process)

    assert ended.conversation.result is not None
    assert ended.conversation.result.text == "At last."
