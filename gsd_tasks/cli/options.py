"""The options of `run` and `enqueue`, each with its words for the help."""

from __future__ import annotations

from typing import Annotated, Final

import typer

from gsd_tasks.domain.policy import PATIENT_TRIES
from gsd_tasks.domain.session import (
    DEFAULT_MAX_RECOVERIES,
    DEFAULT_MAX_TRIES,
    DEFAULT_PRIORITY,
    DEFAULT_QUEUE,
    HIGHEST_PRIORITY,
    LOWEST_PRIORITY,
    MOST_RECOVERIES,
    MOST_TRIES,
    ClaudeOptions,
    Effort,
    Limits,
    OnDenied,
    OnLost,
    PermissionMode,
)
from gsd_tasks.domain.units import print_duration, print_size

_LIMITS: Final = Limits()
_CLAUDE: Final = ClaudeOptions()
_ORDER: Final = "Order and time"
_BOUNDS: Final = "Limits"
_AGAIN: Final = "If it fails or loses its worker"
_CLAUDE_ONLY: Final = "For a Claude session"

Prompt = Annotated[
    str | None,
    typer.Argument(
        metavar="PROMPT | - | -- COMMAND ARG...",
        help="What Claude is to do; - reads it from standard input. After --, a command to run instead.",
        show_default=False,
    ),
]
PromptFile = Annotated[str | None, typer.Option("--prompt-file", metavar="FILE", help="Read the prompt from a file.")]
Detach = Annotated[bool, typer.Option("-d", "--detach", help="Do not follow: print the id and leave.")]
WorkingDir = Annotated[
    str, typer.Option("-C", "--working-dir", metavar="DIR", help="Where it runs.", show_default="the current directory")
]
Env = Annotated[
    list[str] | None,
    typer.Option("--env", metavar="NAME=VALUE", help="A variable for it; may be repeated.", show_default="none"),
]
Secrets = Annotated[
    list[str] | None,
    typer.Option(
        "--secret",
        metavar="NAME",
        help="A secret of its worker's, handed over as a variable and hidden in the output; may be repeated.",
        show_default="none",
    ),
]
Name = Annotated[str | None, typer.Option("--name", help="A name for people.", show_default="none")]
Thread = Annotated[str | None, typer.Option("--thread", help="A label that belongs together.", show_default="none")]
Parent = Annotated[
    str | None, typer.Option("--parent", metavar="ID", help="The session that it came from.", show_default="none")
]
After = Annotated[
    list[str] | None,
    typer.Option(
        "--after",
        metavar="ID[,ID]",
        help="Wait until these have completed; if one fails, it fails, too. May be repeated.",
        show_default="none",
        rich_help_panel=_ORDER,
    ),
]
AfterAny = Annotated[
    list[str] | None,
    typer.Option(
        "--after-any",
        metavar="ID[,ID]",
        help="Wait until these have ended, in whatever way. May be repeated.",
        show_default="none",
        rich_help_panel=_ORDER,
    ),
]
Context = Annotated[
    str | None, typer.Option("--context", metavar="JSON", help="An object to keep with it.", show_default="{}")
]
Key = Annotated[
    str | None,
    typer.Option("--key", help="Idempotency key: asked for twice, it runs once.", show_default="none"),
]
Queue = Annotated[str, typer.Option("--queue", help="The queue it waits in.", rich_help_panel=_ORDER)]
Priority = Annotated[
    int,
    typer.Option("--priority", min=HIGHEST_PRIORITY, max=LOWEST_PRIORITY, help="0 is first.", rich_help_panel=_ORDER),
]
RunAt = Annotated[
    str | None,
    typer.Option(
        "--run-at",
        metavar="TIME",
        help="Not before: 10m, or 2026-11-21T18:00.",
        show_default="now",
        rich_help_panel=_ORDER,
    ),
]
Expires = Annotated[
    str | None,
    typer.Option(
        "--expires",
        metavar="TIME",
        help="Fail it if it has not begun by then: 10m, or 2026-11-21T18:00.",
        show_default="it waits until a worker takes it",
        rich_help_panel=_ORDER,
    ),
]
Timeout = Annotated[
    str | None,
    typer.Option(
        "--timeout",
        metavar="DURATION",
        help="End an attempt after so long: 90 (seconds), 30m, 1h30m.",
        show_default=print_duration(_LIMITS.timeout_s),
        rich_help_panel=_BOUNDS,
    ),
]
IdleTimeout = Annotated[
    str | None,
    typer.Option(
        "--idle-timeout",
        metavar="DURATION",
        help="End it after so long without output.",
        show_default=print_duration(_LIMITS.idle_timeout_s),
        rich_help_panel=_BOUNDS,
    ),
]
MaxOutput = Annotated[
    str | None,
    typer.Option(
        "--max-output",
        metavar="SIZE",
        help="End it after so much output: 10MB, 1GiB.",
        show_default=print_size(_LIMITS.max_output_bytes),
        rich_help_panel=_BOUNDS,
    ),
]
OnLostOption = Annotated[
    OnLost | None,
    typer.Option(
        "--on-lost",
        help="If its worker is lost: start it again, or fail it.",
        show_default="requeue for Claude, fail for a command",
        rich_help_panel=_AGAIN,
    ),
]
MaxTries = Annotated[
    int | None,
    typer.Option(
        "--max-tries",
        min=1,
        max=MOST_TRIES,
        help=(
            "Start it again after a rest until it has failed so often. What the API was overloaded for, limited or did "
            f"not answer is started again until it has failed {PATIENT_TRIES} times, whatever stands here."
        ),
        show_default=str(DEFAULT_MAX_TRIES),
        rich_help_panel=_AGAIN,
    ),
]
MaxRecoveries = Annotated[
    int | None,
    typer.Option(
        "--max-recoveries",
        min=0,
        max=MOST_RECOVERIES,
        help="With --on-lost requeue: fail it if it loses more workers than this.",
        show_default=str(DEFAULT_MAX_RECOVERIES),
        rich_help_panel=_AGAIN,
    ),
]
Model = Annotated[
    str | None, typer.Option("--model", help="The model.", show_default="the CLI's own", rich_help_panel=_CLAUDE_ONLY)
]
MaxTurns = Annotated[
    int | None,
    typer.Option(
        "--max-turns",
        min=1,
        help="End after so many turns.",
        show_default=str(_CLAUDE.max_turns),
        rich_help_panel=_CLAUDE_ONLY,
    ),
]
AllowedTools = Annotated[
    list[str] | None,
    typer.Option(
        "--allowed-tools",
        metavar="TOOLS",
        help="Tools it need not ask for, such as 'Bash(git:*),Read'; may be repeated.",
        show_default="none",
        rich_help_panel=_CLAUDE_ONLY,
    ),
]
PermissionModeOption = Annotated[
    PermissionMode | None,
    typer.Option(
        "--permission-mode",
        help="What it may do unasked.",
        show_default=_CLAUDE.permission_mode.value,
        rich_help_panel=_CLAUDE_ONLY,
    ),
]
OnDeniedOption = Annotated[
    OnDenied | None,
    typer.Option(
        "--on-denied",
        help="If it was not allowed to use some tool: it has failed, or that is ignored.",
        show_default=_CLAUDE.on_denied.value,
        rich_help_panel=_CLAUDE_ONLY,
    ),
]
DisallowedTools = Annotated[
    list[str] | None,
    typer.Option(
        "--disallowed-tools",
        metavar="TOOLS",
        help="Tools that it is not given, such as 'WebFetch,Bash(rm:*)'; may be repeated.",
        show_default="none",
        rich_help_panel=_CLAUDE_ONLY,
    ),
]
AddDirs = Annotated[
    list[str] | None,
    typer.Option(
        "--add-dir",
        metavar="DIR",
        help="A further directory that it may work in; may be repeated.",
        show_default="none",
        rich_help_panel=_CLAUDE_ONLY,
    ),
]
McpConfig = Annotated[
    str | None,
    typer.Option(
        "--mcp-config",
        metavar="JSON | FILE",
        help="MCP servers, as in a .mcp.json.",
        show_default="none",
        rich_help_panel=_CLAUDE_ONLY,
    ),
]
AppendSystemPrompt = Annotated[
    str | None,
    typer.Option(
        "--append-system-prompt",
        metavar="TEXT",
        help="What to add to the system prompt.",
        show_default="nothing",
        rich_help_panel=_CLAUDE_ONLY,
    ),
]
Agents = Annotated[
    str | None,
    typer.Option(
        "--agents",
        metavar="JSON | FILE",
        help="Agents that it may call, as the claude CLI takes them.",
        show_default="the CLI's own",
        rich_help_panel=_CLAUDE_ONLY,
    ),
]
FallbackModel = Annotated[
    str | None,
    typer.Option(
        "--fallback-model",
        metavar="MODELS",
        help="What to use while the model is overloaded.",
        show_default="none",
        rich_help_panel=_CLAUDE_ONLY,
    ),
]
EffortOption = Annotated[
    Effort | None,
    typer.Option("--effort", help="How much it thinks.", show_default="the CLI's own", rich_help_panel=_CLAUDE_ONLY),
]
MaxBudget = Annotated[
    float | None,
    typer.Option(
        "--max-budget-usd",
        metavar="DOLLARS",
        help="End an attempt once it has cost so much; the last call may go beyond.",
        show_default="none",
        rich_help_panel=_CLAUDE_ONLY,
    ),
]
JsonSchema = Annotated[
    str | None,
    typer.Option(
        "--json-schema",
        metavar="JSON | FILE",
        help="What its answer must look like. Other users of the worker's host can read it.",
        show_default="none",
        rich_help_panel=_CLAUDE_ONLY,
    ),
]

QUEUE: Final = DEFAULT_QUEUE
PRIORITY: Final = DEFAULT_PRIORITY
