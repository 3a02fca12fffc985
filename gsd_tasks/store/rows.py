"""Rows of Postgres as values of the domain."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import RowMapping

from gsd_tasks.domain.session import (
    CLAUDE,
    MCP_SERVERS,
    REDACTED,
    ClaudeOptions,
    Effort,
    HistoryEntry,
    Kind,
    Limits,
    OnDenied,
    OnLost,
    OutputRow,
    PermissionMode,
    Session,
    SessionId,
    Stream,
    Submission,
)
from gsd_tasks.domain.state import Reason, Status, Wanted

#: An enum's own look-up costs more than all the rest of a row.
STREAMS: Final = {stream.value: stream for stream in Stream}
#: As text: jsonb would put their keys into another order, and a model answers a schema in the schema's own.
_DOCUMENTS: Final = ("mcp_config", "agents", "json_schema")
#: What a session has before it has run.
_NEW: Final[Mapping[str, Any]] = {
    "status": Status.QUEUED,
    "reason": Reason.ENQUEUED,
    **dict.fromkeys(("attempt", "tries", "recoveries", "last_seq", "last_message"), 0),
    **dict.fromkeys(("wanted", "detail", "worker", "slot", "exit_code", "exit_signal", "result")),
    **dict.fromkeys(("started_at", "ended_at")),
}
_CLAUDE: Final = tuple(field.name for field in fields(ClaudeOptions))


def utc(moment: datetime) -> datetime:
    """The server's session may stand in any time zone; ours never does."""
    return moment.astimezone(UTC)


def maybe_utc(moment: datetime | None) -> datetime | None:
    """`utc`, where there may be none."""
    return None if moment is None else utc(moment)


def to_session(row: RowMapping | Mapping[str, Any], *, secrets: bool = False) -> Session:
    """A session; the values of its `env` and its MCP servers only for the worker that runs it (`secrets`)."""
    env: dict[str, str] = row["env"]
    claude = _claude_options(row["claude"])
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
        secrets=tuple(row["secrets"]),
        context=row["context"],
        limits=Limits(
            timeout_s=row["timeout_s"], idle_timeout_s=row["idle_timeout_s"], max_output_bytes=row["max_output_bytes"]
        ),
        claude=claude if secrets else _without_servers(claude),
        on_lost=OnLost(row["on_lost"]),
        max_tries=row["max_tries"],
        max_recoveries=row["max_recoveries"],
        attempt=row["attempt"],
        tries=row["tries"],
        recoveries=row["recoveries"],
        seq=row["last_seq"],
        messages=row["last_message"],
        forked_from=row["forked_from"],
        # Who claims it does not ask: whatever it was to follow has come about.
        after=tuple(row.get("after") or ()),
        after_any=tuple(row.get("after_any") or ()),
        waits=row["waits"],
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
        "secrets": list(request.secrets),
        "context": dict(request.context),
        "claude": _USUAL if request.claude is CLAUDE else _claude_columns(request.claude),
        "run_at": maybe_utc(request.run_at),
        "expires_at": maybe_utc(request.expires_at),
        "on_lost": request.on_lost or default,
        "max_tries": request.max_tries,
        "max_recoveries": request.max_recoveries,
        "timeout_s": float(request.limits.timeout_s),
        "idle_timeout_s": float(request.limits.idle_timeout_s),
        "max_output_bytes": request.limits.max_output_bytes,
    }


def to_new_session(
    columns: Mapping[str, Any],
    request: Submission,
    *,
    id_: SessionId,
    created_at: datetime,
    forked_from: SessionId | None = None,
) -> Session:
    """What was written just now for this request, whose columns are `from_submission`'s."""
    row = {**_NEW, **columns}
    row |= {"id": id_, "created_at": created_at, "waits": request.waits, "forked_from": forked_from}
    if request.context:
        row["context"] = json.loads(json.dumps(row["context"]))
    # As they are read back.
    return to_session(row | {"after": sorted(set(request.after)), "after_any": sorted(set(request.after_any))})


def to_submission(session: Session) -> Submission:
    """What would ask for the same once more: without its key, its times and what became of it."""
    return Submission(
        prompt=session.prompt,
        command=session.command,
        working_dir=session.working_dir,
        env=session.env,
        secrets=session.secrets,
        name=session.name,
        thread=session.thread,
        parent_id=session.parent_id,
        queue=session.queue,
        priority=session.priority,
        limits=session.limits,
        claude=session.claude,
        on_lost=session.on_lost,
        max_tries=session.max_tries,
        max_recoveries=session.max_recoveries,
        context=session.context,
    )


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
    if stored is _USUAL:
        return CLAUDE
    return ClaudeOptions(
        model=stored["model"],
        max_turns=stored["max_turns"],
        allowed_tools=tuple(stored["allowed_tools"]),
        permission_mode=PermissionMode(stored["permission_mode"]),
        # What an older version did not write was not asked for.
        on_denied=OnDenied(stored.get("on_denied", OnDenied.FAIL)),
        disallowed_tools=tuple(stored.get("disallowed_tools", ())),
        add_dirs=tuple(stored.get("add_dirs", ())),
        mcp_config=_from_text(stored.get("mcp_config")),
        append_system_prompt=stored.get("append_system_prompt"),
        agents=_from_text(stored.get("agents")),
        fallback_model=stored.get("fallback_model"),
        effort=Effort(effort) if (effort := stored.get("effort")) else None,
        max_budget_usd=stored.get("max_budget_usd"),
        json_schema=_from_text(stored.get("json_schema")),
    )


def _without_servers(options: ClaudeOptions) -> ClaudeOptions:
    """How to reach an MCP server may hold a token anywhere."""
    if options.mcp_config is None:
        return options
    return replace(options, mcp_config={MCP_SERVERS: dict.fromkeys(options.mcp_config[MCP_SERVERS], REDACTED)})


def _claude_columns(options: ClaudeOptions) -> dict[str, Any]:
    return {name: _claude_column(options, name) for name in _CLAUDE}


def _claude_column(options: ClaudeOptions, name: str) -> Any:
    value = getattr(options, name)
    return _as_text(value) if name in _DOCUMENTS else value


def _as_text(document: Mapping[str, Any] | None) -> str | None:
    return None if document is None else json.dumps(document)


def _from_text(stored: str | None) -> Mapping[str, Any] | None:
    document: Mapping[str, Any] | None = None if stored is None else json.loads(stored)
    return document


#: What most sessions have in their column.
_USUAL: Final = _claude_columns(CLAUDE)
