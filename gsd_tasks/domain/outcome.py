"""How a Claude session ended: by what the CLI says of itself first, by how it exited last.

Its exit code alone says little: a denied tool ends in success with 0, an interrupted run is an error with 0, and a run
whose answer was complete before something ended the process has succeeded.
"""

from __future__ import annotations

import signal
from collections import Counter
from typing import TYPE_CHECKING, Final, NamedTuple

from gsd_tasks.domain.api_failures import asks_again_at, failure_of
from gsd_tasks.domain.claude_words import shorten
from gsd_tasks.domain.credentials import ADVICE
from gsd_tasks.domain.session import OnDenied
from gsd_tasks.domain.state import Reason

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from gsd_tasks.domain.claude_conversation import Conversation
    from gsd_tasks.domain.claude_results import Denial, ResultEvent

_DETAIL_CHARS: Final = 500
_MOST_TOOLS: Final = 10
_ABORTED: Final = ("aborted_streaming", "aborted_tools")
_LIMITS: Final[Mapping[str, Reason]] = {
    "error_max_turns": Reason.MAX_TURNS,
    "error_max_budget_usd": Reason.MAX_BUDGET,
}
#: What a newcomer reads before the CLI's own words, and after them.
_SENTENCES: Final[Mapping[Reason, tuple[str, str]]] = {
    Reason.RATE_LIMITED: ("the API limits how much this account may ask for", ""),
    Reason.OVERLOADED: ("the API is overloaded", ""),
    Reason.API_FAILED: ("the API failed", ""),
    Reason.UNREACHABLE: ("the API could not be reached from the worker, or broke off", ""),
    Reason.UNAUTHENTICATED: (
        "the API does not accept the worker's credentials",
        f"{ADVICE}, then `gsd-tasks retry` this session",
    ),
    Reason.REFUSED: ("the API refused the request, and would refuse it again", ""),
    Reason.MAX_TURNS: ("it has used up its turns", "--max-turns allows more"),
    Reason.MAX_BUDGET: ("it has used up its budget", "--max-budget-usd allows more"),
}


class Verdict(NamedTuple):
    """How a Claude session ended: well or not, why, and a sentence for people.

    `retry_at` is when the API may answer again, if it told.
    """

    ok: bool
    reason: Reason
    detail: str
    retry_at: datetime | None = None


def judge(
    conversation: Conversation,
    exit_code: int | None,
    exit_signal: int | None,
    *,
    ended_at: datetime,
    on_denied: OnDenied = OnDenied.FAIL,
) -> Verdict:
    """The last result counts, and of all results the denials: what was not allowed in one turn is not done in another.

    A failure that ended the run says more than a denial on the way to it, so it goes first.
    """
    result = conversation.result
    exit_words = _exit_words(exit_code, exit_signal)
    if result is None:
        words = f"claude ended with {exit_words} before it gave a result; what it printed may say why"
        return Verdict(False, Reason.NO_RESULT, words)
    if result.is_error or result.subtype != "success":
        return _failed(conversation, result, ended_at)
    if result.permission_denials and on_denied is OnDenied.FAIL:
        return Verdict(False, Reason.PERMISSION_DENIED, _denied_words(result.permission_denials))
    turns = "1 turn" if result.num_turns == 1 else f"{result.num_turns} turns"
    after = "" if exit_code == 0 else f", then {exit_words}"
    return Verdict(True, Reason.FINISHED, f"claude answered after {turns}, ${result.total_cost_usd:.4f}{after}")


def _failed(conversation: Conversation, result: ResultEvent, ended_at: datetime) -> Verdict:
    if result.terminal_reason in _ABORTED:
        # What the CLI itself says to this is for its makers.
        return Verdict(False, Reason.INTERRUPTED, "it was interrupted before its turn was done")
    if limit := _LIMITS.get(result.subtype):
        return Verdict(False, limit, _error_words(limit, result))
    reason = failure_of(result, conversation.error) or Reason.CLAUDE_ERROR
    return Verdict(False, reason, _error_words(reason, result), asks_again_at(conversation, reason, ended_at))


def _error_words(reason: Reason, result: ResultEvent) -> str:
    # One sentence for the history: the whole text stands in the session's result and in its output.
    said = shorten(result.text, _DETAIL_CHARS)
    said = said or f"claude reports {result.subtype or 'an error'} ({result.terminal_reason or 'no reason given'})"
    before, after = _SENTENCES.get(reason, ("", ""))
    words = f"{before}: {said}" if before else said
    # More may follow in the same sentence.
    words = words.removesuffix(".")
    return f"{words}; {after}" if after else words


def _denied_words(denials: Iterable[Denial]) -> str:
    counts = Counter(denial.tool for denial in denials)
    tools = [tool if count == 1 else f"{tool} ({count} times)" for tool, count in counts.items()]
    more = f" and {len(tools) - _MOST_TOOLS} more" if len(tools) > _MOST_TOOLS else ""
    return (
        f"claude was not allowed to use {', '.join(tools[:_MOST_TOOLS])}{more}: allow it with --allowed-tools or "
        "--permission-mode, or say --on-denied ignore if it can do without"
    )


def _exit_words(exit_code: int | None, exit_signal: int | None) -> str:
    if exit_signal is None:
        return f"exit code {exit_code}" if exit_code is not None else "an unknown exit"
    known = {member.value: member.name for member in signal.Signals}
    return f"signal {exit_signal} ({known.get(exit_signal, 'unnamed')})"
