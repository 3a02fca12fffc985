"""Every fault of the API that the real CLI can meet, as a session on a real cluster: what becomes of it, and its words.

All of them side by side, on one worker. Those that are no fault of the session come back by themselves, and complete:
here after half a second and more, where `GSD_RETRY_BASE_S` is 5 in earnest.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import pytest

from gsd_tasks.domain.session import HistoryEntry, Session
from gsd_tasks.domain.state import Reason, Status
from gsd_tasks.testing import ApiError, Cut, Hang, OfflineModel, Pings, Text, ToolCall, Turn, by_prompt
from tests.claude_cli import BUNDLED_CLAUDE
from tests.cluster import Cluster
from tests.waiting import BOUND_S, until

AFTER_ALL: Final = Text("After all.")
FORBIDDEN: Final = ToolCall("Bash", {"command": "/usr/bin/mkfifo pipe"})
#: Nobody answers there: it is bound, and nobody listens.
NOBODY: Final = "ANTHROPIC_BASE_URL"
#: The CLI asks twice: it is told to try once more.
TWICE: Final = 2
RESETS_AT: Final = datetime.now(UTC).replace(second=0, microsecond=0) + timedelta(hours=3)
RATE: Final = "anthropic-ratelimit-unified"
PLAN_LIMIT: Final = {
    f"{RATE}-status": "rejected",
    f"{RATE}-representative-claim": "five_hour",
    f"{RATE}-reset": f"{RESETS_AT.timestamp():.0f}",
    f"{RATE}-5h-status": "rejected",
    f"{RATE}-5h-utilization": "1.0",
    f"{RATE}-5h-reset": f"{RESETS_AT.timestamp():.0f}",
}
WITH_A_PLAN: Final = {"ANTHROPIC_API_KEY": "", "CLAUDE_CODE_OAUTH_TOKEN": "offline"}


@dataclass(frozen=True)
class Fault:
    """What the API does, and what the session's first attempt must end as. `words` are parts of its sentence."""

    script: Sequence[Turn]
    becomes: Status
    reason: Reason
    words: Sequence[str]
    options: Mapping[str, Any] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)


def once(fault: Turn, *, requests: int = TWICE) -> list[Turn]:
    """It lasts for as many requests as one run of the CLI makes of it."""
    return [fault] * requests + [AFTER_ALL]


AGAIN: Final = "; try 2 of 30 begins in "
FAULTS: Final[Mapping[str, Fault]] = {
    "429 short": Fault(
        # This one the CLI waits for by itself.
        [ApiError(429, "rate_limit_error", "Slow down", retry_after=1), AFTER_ALL],
        Status.COMPLETED,
        Reason.FINISHED,
        ["claude answered after 1 turn, $"],
    ),
    "429 long": Fault(
        once(ApiError(429, "rate_limit_error", "Slow down", retry_after=61), requests=1),
        Status.QUEUED,
        Reason.RATE_LIMITED,
        ["the API limits how much this account may ask for: ", "(429) · Slow down", AGAIN],
    ),
    "limit of a plan": Fault(
        [ApiError(429, "rate_limit_error", "Over the limit", headers=PLAN_LIMIT), AFTER_ALL],
        Status.QUEUED,
        Reason.RATE_LIMITED,
        ["You've hit your 5-hour limit", "; it waits until ", " UTC, then try 2 of 30 begins"],
        env=WITH_A_PLAN,
    ),
    "529": Fault(
        once(ApiError(529, "overloaded_error", "Overloaded")),
        Status.QUEUED,
        Reason.OVERLOADED,
        ["the API is overloaded: API Error: 529 Overloaded", AGAIN],
    ),
    "500": Fault(
        once(ApiError(500, "api_error", "Internal server error")),
        Status.QUEUED,
        Reason.API_FAILED,
        ["the API failed: API Error: 500 Internal server error", AGAIN],
    ),
    "cut": Fault(
        # It asks once more without a stream.
        once(Cut(after=4), requests=TWICE + 1),
        Status.QUEUED,
        Reason.UNREACHABLE,
        ["the API could not be reached from the worker, or broke off: ", "(ECONNRESET)", AGAIN],
    ),
    "refused": Fault(
        [],
        Status.QUEUED,
        Reason.UNREACHABLE,
        ["the API could not be reached from the worker, or broke off: ", "(ECONNREFUSED)", AGAIN],
        env={NOBODY: ""},
    ),
    "401": Fault(
        once(ApiError(401, "authentication_error", "invalid x-api-key")),
        Status.FAILED,
        Reason.UNAUTHENTICATED,
        [
            "does not accept the worker's credentials: ",
            "ANTHROPIC_API_KEY",
            "`claude setup-token`",
            "`gsd-tasks retry`",
        ],
    ),
    "expired token": Fault(
        once(ApiError(401, "authentication_error", "OAuth token has expired"), requests=4),
        Status.FAILED,
        Reason.UNAUTHENTICATED,
        ["OAuth token has expired", "`claude setup-token`"],
        env=WITH_A_PLAN,
    ),
    "no credit": Fault(
        once(ApiError(400, "invalid_request_error", "Your credit balance is too low to access the Anthropic API.")),
        Status.FAILED,
        Reason.REFUSED,
        ["the API refused the request, and would refuse it again: Credit balance is too low"],
    ),
    "413": Fault(
        once(ApiError(413, "request_too_large", "Too large")),
        Status.FAILED,
        Reason.REFUSED,
        ["the API refused the request, and would refuse it again: Request too large"],
    ),
    "silent stream": Fault(
        [Hang(60, after=3)],
        Status.FAILED,
        Reason.IDLE_TIMEOUT,
        ["it printed nothing for 2s: neither the API nor a tool came to an end; --idle-timeout allows more"],
        {"idle_timeout_s": 2},
    ),
    "endless pings": Fault(
        [Pings(60, after=2)],
        Status.FAILED,
        Reason.IDLE_TIMEOUT,
        ["it printed nothing for 2s: neither the API nor a tool came to an end; --idle-timeout allows more"],
        {"idle_timeout_s": 2},
    ),
    "endless pings, all in all": Fault(
        [Pings(60, after=2)],
        Status.FAILED,
        Reason.TIMEOUT,
        ["it ran for its whole 3s; --timeout allows more"],
        {"timeout_s": 3},
    ),
    "denied": Fault(
        [FORBIDDEN, Text("I may not.")],
        Status.FAILED,
        Reason.PERMISSION_DENIED,
        ["claude was not allowed to use Bash: ", "--allowed-tools", "--permission-mode", "--on-denied ignore"],
    ),
    "denied, and ignored": Fault(
        [FORBIDDEN, Text("I may not.")],
        Status.COMPLETED,
        Reason.FINISHED,
        ["claude answered after 2 turns, $"],
        {"on_denied": "ignore"},
    ),
    "turns used up": Fault(
        [FORBIDDEN, FORBIDDEN, Text("Done.")],
        Status.FAILED,
        Reason.MAX_TURNS,
        ["it has used up its turns: Reached maximum number of turns (1); --max-turns allows more"],
        {"max_turns": 1},
    ),
    "budget used up": Fault(
        [FORBIDDEN, Text("Done.")],
        Status.FAILED,
        Reason.MAX_BUDGET,
        ["it has used up its budget: Reached maximum budget ($0.0001); --max-budget-usd allows more"],
        {"max_budget_usd": 0.0001},
    ),
}
#: Those that nothing cures within this test.
WAITING: Final = ("limit of a plan", "refused")
CURED: Final = ("429 long", "529", "500", "cut")


