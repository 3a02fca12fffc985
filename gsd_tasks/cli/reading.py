"""`ps`, `show`, `history` and `workers`."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import partial
from json import dumps
from typing import Annotated, Any, Final

import typer

from gsd_tasks.cli import asked, connection
from gsd_tasks.cli.shapes import print_json
from gsd_tasks.domain.claude_words import describe_input, shorten
from gsd_tasks.domain.sanitize import one_line, visible_json
from gsd_tasks.domain.session import MCP_SERVERS, ClaudeOptions, HistoryEntry, OnDenied, Session, Worker
from gsd_tasks.domain.state import Status
from gsd_tasks.domain.units import parse_past, print_age, print_duration, print_size, print_time, print_took

_WHAT_WIDTH: Final = 60
# The milliseconds of a UUIDv7 and 12 random bits: enough to tell sessions apart, except of one millisecond.
_SHORT_ID: Final = 18

Id = Annotated[str, typer.Argument(metavar="ID", help="The session's id, or an unambiguous start of it.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON document instead of a table.")]


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.command("ps")(ps)
    app.command("ls", hidden=True)(ps)
    app.command("show")(show)
    app.command("history")(history)
    app.command("workers")(workers)


def ps(
    *,
    status: Annotated[
        list[Status] | None, typer.Option("--status", help="Of this status; may be repeated.", show_default="all")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=1000, help="At most so many.")] = 20,
    after: Annotated[
        str | None, typer.Option("--after", metavar="ID", help="Those older than this one.", show_default="the newest")
    ] = None,
    name: Annotated[str | None, typer.Option("--name", help="Of this name.", show_default="all")] = None,
    thread: Annotated[str | None, typer.Option("--thread", help="Of this thread.", show_default="all")] = None,
    parent: Annotated[
        str | None, typer.Option("--parent", metavar="ID", help="Children of this session.", show_default="all")
    ] = None,
    queue: Annotated[str | None, typer.Option("--queue", help="Of this queue.", show_default="all")] = None,
    since: Annotated[
        str | None,
        typer.Option("--since", metavar="TIME", help="Enqueued since: 2h (ago), or 2026-11-21.", show_default="all"),
    ] = None,
    until: Annotated[
        str | None, typer.Option("--until", metavar="TIME", help="Enqueued before that.", show_default="all")
    ] = None,
    json: Json = False,
) -> None:
    """List sessions, the newest first. `ls` is the same."""
    past = partial(parse_past, now=asked.now())
    with connection.connect() as client:
        sessions = client.list(
            status=status or None,
            name=name,
            thread=thread,
            parent=parent,
            queue=queue,
            since=asked.read("--since", past, since),
            until=asked.read("--until", past, until),
            limit=limit,
            after=after,
        )
    if json:
        print_json(sessions)
    else:
        from gsd_tasks.cli.tables import print_table

        now = datetime.now(UTC)
        ids = shorten_ids([str(session.id) for session in sessions])
        headings = ("ID", "STATUS", "REASON", "AGE", "TOOK", "ROWS", "WHAT")
        print_table(headings, [(short, *_row(session, now)) for short, session in zip(ids, sessions, strict=True)])


def show(id_: Id, *, json: Json = False) -> None:
    """Everything about one session but its output."""
    with connection.connect() as client:
        session = client.get(id_)
    if json:
        print_json(session)
    else:
        from gsd_tasks.cli.tables import print_fields

        print_fields([*_what(session), *_answer(session), *_where(session), *_how_far(session), *_bounds(session)])


def history(id_: Id, *, json: Json = False) -> None:
    """Every transition of one session, with its reason."""
    with connection.connect() as client:
        entries = client.history(id_)
    if json:
        print_json(entries)
    else:
        from gsd_tasks.cli.tables import print_table

        print_table(("AT", "FROM", "TO", "ATTEMPT", "REASON", "WORKER", "DETAIL"), [_transition(e) for e in entries])


def workers(*, json: Json = False) -> None:
    """The worker nodes, and what they are at."""
    with connection.connect() as client:
        known = client.workers()
    if json:
        print_json(known)
    else:
        from gsd_tasks.cli.tables import print_table

        now = datetime.now(UTC)
        headings = ("NAME", "STATUS", "BUSY", "QUEUES", "SEEN", "PID", "VERSION", "CONTAINMENT", "SESSIONS")
        print_table(headings, [_worker(worker, now) for worker in known])


def summary(session: Session) -> str:
    """What a session is, in a few words: its name, or the beginning of its prompt or command."""
    words = session.name or session.prompt or shlex.join(session.command or ())
    return one_line(words[: 4 * _WHAT_WIDTH], _WHAT_WIDTH)


def shorten_ids(ids: list[str]) -> list[str]:
    """As much of each as tells these apart, except of one millisecond: there they stay whole."""
    short = [id_[:_SHORT_ID] for id_ in ids]
    return [id_ if short.count(id_[:_SHORT_ID]) > 1 else id_[:_SHORT_ID] for id_ in ids]


def _row(session: Session, now: datetime) -> tuple[str, ...]:
    age = print_age((now - session.created_at).total_seconds())
    return describe_status(session), str(session.reason), age, _took(session, now), str(session.seq), summary(session)


def describe_status(session: Session) -> str:
    """Its status, and what else is to be known of it: what people want, or that it waits for others."""
    if _is_waiting(session):
        return f"{session.status} (waits)"
    return f"{session.status} ({session.wanted})" if session.wanted else str(session.status)


def _is_waiting(session: Session) -> bool:
    # What ended before it was let go would wait once more, if it were tried again.
    return session.waits and not session.status.is_final


def _took(session: Session, now: datetime) -> str:
    if session.started_at is None:
        return "-"
    return print_took(((session.ended_at or now) - session.started_at).total_seconds())


def _what(session: Session) -> list[tuple[str, str | None]]:
    return [
        ("id", str(session.id)),
        ("status", f"{session.status} (waits)" if _is_waiting(session) else str(session.status)),
        ("wanted", session.wanted),
        ("reason", str(session.reason)),
        ("detail", session.detail),
        ("name", session.name),
        ("prompt", session.prompt),
        ("command", shlex.join(session.command) if session.command else None),
    ]


def _answer(session: Session) -> list[tuple[str, str | None]]:
    """What Claude answered, and what it took. What an older version did not keep is left out."""
    result = session.result
    if result is None:
        return []
    structured, took = result.get("structured_output"), result.get("duration_s")
    models = result.get("models") or {}
    return [
        ("model", ", ".join(dict.fromkeys(filter(None, (result.get("model"), *models))))),
        ("turns", f"{result.get('turns')}" + (f" in {print_took(took)}" if took is not None else "")),
        ("tokens", _tokens(list(models.values()) or [*filter(None, [result.get("tokens")])])),
        ("cost", f"${result.get('cost_usd') or 0:.4f}"),
        ("not allowed", "\n".join(_denial(denial) for denial in result.get("denials") or ())),
        ("structured", visible_json(structured) if structured is not None else None),
        ("result", str(result.get("text") or "")),
    ]


def _tokens(used: list[Mapping[str, int]]) -> str | None:
    read, written, cache_read, cache_write = (
        sum(use.get(name, 0) for use in used) for name in ("input", "output", "cache_read", "cache_write")
    )
    words = f"{read:,} in, {written:,} out; cache: {cache_read:,} read, {cache_write:,} written"
    return words if used else None


def _denial(denial: Mapping[str, Any]) -> str:
    return f"{denial['tool']} {shorten(describe_input(denial['input']))}".rstrip()


def _where(session: Session) -> list[tuple[str, str | None]]:
    return [
        ("working dir", session.working_dir),
        ("variables", " ".join(f"{name}={value}" for name, value in session.env.items())),
        ("thread", session.thread),
        ("parent", str(session.parent_id) if session.parent_id else None),
        ("after", "\n".join(map(str, session.after))),
        ("after any", "\n".join(map(str, session.after_any))),
        ("forked from", str(session.forked_from) if session.forked_from else None),
        ("messages", str(session.messages) if session.messages else None),
        ("queue", f"{session.queue}, priority {session.priority}"),
        ("key", session.key),
        ("context", one_line(str(dict(session.context))) if session.context else None),
    ]


def _how_far(session: Session) -> list[tuple[str, str | None]]:
    code = session.exit_code
    return [
        ("attempt", str(session.attempt)),
        ("tries", f"{session.tries} of {session.max_tries} failed"),
        ("recoveries", f"{session.recoveries} of {session.max_recoveries}"),
        ("worker", f"{session.worker}, slot {session.slot}" if session.worker else None),
        ("output rows", str(session.seq)),
        ("exit", f"signal {session.exit_signal}" if session.exit_signal else None if code is None else f"code {code}"),
        *(
            (name, print_time(at) if at else None)
            for name, at in (
                ("created", session.created_at),
                ("not before", session.run_at),
                ("expires", session.expires_at),
                ("started", session.started_at),
                ("ended", session.ended_at),
            )
        ),
    ]


def _bounds(session: Session) -> list[tuple[str, str | None]]:
    limits, claude = session.limits, session.claude
    times = f"{print_duration(limits.timeout_s)}, {print_duration(limits.idle_timeout_s)} without output"
    pairs: list[tuple[str, str | None]] = [
        ("limits", f"{times}, {print_size(limits.max_output_bytes)} of output"),
        ("if lost", str(session.on_lost)),
    ]
    if session.secrets:
        pairs.append(("secrets", ", ".join(session.secrets)))
    if session.prompt is not None:
        pairs += [("claude", _claude(claude)), *_claude_more(claude)]
    return pairs


def _claude(claude: ClaudeOptions) -> str:
    turns = f"{claude.max_turns} turns" if claude.max_turns else "any number of turns"
    parts = [claude.model or "default model", turns, str(claude.permission_mode)]
    if claude.max_budget_usd is not None:
        parts.append(f"${claude.max_budget_usd:g}")
    if claude.effort is not None:
        parts.append(f"effort {claude.effort}")
    if claude.fallback_model is not None:
        parts.append(f"else {claude.fallback_model}")
    if claude.on_denied is not OnDenied.FAIL:
        parts.append("may be denied tools")
    return ", ".join(parts)


def _claude_more(claude: ClaudeOptions) -> list[tuple[str, str | None]]:
    servers = (claude.mcp_config or {}).get(MCP_SERVERS, {})
    return [
        ("allowed tools", ", ".join(claude.allowed_tools) or None),
        ("denied tools", ", ".join(claude.disallowed_tools) or None),
        ("further dirs", ", ".join(claude.add_dirs) or None),
        ("system prompt", one_line(claude.append_system_prompt) if claude.append_system_prompt else None),
        ("MCP servers", ", ".join(servers) or None),
        ("agents", ", ".join(claude.agents or {}) or None),
        ("JSON schema", one_line(dumps(claude.json_schema)) if claude.json_schema else None),
    ]


def _transition(entry: HistoryEntry) -> tuple[str, ...]:
    before = str(entry.from_status) if entry.from_status else "-"
    worker, detail = entry.worker or "-", entry.detail or ""
    return print_time(entry.at), before, str(entry.to_status), str(entry.attempt), str(entry.reason), worker, detail


def _worker(worker: Worker, now: datetime) -> tuple[str, ...]:
    seen = f"{print_age((now - worker.seen_at).total_seconds())} ago"
    sessions = " ".join(f"{slot}:{str(id_)[:_SHORT_ID]}" for slot, id_ in sorted(worker.busy.items()))
    busy = f"{len(worker.busy)} of {worker.slots}"
    return (
        worker.name, str(worker.status), busy, ",".join(worker.queues), seen, str(worker.pid), worker.version,
        worker.containment, sessions,
    )  # fmt: skip
