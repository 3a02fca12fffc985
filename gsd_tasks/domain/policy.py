"""What becomes of a session when its child is gone: a pure decision, and the only one.

how it ended + what people wanted + what the producer allowed  ->  the next state, with its reason
"""

from __future__ import annotations

import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gsd_tasks.domain.session import OnLost
from gsd_tasks.domain.state import Reason, Status, Wanted

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How an attempt ended: `reason` and one sentence, what the child left, and whether another try may be made of it.

    `succeeded` is the judgement on the child alone; `handed_back` says that the worker stopped, not the session.
    """

    reason: Reason
    detail: str | None = None
    succeeded: bool = False
    handed_back: bool = False
    exit_code: int | None = None
    exit_signal: int | None = None
    result: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The next state of the session."""

    status: Status
    reason: Reason
    detail: str | None
    ending: Ending


def decide(ending: Ending, *, wanted: Wanted | None, on_lost: OnLost) -> Verdict:
    """The next state. What ended by itself counts as it ended, even when a cancel came too late to matter."""
    if ending.succeeded:
        return Verdict(status=Status.COMPLETED, reason=ending.reason, detail=ending.detail, ending=ending)
    if wanted is Wanted.CANCEL:
        return Verdict(
            status=Status.CANCELLED, reason=Reason.CANCELLED, detail="cancelled while running", ending=ending
        )
    if ending.handed_back and on_lost is OnLost.REQUEUE:
        return Verdict(status=Status.QUEUED, reason=ending.reason, detail=ending.detail, ending=ending)
    return Verdict(status=Status.FAILED, reason=ending.reason, detail=ending.detail, ending=ending)


def judge_command(exit_code: int | None, exit_signal: int | None) -> Ending:
    """What a plain command's own end means."""
    if exit_signal is not None:
        detail = f"the child was ended by {signal_name(exit_signal)}"
        return Ending(reason=Reason.SIGNALLED, detail=detail, exit_signal=exit_signal)
    if exit_code == 0:
        return Ending(reason=Reason.FINISHED, succeeded=True, exit_code=0)
    return Ending(reason=Reason.EXIT_CODE, detail=f"the child exited with code {exit_code}", exit_code=exit_code)


def signal_name(number: int) -> str:
    """`SIGKILL` for 9; real-time signals have a number alone."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
