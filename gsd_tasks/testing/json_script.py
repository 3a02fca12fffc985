"""Scripts as JSON, for `python -m gsd_tasks.testing`.

    [{"text": "I write.", "tool": "Write", "input": {"file_path": "{cwd}/a", "content": "hi"}}, {"text": "Done."}]

or, to serve several sessions, `{"by_prompt": {"part of a prompt": [...], ...}, "default": [...]}`. A turn has
    `thinking`, `text`, `tool` + `input`, `delay_s`   an answer; its blocks come in this order
    `error`: {`status`, `type`, `message`, `retry_after`, `headers`}
    `cut`: n, or `hang`: seconds, or `pings`: seconds (+ `after`: n)
                                                 with an answer, of which n events come before it
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gsd_tasks.testing.script import (
    Answer,
    ApiError,
    Block,
    Cut,
    Hang,
    Pings,
    Reply,
    Script,
    Text,
    Thinking,
    ToolCall,
    Turn,
    by_prompt,
)


def script_from_json(data: Any) -> Script:
    """Raises `ValueError`, with the turn that is meant, for anything that is no script."""
    if isinstance(data, Mapping):
        scripts = {part: _turns(turns) for part, turns in data.get("by_prompt", {}).items()}
        return by_prompt(scripts, _turns(data.get("default", [])))
    return _turns(data)


def _turns(data: Any) -> list[Turn]:
    if not isinstance(data, list):
        raise ValueError(f"a list of turns is needed, not {data!r}")  # noqa: TRY004  # a wrong file, not a wrong call
    return [_turn(item) for item in data]


def _turn(item: Any) -> Turn:
    try:
        match item:
            case {"error": dict() as fields}:
                return ApiError(**fields)
            case {"cut": int(after)}:
                return Cut(after, _answer(item))
            case {"hang": int() | float() as seconds}:
                return Hang(seconds, after=item.get("after", 0), answer=_answer(item))
            case {"pings": int() | float() as seconds}:
                return Pings(seconds, after=item.get("after", 0), answer=_answer(item))
            case {"thinking": str()} | {"text": str()} | {"tool": str()}:
                return _answer(item)
            case _:
                raise ValueError(f"not a turn: {item!r}")
    except TypeError as error:
        raise ValueError(f"not a turn: {item!r} ({error})") from error


def _answer(item: Mapping[str, Any]) -> Answer:
    blocks: list[Block] = []
    if "thinking" in item:
        blocks.append(Thinking(item["thinking"]))
    if "text" in item:
        blocks.append(Text(item["text"]))
    if "tool" in item:
        blocks.append(ToolCall(item["tool"], item.get("input", {})))
    return Reply(tuple(blocks) or (Text("Done."),), item.get("delay_s", 0.0))
