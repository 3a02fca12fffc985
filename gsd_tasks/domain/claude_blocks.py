"""What a message of a Claude conversation consists of.

Source: https://docs.anthropic.com/en/api/messages, and what the CLI prints.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gsd_tasks.domain.claude_fields import Fields


@dataclass(frozen=True, slots=True)
class TextBlock:
    """What somebody said."""

    text: str
    extras: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ThinkingBlock:
    """What the model thought. Empty where the API keeps it to itself, `redacted_thinking` included."""

    text: str
    extras: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ToolUseBlock:
    """A call of a tool: the CLI's own, an MCP server's, or one that the API runs on its side."""

    id: str
    name: str
    input: Mapping[str, Any]
    extras: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ToolResultBlock:
    """What a tool gave: a text, a list of parts, or an object, as it came."""

    tool_use_id: str
    content: Any
    is_error: bool
    extras: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class UnknownBlock:
    """A block of a type that is not known here."""

    type: str
    fields: Mapping[str, Any]


Block = TextBlock | ThinkingBlock | ToolUseBlock | ToolResultBlock | UnknownBlock


def parse_blocks(content: object) -> tuple[Block, ...]:
    """The blocks of a message's `content`, which may be a text alone. What is no block is left out."""
    if isinstance(content, str):
        return (TextBlock(content, {}),)
    return tuple(_block(item) for item in content if isinstance(item, dict)) if isinstance(content, list) else ()


def _block(item: Mapping[str, Any]) -> Block:
    fields = Fields(item)
    match kind := fields.text("type"):
        case "text":
            return TextBlock(fields.text("text"), fields.rest())
        case "thinking":
            return ThinkingBlock(fields.text("thinking"), fields.rest())
        case "redacted_thinking":
            return ThinkingBlock("", fields.rest())
        case "tool_use" | "server_tool_use" | "mcp_tool_use":
            return ToolUseBlock(fields.text("id"), fields.text("name"), fields.mapping("input"), fields.rest())
        case _ if kind.endswith("tool_result"):
            # The API's own tools each have a type of their own: `web_search_tool_result` and so on.
            content, is_error = fields.value("content"), fields.flag("is_error")
            failed = isinstance(content, dict) and "error_code" in content
            return ToolResultBlock(fields.text("tool_use_id"), content, is_error or failed, fields.rest())
        case _:
            return UnknownBlock(kind, dict(item))
