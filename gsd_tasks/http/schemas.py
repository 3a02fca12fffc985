"""What is asked for in a body: the arguments of the client's methods, by their names."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from gsd_tasks.domain.claude_options import (
    LARGEST_SYSTEM_PROMPT_BYTES,
    LARGEST_WORD_BYTES,
    MOST_BUDGET_USD,
    MOST_FOLDERS,
    MOST_TURNS,
)
from gsd_tasks.domain.graph import MOST_ITEMS
from gsd_tasks.domain.session import (
    CLAUDE,
    DEFAULT_MAX_RECOVERIES,
    DEFAULT_MAX_TRIES,
    DEFAULT_PRIORITY,
    DEFAULT_QUEUE,
    HIGHEST_PRIORITY,
    LIMITS,
    LOWEST_PRIORITY,
    MOST_RECOVERIES,
    MOST_TRIES,
    Effort,
    OnDenied,
    OnLost,
    PermissionMode,
)
from gsd_tasks.domain.submission import (
    LARGEST_ARGUMENT_BYTES,
    LARGEST_ENV_BYTES,
    LARGEST_OUTPUT_BYTES,
    LARGEST_PROMPT_BYTES,
    LONGEST_TIME_S,
    MOST_SECRETS,
)
from gsd_tasks.http.fields import SAYS, Id, IdOrRef, Moment, Name, Number, Object, Said, Text

_COMMAND: Final[JsonValue] = {"command": ["make", "test"], "working_dir": "/srv/app", "name": "tests", "timeout_s": 600}
_CLAUDE: Final[JsonValue] = {
    "prompt": "Fix the failing test, and say what was wrong.",
    "working_dir": "/srv/app",
    "allowed_tools": ["Read", "Edit", "Bash(make test)"],
    "max_budget_usd": 2.5,
    "key": "fix-4711",
}

_Word = Annotated[str, Text(LARGEST_WORD_BYTES, shortest=1)]
_Folder = Annotated[str, Text(LARGEST_WORD_BYTES - 1, pattern=r"^/[^\u0000]*$")]
_Secret = Annotated[
    str,
    Text(
        200,
        pattern="^[A-Za-z_][A-Za-z0-9_]*$",
        shown="^(?![Gg][Ss][Dd]_|[Gg][Ss][Dd][Tt][Aa][Ss][Kk][Ss]_)[A-Za-z_][A-Za-z0-9_]*$",
    ),
]
_Seconds = Annotated[float, Field(gt=0, le=LONGEST_TIME_S, allow_inf_nan=False)]
_Named = Annotated[
    dict[str, dict[str, Any]],
    Field(json_schema_extra={"propertyNames": {"minLength": 1, "pattern": r"^[^\u0000]+$"}}),
]


class Body(BaseModel):
    """Exactly these members, and of exactly these types."""

    model_config = ConfigDict(extra="forbid", strict=True)

    def given(self) -> dict[str, Any]:
        """What was said, by its names; the rest has its defaults elsewhere."""
        return {name: getattr(self, name) for name in self.model_fields_set}


class McpConfig(Body):
    """As in a `.mcp.json`."""

    mcpServers: _Named = Field(description="Names, and how to reach each.")  # noqa: N815  (the CLI's own name)


class NewSession(Body):
    """A Claude session (`prompt`) or a `command`, one of the two, and how it is to run."""

    model_config = ConfigDict(
        title="NewSession",
        json_schema_extra={
            "examples": [_COMMAND, _CLAUDE],
            # One of the two, in words that generators of clients pass over: of a `oneOf` they would make classes.
            "if": {"required": ["command"], "properties": {"command": {"type": "array"}}},
            "then": {"properties": {"prompt": {"type": "null"}}},
            "else": {"required": ["prompt"], "properties": {"prompt": {"type": "string"}}},
        },
    )

    prompt: Annotated[str, Text(LARGEST_PROMPT_BYTES, shortest=1, shown=SAYS)] | None = Field(
        None, description="What Claude is to do."
    )
    command: list[Annotated[str, Text(LARGEST_ARGUMENT_BYTES)]] | None = Field(
        None,
        min_length=1,
        description="The program and its arguments; no shell reads them.",
        json_schema_extra={"prefixItems": [{"type": "string", "minLength": 1}]},
    )
    working_dir: Annotated[str, Text(4095, pattern=r"^/[^\u0000]*$")] = Field(
        description="Where it runs, on the worker's host, below one of its roots: an absolute path."
    )
    env: dict[str, Annotated[str, Text(LARGEST_ENV_BYTES)]] | None = Field(
        None,
        description="Variables for the child. Their values read back as `***`.",
        json_schema_extra={"propertyNames": {"pattern": r"^(?!GSD_|GSDTASKS_)[^=\u0000]+$"}},
    )
    secrets: list[_Secret] = Field(
        [],
        max_length=MOST_SECRETS,
        description="Names: the worker has the value of each, hands it over as a variable, and hides it in the output.",
    )
    name: Name | None = Field(None, description="For people.")
    thread: Name | None = Field(None, description="What it belongs to, with others: lists and figures go by it.")
    parent: Id | None = Field(None, description="The session that it belongs under.")
    after: list[Id] = Field([], description="It waits until these have completed, and fails when one of them does.")
    after_any: list[Id] = Field([], description="It waits until these have ended, in whatever way.")
    queue: str = Field(
        DEFAULT_QUEUE, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$", description="Which workers take it."
    )
    priority: Annotated[int, Number(HIGHEST_PRIORITY, LOWEST_PRIORITY)] = Field(
        DEFAULT_PRIORITY, description="0 runs first, 9 last."
    )
    run_at: Moment | None = Field(None, description="Not before this.")
    expires_at: Moment | None = Field(None, description="It fails if it has not begun by then.")
    timeout_s: _Seconds = Field(LIMITS.timeout_s, description="How long an attempt may take, in seconds.")
    idle_timeout_s: _Seconds = Field(LIMITS.idle_timeout_s, description="How long it may be silent, in seconds.")
    max_output_bytes: Annotated[int, Number(1, LARGEST_OUTPUT_BYTES)] = Field(
        LIMITS.max_output_bytes, description="How much it may write."
    )
    key: Name | None = Field(
        None, description="An idempotency key: asked again with it, the same request gives the session that there is."
    )
    context: Object | None = Field(None, description="Whatever the producer wants to keep with it.")
    model: _Word | None = Field(None, description="Passed on to the claude CLI.")
    max_turns: Annotated[int, Number(1, MOST_TURNS)] | None = Field(CLAUDE.max_turns)
    allowed_tools: list[_Word] = Field([], description="Tools that Claude may use unasked.")
    permission_mode: PermissionMode = Field(CLAUDE.permission_mode, strict=False)
    on_denied: OnDenied = Field(
        CLAUDE.on_denied, strict=False, description="What becomes of it when a tool was not allowed."
    )
    disallowed_tools: list[_Word] = Field([])
    add_dirs: list[_Folder] = Field([], max_length=MOST_FOLDERS, description="Further folders that Claude may use.")
    mcp_config: McpConfig | None = Field(None)
    append_system_prompt: Annotated[str, Text(LARGEST_SYSTEM_PROMPT_BYTES)] | None = Field(None)
    agents: _Named | None = Field(None, description="Subagents, as the claude CLI takes them.")
    fallback_model: _Word | None = Field(None)
    effort: Annotated[Effort, Field(strict=False)] | None = Field(None)
    max_budget_usd: Annotated[float, Field(gt=0, le=MOST_BUDGET_USD, allow_inf_nan=False)] | None = Field(None)
    json_schema: Object | None = Field(None, description="What Claude's answer must be like, as a JSON schema.")
    on_lost: Annotated[OnLost, Field(strict=False)] | None = Field(
        None, description="What becomes of it when its worker is lost. Default: requeue for Claude, fail for a command."
    )
    max_tries: Annotated[int, Number(1, MOST_TRIES)] = Field(DEFAULT_MAX_TRIES)
    max_recoveries: Annotated[int, Number(0, MOST_RECOVERIES)] = Field(DEFAULT_MAX_RECOVERIES)

    def given(self) -> dict[str, Any]:
        """As `Client.enqueue` takes it."""
        said = super().given()
        if self.mcp_config is not None:
            said["mcp_config"] = self.mcp_config.given()
        return said


class BatchItem(NewSession):
    """A session of a batch, which may be called by its `ref` where the others name sessions."""

    model_config = ConfigDict(title="BatchItem")

    ref: str | None = Field(
        None, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$", description="Its name in this batch, without the `@`."
    )
    parent: IdOrRef | None = Field(None, description="The session that it belongs under, or `@` and the `ref` of one.")
    after: list[IdOrRef] = Field([], description="It waits until these have completed: ids, or `@` and a `ref`.")
    after_any: list[IdOrRef] = Field([], description="It waits until these have ended, in whatever way.")


class Batch(Body):
    """Sessions to enqueue: all of them, or none."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "sessions": [
                        {"ref": "build", "command": ["make"], "working_dir": "/srv/app"},
                        {"ref": "test", "command": ["make", "test"], "working_dir": "/srv/app", "after": ["@build"]},
                    ]
                }
            ]
        }
    )

    sessions: list[BatchItem] = Field(max_length=MOST_ITEMS)


class Changes(Body):
    """What is to be changed of a session."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"context": {"ticket": 4711}}]})

    context: Object = Field(description="These keys of its context are set; the others stay.")


class GoOn(Body):
    """How a session is to go on."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"prompt": "Now write a test for it."}, {}]})

    prompt: Said | None = Field(
        None, description="What Claude is to do next; the only way to go on with what has ended."
    )


class Message(Body):
    """Something said to a session."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"message": "Leave the database alone."}]})

    message: Said = Field(description="It comes into the conversation exactly once.")


class Fork(Body):
    """What a fork does next, and what it is called."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"prompt": "Try it the other way.", "name": "plan B"}]})

    prompt: Said | None = None
    name: Name | None = None


class NewSnapshot(Body):
    """What a snapshot is called."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"name": "before the migration"}]})

    name: Annotated[str, Text(200, shortest=1)] | None = None


class ToRestore(Body):
    """Which snapshot."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"snapshot": "before the migration"}]})

    snapshot: Annotated[str, Text(200, shortest=1)] = Field(description="Its id, the start of that, or its name.")


class Repair(Body):
    """Says that it is meant."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"repair": True}]})

    repair: Literal[True] = True
