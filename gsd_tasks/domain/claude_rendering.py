"""An event of the claude CLI in a person's words, for `gsd-tasks logs`.

* claude-opus-5-5 in /srv/shop, CLI 2.1.327
I look at the tests first.
> Bash pytest -q
  3 failed, 12 passed (+ 41 lines)
= finished: 4 turns, 12.3 s, $0.0412
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from gsd_tasks.domain.claude_events import read_json
from gsd_tasks.domain.sanitize import visible

_WIDTH: Final = 160
_TEXT_LINES: Final = 60
_MAX_LINE_CHARS: Final = 16 * 1024 * 1024
# What says most about a tool's call, best first.
_TELLING: Final = ("command", "file_path", "notebook_path", "pattern", "url", "query", "description", "prompt", "skill")


def render(line: str) -> list[str]:
    """The event as lines of text, safe for a terminal; none for an event that tells a person nothing, or no event.

    Long answers and inputs are shortened; the session's rows have all of it.
    """
    event = read_json(line) if len(line) <= _MAX_LINE_CHARS and line.lstrip().startswith("{") else None
    if not isinstance(event, dict):
        return []
    return [visible(shown) for shown in _lines(event)]


def _lines(event: Mapping[str, Any]) -> Iterator[str]:
    match event:
        case {"type": "assistant", "message": {"content": content}}:
            yield from _blocks(content)
        case {"type": "user", "message": {"content": content}}:
            yield from _blocks(content)
        case {"type": "system", "subtype": "init"}:
            where = f"{event.get('model')} in {event.get('cwd')}, CLI {event.get('claude_code_version')}"
            yield _short(f"* {where}")
        case {"type": "system", "subtype": "api_retry"}:
            yield _short(_retry(event))
        case {"type": "system", "subtype": "permission_denied"}:
            yield _short(f"! not allowed: {event.get('tool_name')}")
        case {"type": "result"}:
            yield _short(_result(event))
        case _:
            return


def _blocks(content: Any) -> Iterator[str]:
    for block in content if isinstance(content, list) else []:
        match block:
            case {"type": "text", "text": str(text)}:
                yield from _text(text)
            case {"type": "tool_use", "name": str(name)}:
                yield _short(f"> {name} {_input(block.get('input'))}".rstrip())
            case {"type": "tool_result"}:
                yield _tool_result(block)
            case _:
                continue


def _text(text: str) -> Iterator[str]:
    lines = text.strip().splitlines()
    yield from lines[:_TEXT_LINES]
    if len(lines) > _TEXT_LINES:
        yield f"(+ {len(lines) - _TEXT_LINES} lines)"


def _input(given: Any) -> str:
    if not isinstance(given, dict) or not given:
        return ""
    telling = (given[name] for name in _TELLING if isinstance(given.get(name), str))
    return next(telling, None) or json.dumps(given, ensure_ascii=False)


def _tool_result(block: Mapping[str, Any]) -> str:
    content = block.get("content")
    parts = content if isinstance(content, list) else [{"text": content}]
    text = "\n".join(str(part.get("text") or "") for part in parts if isinstance(part, dict))
    first, _, rest = text.strip().partition("\n")
    more = f" (+ {rest.count(chr(10)) + 1} lines)" if rest else ""
    mark = "!" if block.get("is_error") is True else " "
    return f"{mark} {_short(first, _WIDTH - len(more))}{more}".rstrip()


def _retry(event: Mapping[str, Any]) -> str:
    delay = event.get("retry_delay_ms")
    wait = f" in {delay / 1000:.0f} s" if isinstance(delay, int | float) else ""
    what = event.get("error_status") or "nothing"
    return f"! the API answered {what}: again{wait} ({event.get('attempt')} of {event.get('max_retries')})"


def _result(event: Mapping[str, Any]) -> str:
    turns = event.get("num_turns")
    figures = ["1 turn" if turns == 1 else f"{turns} turns"]
    if isinstance(duration := event.get("duration_ms"), int | float):
        figures.append(f"{duration / 1000:.1f} s")
    if isinstance(cost := event.get("total_cost_usd"), int | float):
        figures.append(f"${cost:.4f}")
    if event.get("is_error") is not True:
        return f"= finished: {', '.join(figures)}"
    return f"= failed: {event.get('result') or event.get('subtype')} ({', '.join(figures)})"


def _short(text: str, width: int = _WIDTH) -> str:
    one_line = " ".join(text[: 4 * width].split())
    return one_line if len(one_line) <= width and len(text) <= 4 * width else one_line[: width - 1] + "…"
