"""What Postgres keeps of a session besides its output: each of its attempts, and each entry of its transcript."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from gsd_tasks.domain.state import Reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One execution of a session, and how it ended; `reason` is None as long as it has not.

    Its output rows are those from `first_seq` to `last_seq`. `launching_at` is None where nothing can have begun.
    """

    attempt: int
    worker: str | None
    slot: int
    claimed_at: datetime
    launching_at: datetime | None
    ended_at: datetime | None
    reason: Reason | None
    detail: str | None
    exit_code: int | None
    exit_signal: int | None
    first_seq: int
    last_seq: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TranscriptEntry:
    """A line of the CLI's own record, numbered over all attempts; `entry` is that line, which is JSON, as it stood.

    `is_live`: the conversation consists of it now. One that was restored has left some behind.
    """

    seq: int
    attempt: int
    kind: str | None
    uuid: str | None
    is_live: bool
    entry: str
    at: datetime
