"""A session's history, gone through from its beginning: it must lead to where the session stands."""

from __future__ import annotations

from collections.abc import Iterable

from gsd_tasks.domain.session import HistoryEntry
from gsd_tasks.domain.state import TRANSITIONS, Reason, Status


def replay(history: Iterable[HistoryEntry], status: Status, attempt: int) -> str | None:
    """What contradicts itself in the history of a session that stands so. None: nothing."""
    at: Status | None = None
    claims = 0
    for step in history:
        claims += step.reason is Reason.CLAIMED
        if step.from_status is not at:
            return f"it goes on from {step.from_status or 'nothing'}, and was {at or 'nothing'} before"
        if not _is_legal(step):
            return f"it goes from {step.from_status or 'nothing'} to {step.to_status} ({step.reason}), as nothing does"
        if step.attempt != claims:
            return f"{step.to_status} ({step.reason}) is of attempt {step.attempt}, after {claims} claims"
        at = step.to_status
    if (at, claims) != (status, attempt):
        return f"it ends {at or 'with nothing'} after {claims} claims, and the session is {status} in attempt {attempt}"
    return None


def _is_legal(step: HistoryEntry) -> bool:
    if step.from_status is None:
        return step.to_status is Status.QUEUED
    # What changes nothing, as another holder does, contradicts nothing.
    return step.from_status is step.to_status or (step.from_status, step.to_status) in TRANSITIONS
