"""What the claude CLI prints on stdout, line by line, as values.

A newer CLI may add types and fields: `Unknown` is an event that is not known here, `extras` holds the fields that are
not. Protocol: `claude -p --output-format stream-json --verbose`, CLI 2.1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gsd_tasks.domain.claude_blocks import Block
from gsd_tasks.domain.claude_results import ResultEvent


@dataclass(frozen=True, slots=True, kw_only=True)
class InitEvent:
    """The CLI has started a turn."""

    session_id: str
    model: str
    cli_version: str
    permission_mode: str
    working_dir: str
    extras: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class AssistantEvent:
    """The model said, thought or called something: as a rule one block of its message.

    `error` is set where it is the CLI that speaks, of a request that the API refused. `agent` is the subagent whose
    model it was, None for the session's own.
    """

    message_id: str
    model: str
    blocks: tuple[Block, ...]
    usage: Mapping[str, Any]
    error: str | None
    agent: str | None
    extras: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class UserEvent:
    """What the model is told: results of its tools, or a message.

    A message is a person's if `is_replay` (it had come on stdin), or what a subagent is told by its parent; if
    `is_synthetic`, the CLI made it up, such as the summary that stands for a long conversation. `tool_output` is what
    the tool gave the CLI, in a form of the tool's own.
    """

    blocks: tuple[Block, ...]
    tool_output: Any
    uuid: str
    is_replay: bool
    is_synthetic: bool
    agent: str | None
    extras: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamEvent:
    """A piece of an answer, as the API streams it; all of it comes again in an `AssistantEvent`."""

    event: Mapping[str, Any]
    agent: str | None
    extras: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusEvent:
    """What the CLI is at: `requesting`, `compacting`, or nothing of that kind any more."""

    status: str | None
    extras: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiRetryEvent:
    """A request to the API failed, and is sent again after `delay_ms`. `status` is None if there was no answer."""

    attempt: int
    max_retries: int
    delay_ms: float
    status: int | None
    error: str
    extras: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class PermissionDeniedEvent:
    """A call of a tool was not allowed; the model is told so, and goes on."""

    tool: str
    tool_use_id: str
    message: str
    extras: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskStartedEvent:
    """A subagent, or a command in the background, has begun."""

    task_id: str
    description: str
    kind: str
    agent_type: str
    extras: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolProgressEvent:
    """A tool is still at work."""

    tool: str
    tool_use_id: str
    elapsed_s: float
    extras: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFallbackEvent:
    """The CLI goes on with another model."""

    original: str
    fallback: str
    trigger: str
    extras: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class CompactBoundaryEvent:
    """From here on a summary stands for the conversation so far. `trigger` is `auto` or `manual`."""

    trigger: str
    tokens_before: int
    tokens_after: int
    extras: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class RateLimitEvent:
    """How the account stands with a limit of its plan: `allowed`, `allowed_warning` or `rejected`.

    `resets_at` is in seconds since 1970; `utilization` is the share that is used up.
    """

    status: str
    limit: str
    resets_at: float | None
    utilization: float | None
    extras: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandLifecycleEvent:
    """How far a message that came on stdin with a uuid has got: `queued`, `started`, `completed`, ..."""

    uuid: str
    state: str
    extras: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlRequestEvent:
    """The CLI asks whoever started it, such as whether a tool may run (`can_use_tool`)."""

    request_id: str
    subtype: str
    tool: str
    input: Mapping[str, Any]
    extras: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlResponseEvent:
    """The CLI answers a control request, such as an interrupt."""

    request_id: str
    subtype: str
    error: str
    extras: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Unknown:
    """An event of a type that is not known here; `system` events have a subtype after a slash."""

    type: str
    fields: Mapping[str, Any]


ClaudeEvent = (
    InitEvent
    | AssistantEvent
    | UserEvent
    | ResultEvent
    | StreamEvent
    | StatusEvent
    | ApiRetryEvent
    | PermissionDeniedEvent
    | TaskStartedEvent
    | ToolProgressEvent
    | ModelFallbackEvent
    | CompactBoundaryEvent
    | RateLimitEvent
    | CommandLifecycleEvent
    | ControlRequestEvent
    | ControlResponseEvent
    | Unknown
)
