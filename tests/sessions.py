"""A session, a row of its output and a step of its history, as values: for tests that ask no database."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from gsd_tasks.domain.session import (
    ClaudeOptions,
    HistoryEntry,
    Kind,
    Limits,
    OnLost,
    OutputRow,
    Session,
    SessionId,
    Stream,
)
from gsd_tasks.domain.state import Reason, Status

ID = SessionId(UUID("0199a1b2-c3d4-7e5f-8000-000000000001"))
AT = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


def session(**changes: Any) -> Session:
    """A command that is queued, but for `changes`."""
    queued = Session(
        id=ID,
        kind=Kind.COMMAND,
        status=Status.QUEUED,
        wanted=None,
        reason=Reason.ENQUEUED,
        detail=None,
        name=None,
        thread=None,
        parent_id=None,
        queue="sessions",
        priority=5,
        key=None,
        prompt=None,
        command=("true",),
        working_dir="/srv",
        env={"TOKEN": "***"},
        context={},
        limits=Limits(),
        claude=ClaudeOptions(),
        on_lost=OnLost.FAIL,
        max_tries=1,
        max_recoveries=3,
        tries=0,
        recoveries=0,
        attempt=0,
        seq=0,
        worker=None,
        slot=None,
        exit_code=None,
        exit_signal=None,
        result=None,
        created_at=AT,
        run_at=None,
        expires_at=None,
        started_at=None,
        ended_at=None,
    )
    return replace(queued, **changes)


def row(
    seq: int, data: str | bytes, *, stream: Stream = Stream.STDOUT, eol: bool = True, attempt: int = 1
) -> OutputRow:
    """A row; bytes for one that is no valid text."""
    text, raw = (data, None) if isinstance(data, str) else (None, data)
    return OutputRow(ID, seq, attempt, stream, AT + timedelta(seconds=seq), text, raw, eol)


def entry(
    to: Status, reason: Reason, *, detail: str | None = None, attempt: int = 1, came_from: Status | None = None
) -> HistoryEntry:
    """A transition."""
    return HistoryEntry(
        id=1,
        session_id=ID,
        from_status=came_from,
        to_status=to,
        attempt=attempt,
        worker="w@host",
        reason=reason,
        detail=detail,
        at=AT,
    )
