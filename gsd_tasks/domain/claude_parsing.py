"""From a line of the claude CLI's stdout to the event in it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from gsd_tasks.domain.claude_blocks import parse_blocks
from gsd_tasks.domain.claude_events import (
    ApiRetryEvent,
    AssistantEvent,
    ClaudeEvent,
    CommandLifecycleEvent,
    CompactBoundaryEvent,
    ControlRequestEvent,
    ControlResponseEvent,
    InitEvent,
    ModelFallbackEvent,
    PermissionDeniedEvent,
    RateLimitEvent,
    StatusEvent,
    StreamEvent,
    TaskStartedEvent,
    ToolProgressEvent,
    Unknown,
    UserEvent,
)
from gsd_tasks.domain.claude_fields import Fields, read_json
from gsd_tasks.domain.claude_results import parse_result


def parse_line(line: str | bytes) -> ClaudeEvent | None:
    """The event in a line, or None if there is none: no JSON, no object, no type. Never raises."""
    given = read_json(line)
    if not isinstance(given, dict):
        return None
    fields = Fields(given)
    kind = fields.text("type")
    if kind == "system":
        kind += f"/{fields.text('subtype')}"
    parse = _PARSERS.get(kind)
    if parse is not None:
        return parse(fields)
    return Unknown(kind, given) if kind else None


def _init(fields: Fields) -> InitEvent:
    return InitEvent(
        session_id=fields.text("session_id"),
        model=fields.text("model"),
        cli_version=fields.text("claude_code_version"),
        permission_mode=fields.text("permissionMode"),
        working_dir=fields.text("cwd"),
        extras=fields.rest(),
    )


def _assistant(fields: Fields) -> AssistantEvent:
    message = fields.inside("message")
    return AssistantEvent(
        message_id=message.text("id"),
        model=message.text("model"),
        blocks=parse_blocks(message.value("content")),
        usage=message.mapping("usage"),
        error=fields.text("error") or None,
        agent=_agent(fields),
        extras=fields.rest(),
    )


def _user(fields: Fields) -> UserEvent:
    return UserEvent(
        blocks=parse_blocks(fields.inside("message").value("content")),
        tool_output=fields.value("tool_use_result"),
        uuid=fields.text("uuid"),
        is_replay=fields.flag("isReplay"),
        is_synthetic=fields.flag("isSynthetic"),
        agent=_agent(fields),
        extras=fields.rest(),
    )


def _stream(fields: Fields) -> StreamEvent:
    return StreamEvent(event=fields.mapping("event"), agent=_agent(fields), extras=fields.rest())


def _status(fields: Fields) -> StatusEvent:
    return StatusEvent(status=fields.text("status") or None, extras=fields.rest())


def _api_retry(fields: Fields) -> ApiRetryEvent:
    return ApiRetryEvent(
        attempt=fields.count("attempt"),
        max_retries=fields.count("max_retries"),
        delay_ms=fields.number("retry_delay_ms"),
        status=fields.count("error_status") or None,
        error=fields.text("error"),
        extras=fields.rest(),
    )


def _permission_denied(fields: Fields) -> PermissionDeniedEvent:
    return PermissionDeniedEvent(
        tool=fields.text("tool_name"),
        tool_use_id=fields.text("tool_use_id"),
        message=fields.text("message"),
        extras=fields.rest(),
    )


def _task_started(fields: Fields) -> TaskStartedEvent:
    return TaskStartedEvent(
        task_id=fields.text("task_id"),
        description=fields.text("description"),
        kind=fields.text("task_type"),
        agent_type=fields.text("subagent_type"),
        extras=fields.rest(),
    )


def _tool_progress(fields: Fields) -> ToolProgressEvent:
    return ToolProgressEvent(
        tool=fields.text("tool_name"),
        tool_use_id=fields.text("tool_use_id"),
        elapsed_s=fields.number("elapsed_time_seconds"),
        extras=fields.rest(),
    )


def _model_fallback(fields: Fields) -> ModelFallbackEvent:
    return ModelFallbackEvent(
        original=fields.text("original_model"),
        fallback=fields.text("fallback_model"),
        trigger=fields.text("trigger"),
        extras=fields.rest(),
    )


def _compact_boundary(fields: Fields) -> CompactBoundaryEvent:
    about = fields.inside("compact_metadata")
    return CompactBoundaryEvent(
        trigger=about.text("trigger"),
        tokens_before=about.count("pre_tokens"),
        tokens_after=about.count("post_tokens"),
        extras=fields.rest(),
    )


def _rate_limit(fields: Fields) -> RateLimitEvent:
    about = fields.inside("rate_limit_info")
    return RateLimitEvent(
        status=about.text("status"),
        limit=about.text("rateLimitType"),
        resets_at=about.number("resetsAt") or None,
        utilization=about.number("utilization") or None,
        extras=fields.rest(),
    )


def _command_lifecycle(fields: Fields) -> CommandLifecycleEvent:
    return CommandLifecycleEvent(uuid=fields.text("command_uuid"), state=fields.text("state"), extras=fields.rest())


def _control_request(fields: Fields) -> ControlRequestEvent:
    request = fields.inside("request")
    return ControlRequestEvent(
        request_id=fields.text("request_id"),
        subtype=request.text("subtype"),
        tool=request.text("tool_name"),
        input=request.mapping("input"),
        extras=fields.rest(),
    )


def _control_response(fields: Fields) -> ControlResponseEvent:
    response = fields.inside("response")
    return ControlResponseEvent(
        request_id=response.text("request_id"),
        subtype=response.text("subtype"),
        error=response.text("error"),
        extras=fields.rest(),
    )


def _agent(fields: Fields) -> str | None:
    # One of the two, by how deep it is: a subagent of the session, or one of a subagent.
    given = (fields.text("parent_tool_use_id"), fields.text("agent_id"))
    return next(filter(None, given), None)


_PARSERS: Final[Mapping[str, Callable[[Fields], ClaudeEvent]]] = {
    "system/init": _init,
    "assistant": _assistant,
    "user": _user,
    "result": parse_result,
    "stream_event": _stream,
    "system/status": _status,
    "system/api_retry": _api_retry,
    "system/permission_denied": _permission_denied,
    "system/task_started": _task_started,
    "tool_progress": _tool_progress,
    "system/model_fallback": _model_fallback,
    "system/compact_boundary": _compact_boundary,
    "rate_limit_event": _rate_limit,
    "command_lifecycle": _command_lifecycle,
    "control_request": _control_request,
    "control_response": _control_response,
}
