"""`run` and `enqueue`."""

from __future__ import annotations

from typing import Any, Final

import typer

from gsd_tasks.cli import asked, connection, exits, options
from gsd_tasks.domain.errors import UsageError
from gsd_tasks.domain.units import parse_duration, parse_future, parse_size

_CLAUDE_ONLY: Final = (
    "model",
    "max_turns",
    "allowed_tools",
    "permission_mode",
    "on_denied",
    "disallowed_tools",
    "add_dirs",
    "mcp_config",
    "append_system_prompt",
    "agents",
    "fallback_model",
    "effort",
    "max_budget_usd",
    "json_schema",
)
_RUN_HELP: Final = """Run a Claude session, or a command after --, and follow it to its end.

    It exits with the command's own code (128+n for signal n), or with 0 or 1 for Claude; with 124 if a limit ended the
    command, 125 if it never ran or was lost with its worker, 130 if it was cancelled.

    Ctrl-C asks whether to cancel it or to leave it running; where nobody can be asked, SIGINT cancels it. SIGTERM does
    so in any case."""
_ENQUEUE_HELP: Final = "Queue a Claude session, or a command after --, print its id and leave: `run --detach`."


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.command("run", help=_RUN_HELP)(submit)
    app.command("enqueue", help=_ENQUEUE_HELP)(submit)


def submit(
    context: typer.Context,
    prompt: options.Prompt = None,
    *,
    prompt_file: options.PromptFile = None,
    detach: options.Detach = False,
    working_dir: options.WorkingDir = ".",
    env: options.Env = None,
    secrets: options.Secrets = None,
    name: options.Name = None,
    thread: options.Thread = None,
    parent: options.Parent = None,
    after: options.After = None,
    after_any: options.AfterAny = None,
    session_context: options.Context = None,
    key: options.Key = None,
    queue: options.Queue = options.QUEUE,
    priority: options.Priority = options.PRIORITY,
    run_at: options.RunAt = None,
    expires: options.Expires = None,
    timeout: options.Timeout = None,
    idle_timeout: options.IdleTimeout = None,
    max_output: options.MaxOutput = None,
    on_lost: options.OnLostOption = None,
    max_tries: options.MaxTries = None,
    max_recoveries: options.MaxRecoveries = None,
    model: options.Model = None,
    max_turns: options.MaxTurns = None,
    allowed_tools: options.AllowedTools = None,
    permission_mode: options.PermissionModeOption = None,
    on_denied: options.OnDeniedOption = None,
    disallowed_tools: options.DisallowedTools = None,
    add_dirs: options.AddDirs = None,
    mcp_config: options.McpConfig = None,
    append_system_prompt: options.AppendSystemPrompt = None,
    agents: options.Agents = None,
    fallback_model: options.FallbackModel = None,
    effort: options.EffortOption = None,
    max_budget_usd: options.MaxBudget = None,
    json_schema: options.JsonSchema = None,
) -> int:
    """Queue what was asked for and, unless told otherwise, follow it."""
    now = asked.now()
    request: dict[str, Any] = {
        "prompt": asked.read_prompt(prompt, prompt_file, context.obj),
        "command": context.obj,
        "working_dir": asked.absolute(working_dir),
        "env": asked.read_variables(env or ()),
        "secrets": secrets or None,
        "name": name,
        "thread": thread,
        "parent": parent,
        "after": asked.read_ids(after) if after else None,
        "after_any": asked.read_ids(after_any) if after_any else None,
        "queue": queue,
        "priority": priority,
        "run_at": asked.read("--run-at", lambda text: parse_future(text, now), run_at),
        "expires_at": asked.read("--expires", lambda text: parse_future(text, now), expires),
        "timeout_s": asked.read("--timeout", parse_duration, timeout),
        "idle_timeout_s": asked.read("--idle-timeout", parse_duration, idle_timeout),
        "max_output_bytes": asked.read("--max-output", parse_size, max_output),
        "key": key,
        "context": asked.read("--context", asked.read_context, session_context),
        "model": model,
        "max_turns": max_turns,
        "allowed_tools": asked.read_tools(allowed_tools) if allowed_tools else None,
        "permission_mode": permission_mode,
        "on_denied": on_denied,
        "disallowed_tools": asked.read_tools(disallowed_tools) if disallowed_tools else None,
        "add_dirs": [asked.absolute(path, "--add-dir") for path in add_dirs] if add_dirs else None,
        "mcp_config": asked.read_document("--mcp-config", mcp_config),
        "append_system_prompt": append_system_prompt,
        "agents": asked.read_document("--agents", agents),
        "fallback_model": fallback_model,
        "effort": effort,
        "max_budget_usd": max_budget_usd,
        "json_schema": asked.read_document("--json-schema", json_schema),
        "on_lost": on_lost,
        "max_tries": max_tries,
        "max_recoveries": max_recoveries,
    }
    given = {field: value for field, value in request.items() if value is not None}
    _refuse_what_is_claudes(given)
    if detach or context.info_name == "enqueue":
        return _enqueue(given)
    return _run(given)


def _refuse_what_is_claudes(given: dict[str, Any]) -> None:
    for field in _CLAUDE_ONLY if "command" in given else ():
        if field in given:
            flag = field.removesuffix("s") if field == "add_dirs" else field
            raise UsageError(f"--{flag.replace('_', '-')} is for a Claude session, and this is a command: leave it out")


def _enqueue(request: dict[str, Any]) -> int:
    with connection.connect() as client:
        print(client.enqueue(**request).id)
    return exits.OK


def _run(request: dict[str, Any]) -> int:
    from gsd_tasks.cli.signals import Signals
    from gsd_tasks.cli.watch import watch

    # Before it is queued: a signal that comes meanwhile is answered, rather than leave a session that nobody knows of.
    signals = Signals.catch()
    with connection.connect() as client:
        return watch(client, client.enqueue(**request), signals)
