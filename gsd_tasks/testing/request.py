"""A request as the model got it, with what a script or an assertion asks of it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

# The CLI names the directory in its description of the environment, which stands in the system prompt or in a message.
_WORKING_DIR: Final = re.compile(r"^\W*(?:Primary )?[Ww]orking directory: (.+)$", re.MULTILINE)
_REMINDER: Final = "<system-reminder>"
# What the CLI puts in the model's mouth when it resumes a conversation in the middle of a turn.
_NO_ANSWER: Final = "No response requested."


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What a tool gave back to the model."""

    tool_use_id: str
    text: str
    is_error: bool


@dataclass(frozen=True, slots=True)
class Request:
    """One `POST /v1/messages`. `body` is its JSON; `headers` have names in lower case."""

    headers: Mapping[str, str]
    body: Mapping[str, Any]

    @property
    def session_id(self) -> str:
        """The CLI's session id; empty for another client."""
        return self.headers.get("x-claude-code-session-id", "")

    @property
    def prompt(self) -> str:
        """What the person asked first, without the reminders that the CLI adds."""
        return next((text for message in self._messages("user") if (text := _said(message)) is not None), "")

    @property
    def last_prompt(self) -> str:
        """What the person asked last: the same as `prompt` unless there was a follow-up."""
        said = [text for message in self._messages("user") if (text := _said(message)) is not None]
        return said[-1] if said else ""

    @property
    def answers(self) -> int:
        """How many answers of the model the conversation holds already."""
        return sum(_said(message) != _NO_ANSWER for message in self._messages("assistant"))

    @property
    def tool_results(self) -> tuple[ToolResult, ...]:
        """What the tools of the last answer gave."""
        results: tuple[ToolResult, ...] = ()
        for message in self._messages("user"):
            blocks = [block for block in _blocks(message) if block.get("type") == "tool_result"]
            results = tuple(_tool_result(block) for block in blocks) or results
        return results

    @property
    def working_dir(self) -> str:
        """The session's working directory as the CLI tells it to the model, or `.`."""
        texts = [block.get("text", "") for block in _as_blocks(self.body.get("system"))]
        texts += [block.get("text", "") for message in self.body.get("messages", []) for block in _blocks(message)]
        found = (_WORKING_DIR.search(text) for text in texts)
        return next((match[1].strip() for match in found if match), ".")

    @property
    def tokens(self) -> int:
        """A guess that grows with the request; nothing is counted."""
        return len(json.dumps(self.body)) // 4

    def _messages(self, role: str) -> Iterator[Mapping[str, Any]]:
        return (message for message in self.body.get("messages", []) if message.get("role") == role)


def _said(message: Mapping[str, Any]) -> str | None:
    texts = [block.get("text", "") for block in _blocks(message) if block.get("type") == "text"]
    own = [text for text in texts if not text.lstrip().startswith(_REMINDER)]
    return "\n".join(own).strip() if own else None


def _tool_result(block: Mapping[str, Any]) -> ToolResult:
    text = "\n".join(part.get("text", "") for part in _as_blocks(block.get("content")))
    return ToolResult(str(block.get("tool_use_id", "")), text, bool(block.get("is_error")))


def _blocks(message: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return _as_blocks(message.get("content"))


def _as_blocks(content: Any) -> list[Mapping[str, Any]]:
    """The API takes a string wherever it takes a list of blocks."""
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    return [block for block in content or [] if isinstance(block, Mapping)]
