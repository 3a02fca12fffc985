"""Rows of Postgres as values of the domain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import RowMapping

from gsd_tasks.domain.session import (
    REDACTED,
    ClaudeOptions,
    HistoryEntry,
    Kind,
    Limits,
    OnLost,
    OutputRow,
    PermissionMode,
    Session,
    Stream,
    Submission,
)
from gsd_tasks.domain.state import Reason, Status, Wanted

#: An enum's own look-up costs more than all the rest of a row.
STREAMS: Final = {stream.value: stream for stream in Stream}


def utc(moment: datetime) -> datetime:
    """The server's session may stand in any time zone; ours never does."""
    return moment.astimezone(UTC)


def maybe_utc(moment: datetime | None) -> datetime | None:
    """`utc`, where there may be none."""
    return None if moment is None else utc(moment)


def to_session(row: RowMapping, *, secrets: bool = False) -> Session:
    """A session; the values of its `env` only for the worker that runs it (`secrets`)."""
    env: dict[str, str] = row["env"]
    return Session(
        id=row["id"],
        kind=Kind(row["kind"]),
        status=Status(row["status"]),
        wanted=Wanted(row["wanted"]) if row["wanted"] else None,
        reason=Reason(row["reason"]),
        detail=row["detail"],
        name=row["name"],
        thread=row["thread"],
        parent_id=row["parent_id"],
        queue=row["queue"],
        priority=row["priority"],
        key=row["key"],
        prompt=row["prompt"],
        command=None if row["command"] is None else tuple(row["command"]),
        working_dir=row["working_dir"],
        env=env if secrets else dict.fromkeys(env, REDACTED),
        context=row["context"],
        limits=Limits(
            timeout_s=row["timeout_s"], idle_timeout_s=row["idle_timeout_s"], max_output_bytes=row["max_output_bytes"]
        ),
        claude=_claude_options(row["claude"]),
        on_lost=OnLost(row["on_lost"]),
        max_tries=row["max_tries"],
        max_recoveries=row["max_recoveries"],
        attempt=row["attempt"],
        tries=row["tries"],
        recoveries=row["recoveries"],
        seq=row["last_seq"],
        worker=row["worker"],
        slot=row["slot"],
        exit_code=row["exit_code"],
        exit_signal=row["exit_signal"],
        result=row["result"],
        created_at=utc(row["created_at"]),
        run_at=maybe_utc(row["run_at"]),
        expires_at=maybe_utc(row["expires_at"]),
        started_at=maybe_utc(row["started_at"]),
        ended_at=maybe_utc(row["ended_at"]),
    )


def from_submission(request: Submission) -> dict[str, Any]:
    """The columns that a new session has from its producer."""
    default = OnLost.REQUEUE if request.kind is Kind.CLAUDE else OnLost.FAIL
    return {
        "kind": request.kind,
        "name": request.name,
        "thread": request.thread,
        "parent_id": request.parent_id,
        "queue": request.queue,
        "priority": request.priority,
        "key": request.key,
        "prompt": request.prompt,
        "command": None if request.command is None else list(request.command),
        "working_dir": request.working_dir,
        "env": dict(request.env),
        "context": dict(request.context),
        "claude": asdict(request.claude) | {"allowed_tools": list(request.claude.allowed_tools)},
        "run_at": request.run_at,
        "expires_at": request.expires_at,
        "on_lost": request.on_lost or default,
        "max_tries": request.max_tries,
        "max_recoveries": request.max_recoveries,
        **asdict(request.limits),
    }


def to_output(row: Sequence[Any]) -> OutputRow:
    """An output row, from the table's columns in their order: there may be millions of them."""
    session_id, seq, attempt, stream, written_at, data, raw, eol = row
    return OutputRow(session_id, seq, attempt, STREAMS[stream], utc(written_at), data, raw, eol)


def to_history(row: RowMapping) -> HistoryEntry:
    """A transition."""
    return HistoryEntry(
        id=row["id"],
        session_id=row["session_id"],
        from_status=Status(row["from_status"]) if row["from_status"] else None,
        to_status=Status(row["to_status"]),
        attempt=row["attempt"],
        worker=row["worker"],
        reason=Reason(row["reason"]),
        detail=row["detail"],
        at=utc(row["at"]),
    )


def _claude_options(stored: Mapping[str, Any]) -> ClaudeOptions:
    return ClaudeOptions(
        model=stored["model"],
        max_turns=stored["max_turns"],
        allowed_tools=tuple(stored["allowed_tools"]),
        permission_mode=PermissionMode(stored["permission_mode"]),
    )
