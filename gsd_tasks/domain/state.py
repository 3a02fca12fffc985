"""The states of a session, and every way from one to another.

The database enforces the same table by a trigger (`store/migrations`), and one function per transition in
`gsd_tasks.store.transitions` is all that writes a status.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class Status(StrEnum):
    """Where a session stands."""

    QUEUED = "queued"
    RUNNING = "running"
    WAITING_CHECKPOINT = "waiting_checkpoint"
    PAUSED = "paused"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        """Nothing more happens by itself."""
        return self in FINAL


FINAL: Final = frozenset({Status.COMPLETED, Status.FAILED, Status.CANCELLED})

TRANSITIONS: Final[frozenset[tuple[Status, Status]]] = frozenset(
    {
        (Status.QUEUED, Status.RUNNING),
        (Status.QUEUED, Status.FAILED),
        (Status.QUEUED, Status.PAUSED),
        (Status.QUEUED, Status.CANCELLED),
        (Status.RUNNING, Status.COMPLETED),
        (Status.RUNNING, Status.FAILED),
        (Status.RUNNING, Status.QUEUED),
        (Status.RUNNING, Status.WAITING_CHECKPOINT),
        (Status.RUNNING, Status.PAUSED),
        (Status.RUNNING, Status.CANCELLED),
        (Status.WAITING_CHECKPOINT, Status.QUEUED),
        (Status.WAITING_CHECKPOINT, Status.FAILED),
        (Status.WAITING_CHECKPOINT, Status.CANCELLED),
        (Status.PAUSED, Status.QUEUED),
        (Status.PAUSED, Status.CANCELLED),
        (Status.COMPLETED, Status.QUEUED),
        (Status.FAILED, Status.QUEUED),
        (Status.CANCELLED, Status.QUEUED),
    }
)


class Wanted(StrEnum):
    """What people want of a running session; only its holder, or the reaper after expiry, carries it out."""

    CANCEL = "cancel"
    PAUSE = "pause"


class Reason(StrEnum):
    """Why a transition happened. Closed: the database refuses any other; a sentence beside it says the rest."""

    ENQUEUED = "enqueued"
    CLAIMED = "claimed"
    ADOPTED = "adopted"
    PAUSED = "paused"
    RESUMED = "resumed"
    RETRIED = "retried"
    FOLLOW_UP = "follow_up"
    MESSAGE = "message"
    # How a child ends.
    FINISHED = "finished"
    EXIT_CODE = "exit_code"
    SIGNALLED = "signalled"
    TIMEOUT = "timeout"
    IDLE_TIMEOUT = "idle_timeout"
    OUTPUT_LIMIT = "output_limit"
    CLAUDE_ERROR = "claude_error"
    NO_RESULT = "no_result"
    PERMISSION_DENIED = "permission_denied"
    MAX_TURNS = "max_turns"
    MAX_BUDGET = "max_budget"
    INTERRUPTED = "interrupted"
    # What the API answered, when the CLI had given up.
    RATE_LIMITED = "rate_limited"
    OVERLOADED = "overloaded"
    UNREACHABLE = "unreachable"
    API_FAILED = "api_failed"
    UNAUTHENTICATED = "unauthenticated"
    REFUSED = "refused"
    # Why a child never began.
    WORKING_DIR = "working_dir"
    NO_CLAUDE = "no_claude"
    NO_CREDENTIALS = "no_credentials"
    NO_SECRET = "no_secret"  # noqa: S105  (a reason, not a password)
    START_FAILED = "start_failed"
    # What happens around it.
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    DEPENDENCY = "dependency"
    WORKER_STOPPED = "worker_stopped"
    LEASE_LOST = "lease_lost"
    CHILD_LOST = "child_lost"
    SPOOL_FAILED = "spool_failed"
    INTERNAL = "internal"
