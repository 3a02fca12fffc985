"""An event of the claude CLI in a person's words, for `gsd-tasks logs`.

    * claude-opus-5-5 in /srv/shop, CLI 2.1.327
    < Fix the failing test
    ~ thinking: The traceback names a file that I have not seen yet. I… (12 lines)
    I look at the tests first.
    > Bash pytest -q
      3 failed, 12 passed (+ 41 lines)
    ! not allowed: WebFetch
    = finished: 4 turns, 12.3 s, 31,204 tokens in, 1,170 out, $0.0412

`<` is what a person said, `>` a call of a tool, `!` what went wrong; what a subagent does stands behind a `|`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final, assert_never

from gsd_tasks.domain.claude_blocks import (
    Block,
    TextBlock,
    ThinkingBlock,
    ToolResultBlock,
    ToolUseBlock,
    UnknownBlock,
)
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
from gsd_tasks.domain.claude_parsing import parse_line
from gsd_tasks.domain.claude_results import ResultEvent
from gsd_tasks.domain.claude_words import WIDTH, describe_input, shorten
from gsd_tasks.domain.sanitize import visible

_TEXT_LINES: Final = 60
_THOUGHT_CHARS: Final = 80
# A command of the CLI itself, such as /compact, and what it printed.
_LOCAL_COMMAND: Final = re.compile(
    r"\s*<command-name>(.*?)</command-name>.*?<command-args>(.*?)</command-args>", re.DOTALL
)
_LOCAL_OUTPUT: Final = re.compile(r"\s*<local-command-(?:stdout|stderr)>(.*?)</local-command-", re.DOTALL)


def render_line(line: str) -> list[str]:
    """A line of stdout as lines of text, safe for a terminal; none for an event that tells a person nothing.

    Long answers and inputs are shortened; the session's rows have all of it. A line that is no event is shown itself,
    shortened if it looks like the beginning of one.
    """
    event = parse_line(line)
    if event is not None:
        return render(event)
    is_torn = line.lstrip().startswith("{")
    return [visible(shorten(f"? {line}") if is_torn else line.removesuffix("\r"))] if line else []


def render(event: ClaudeEvent) -> list[str]:
    """The event as lines of text, safe for a terminal."""
    return [visible(line) for line in _lines(event)]


def _lines(event: ClaudeEvent) -> Iterator[str]:
    match event:
        case InitEvent():
            yield shorten(f"* {event.model} in {event.working_dir}, CLI {event.cli_version}")
        case AssistantEvent():
            mark = "! " if event.error else ""
            yield from _behind(event.agent, (line for block in event.blocks for line in _block(block, mark)))
        case UserEvent():
            yield from _behind(event.agent, _told(event))
        case ResultEvent():
            if event.permission_denials:
                yield shorten(_denials(event))
            yield _result(event)
        case ApiRetryEvent():
            yield shorten(_retry(event))
        case PermissionDeniedEvent():
            yield shorten(f"! not allowed: {event.tool}")
        case TaskStartedEvent():
            yield shorten(f"* started: {event.description} ({event.agent_type or event.kind or 'a task'})")
        case ModelFallbackEvent():
            yield shorten(
                f"! on with {event.fallback} instead of {event.original} ({event.trigger or 'no reason given'})"
            )
        case CompactBoundaryEvent():
            yield f"* the conversation is summed up: {event.tokens_before:,} tokens become {event.tokens_after:,}"
        case RateLimitEvent():
            yield from _rate_limit(event)
        case ControlRequestEvent():
            if event.tool:
                yield shorten(f"? may it use {event.tool} {describe_input(event.input)}".rstrip())
        case ControlResponseEvent():
            if event.error:
                yield shorten(f"! the CLI refuses: {event.error}")
        case StreamEvent() | StatusEvent() | ToolProgressEvent() | CommandLifecycleEvent() | Unknown():
            return
        case _:
            assert_never(event)


def _behind(agent: str | None, lines: Iterator[str]) -> Iterator[str]:
    return lines if agent is None else (f"| {line}" for line in lines)


def _told(event: UserEvent) -> Iterator[str]:
    if event.is_synthetic:
        # The summary of a long conversation is for the model; that there is one is said by another event.
        return
    match event.tool_output:
        case {"agentId": _, "content": [*_, {"text": str(report)}]}:
            # The model is told more: what to make of a subagent's report, and how much it took.
            yield from _tool_result(ToolResultBlock("", report, is_error=False, extras={}))
        case _:
            for block in event.blocks:
                yield from _block(block, "< ")


def _block(block: Block, mark: str) -> Iterator[str]:
    match block:
        case TextBlock():
            yield from _said(block.text, mark)
        case ThinkingBlock():
            yield _thought(block.text)
        case ToolUseBlock():
            yield shorten(f"> {block.name} {describe_input(block.input)}".rstrip())
        case ToolResultBlock():
            yield from _tool_result(block)
        case UnknownBlock():
            return
        case _:
            assert_never(block)


def _said(text: str, mark: str) -> Iterator[str]:
    if output := _LOCAL_OUTPUT.match(text):
        return _text(output[1], "* ")
    command = _LOCAL_COMMAND.match(text)
    return _text(f"{command[1]} {command[2]}" if command else text, mark)


def _text(text: str, mark: str) -> Iterator[str]:
    lines = text.strip().splitlines()
    for at, line in enumerate(lines[:_TEXT_LINES]):
        yield (" " * len(mark) if at else mark) + line
    if len(lines) > _TEXT_LINES:
        yield _more(len(lines) - _TEXT_LINES)


def _thought(text: str) -> str:
    lines = text.strip().splitlines()
    if not lines:
        return "~ thinking"
    begins = shorten(text.strip(), _THOUGHT_CHARS)
    return f"~ thinking: {begins}" + (f" ({len(lines)} lines)" if len(lines) > 1 else "")


def _tool_result(block: ToolResultBlock) -> Iterator[str]:
    first, _, rest = "\n".join(_parts(block.content)).strip().partition("\n")
    more = f" {_more(rest.count(chr(10)) + 1)}" if rest else ""
    mark = "!" if block.is_error else " "
    if first or block.is_error:
        yield f"{mark} {shorten(first, WIDTH - len(more))}{more}".rstrip()


def _more(lines: int) -> str:
    return "(+ 1 line)" if lines == 1 else f"(+ {lines} lines)"


def _parts(content: Any) -> Iterator[str]:
    for part in content if isinstance(content, list) else [content]:
        match part:
            case str(text) | {"text": str(text)} | {"title": str(text)} | {"error_code": str(text)}:
                yield text
            case {"type": str(kind)}:
                yield f"[{kind}]"
            case _:
                continue


def _retry(event: ApiRetryEvent) -> str:
    what = f"{event.status}" if event.status else "nothing"
    why = f" ({event.error.replace('_', ' ')})" if event.error else ""
    when = f"again in {event.delay_ms / 1000:.1f} s ({event.attempt} of {event.max_retries})"
    return f"! the API answered {what}{why}: {when}"


def _rate_limit(event: RateLimitEvent) -> Iterator[str]:
    # It says so, too, that all is well: that is no news.
    which = event.limit.replace("_", " ") or "rate"
    if event.status == "rejected":
        yield shorten(f"! the {which} limit is reached")
    elif event.status == "allowed_warning":
        used = f": {event.utilization:.0%} used" if event.utilization else ""
        yield shorten(f"! the {which} limit is near{used}")


def _denials(event: ResultEvent) -> str:
    tools = ", ".join(dict.fromkeys(denial.tool for denial in event.permission_denials))
    count = len(event.permission_denials)
    return f"! {count} calls were not allowed: {tools}" if count > 1 else f"! a call was not allowed: {tools}"


def _result(event: ResultEvent) -> str:
    tokens = event.tokens
    figures = [
        "1 turn" if event.num_turns == 1 else f"{event.num_turns} turns",
        f"{event.duration_ms / 1000:.1f} s",
        f"{tokens.input + tokens.cache_read + tokens.cache_write:,} tokens in",
        f"{tokens.output:,} out",
        f"${event.total_cost_usd:.4f} in all",
    ]
    took = ", ".join(figures)
    return f"= failed: {shorten(event.text or event.subtype)} ({took})" if event.is_error else f"= finished: {took}"