@pytest.fixture
def nobody() -> Iterator[str]:
    """An address that refuses every connection, and is nobody else's meanwhile."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{bound.getsockname()[1]}"


def test_each_fault_of_the_api_ends_in_the_right_state_with_words_for_a_newcomer(cluster: Cluster, nobody: str) -> None:
    scripts = {f"[{name}]": fault.script for name, fault in FAULTS.items()}
    with OfflineModel(by_prompt(scripts)) as model:
        cluster.worker(env=model.env | {"GSD_CLAUDE_BIN": str(BUNDLED_CLAUDE), "GSD_RETRY_BASE_S": "1"})
        cluster.maintenance()
        sessions = {name: enqueue(cluster, name, fault, nobody) for name, fault in FAULTS.items()}
        ends = {name: first_end(cluster, session) for name, session in sessions.items()}

        found = {name: (end.to_status, end.reason) for name, end in ends.items()}
        assert found == {name: (fault.becomes, fault.reason) for name, fault in FAULTS.items()}
        unsaid = {
            name: (end.detail, words)
            for name, end in ends.items()
            for words in FAULTS[name].words
            if words not in (end.detail or "")
        }
        assert unsaid == {}

        for name in CURED:
            ended = cluster.client.wait(sessions[name].id, timeout_s=BOUND_S)
            assert (ended.status, ended.attempt, ended.tries) == (Status.COMPLETED, 2, 1), ended
            assert ended.result is not None
            assert ended.result["text"] == "After all."
        check_that_it_waits(cluster, sessions["limit of a plan"])
        for name in WAITING:
            cluster.client.cancel(sessions[name].id)


def enqueue(cluster: Cluster, name: str, fault: Fault, nobody: str) -> Session:
    given = {variable: nobody if variable == NOBODY else value for variable, value in fault.env.items()}
    return cluster.client.enqueue(
        prompt=f"Are you there? [{name}]",
        name=name,
        working_dir=cluster.folder,
        env={"CLAUDE_CODE_MAX_RETRIES": str(TWICE - 1), **given},
        **fault.options,
    )


def first_end(cluster: Cluster, session: Session) -> HistoryEntry:
    """How its first attempt ended."""

    def ended() -> list[HistoryEntry]:
        return [entry for entry in cluster.client.history(session.id) if entry.from_status is Status.RUNNING]

    return until(ended, timeout_s=2 * BOUND_S, what=f"the first end of {session.name}")[0]


def check_that_it_waits(cluster: Cluster, session: Session) -> None:
    """Until the API says that it will answer again, and shows so."""
    waiting = cluster.client.get(session.id)
    assert (waiting.status, waiting.attempt, waiting.tries) == (Status.QUEUED, 1, 1)
    assert waiting.run_at is not None
    assert timedelta() <= waiting.run_at - RESETS_AT < timedelta(seconds=10)
    assert f"{waiting.run_at:%H:%M} UTC" in (waiting.detail or "")
