"""A transition of a session as Celery's own events would tell it, were they all sent, and all heard.

They are not: nobody sends one for a session that is cancelled while it is queued, or whose worker has died. So the
pages show what Postgres says, and Celery's events of tasks are passed over; arguments come along in none of them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from gsd_tasks.domain.session import HistoryEntry
from gsd_tasks.domain.state import Reason, Status
from gsd_tasks.service.messages import RUN_SESSION
from gsd_tasks.store.showing import Label


class Kind(StrEnum):
    """The events of a task that Celery's state knows; each but ADOPTED leads to a state of its own."""

    SENT = "sent"
    RECEIVED = "received"
    STARTED = "started"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    RETRIED = "retried"
    REVOKED = "revoked"
    ADOPTED = "adopted"  # another worker has it now; it runs on


#: The sentence beside each of these may quote what a child, a model or a producer wrote: here it stays away.
QUOTING: Final = frozenset(
    {
        Reason.FOLLOW_UP,
        Reason.MESSAGE,
        Reason.CLAUDE_ERROR,
        Reason.MAX_TURNS,
        Reason.MAX_BUDGET,
        Reason.RATE_LIMITED,
        Reason.OVERLOADED,
        Reason.UNREACHABLE,
        Reason.API_FAILED,
        Reason.UNAUTHENTICATED,
        Reason.REFUSED,
        Reason.WORKING_DIR,
        Reason.NO_CLAUDE,
        Reason.START_FAILED,
        Reason.INTERNAL,
    }
)
#: And these have one that is ours: numbers, ids, names of tools and of secrets.
OURS: Final = frozenset(
    {
        Reason.ENQUEUED,
        Reason.CLAIMED,
        Reason.ADOPTED,
        Reason.PAUSED,
        Reason.RESUMED,
        Reason.RETRIED,
        Reason.FINISHED,
        Reason.EXIT_CODE,
        Reason.SIGNALLED,
        Reason.TIMEOUT,
        Reason.IDLE_TIMEOUT,
        Reason.OUTPUT_LIMIT,
        Reason.NO_RESULT,
        Reason.PERMISSION_DENIED,
        Reason.INTERRUPTED,
        Reason.NO_CREDENTIALS,
        Reason.NO_SECRET,
        Reason.CANCELLED,
        Reason.EXPIRED,
        Reason.DEPENDENCY,
        Reason.WORKER_STOPPED,
        Reason.LEASE_LOST,
        Reason.CHILD_LOST,
        Reason.SPOOL_FAILED,
    }
)

ENDS: Final = {Status.COMPLETED: Kind.SUCCEEDED, Status.FAILED: Kind.FAILED, Status.CANCELLED: Kind.REVOKED}


@dataclass(frozen=True, slots=True)
class Told:
    """One event. `fields` are those of Celery's `Task`."""

    session_id: str
    kind: Kind
    at: float
    worker: str | None
    fields: dict[str, Any] = field(default_factory=dict)


def tell(entry: HistoryEntry, label: Label) -> list[Told]:
    """What a transition is in Celery's words."""
    fields: dict[str, Any] = {
        "name": label.name or RUN_SESSION,
        "args": "",
        "kwargs": "",
        "received": label.created_at.timestamp(),
        "routing_key": label.queue,
        "retries": max(0, entry.attempt - 1),
        "result": "",
        "exception": None,
    }
    kinds = _kinds(entry)
    if kinds[-1] not in (Kind.SENT, Kind.RECEIVED, Kind.STARTED, Kind.ADOPTED):
        fields["result"] = said(entry)
    if kinds[-1] is Kind.FAILED:
        fields["exception"] = fields["result"]
    return [Told(str(entry.session_id), kind, entry.at.timestamp(), entry.worker, dict(fields)) for kind in kinds]


def said(entry: HistoryEntry) -> str:
    """Why it happened, in words that are nobody's but ours."""
    if entry.reason in OURS and entry.detail:
        return f"{entry.reason}: {entry.detail}"
    return f"{entry.reason} (`gsd-tasks history` says more)" if entry.detail else str(entry.reason)


def _kinds(entry: HistoryEntry) -> tuple[Kind, ...]:
    if entry.to_status is Status.RUNNING:
        adopted = entry.from_status is Status.RUNNING
        return (Kind.ADOPTED,) if adopted else (Kind.RECEIVED, Kind.STARTED)
    if entry.from_status is None:
        return (Kind.SENT,)
    # Queued again, paused, or waiting for an answer: not over.
    return (ENDS.get(entry.to_status, Kind.RETRIED),)
