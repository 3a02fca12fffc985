"""What the claude CLI says on stdout, as far as a session's outcome depends on it.

Pure, and forgiving: a newer CLI may add types and fields, so what is unknown is passed over and rubbish never raises.
"""

from __future__ import annotations

import json
import math
import re
import signal
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple

from gsd_tasks.domain.state import Reason

# The longest line that is looked at as a whole. A result repeats the inputs of denied tool calls, so it can be long.
MAX_LINE_BYTES: Final = 64 * 1024 * 1024

_HEAD_BYTES: Final = 256
_DETAIL_CHARS: Final = 500
# Most events begin with their type, and are told by it. A result does not: its type may stand at the very end.
_HEAD: Final = re.compile(rb'\s*\{\s*"type"\s*:\s*"([^"\\]*)"')
_OURS: Final = re.compile(rb'"type"\s*:\s*"(?:result|system)"')
# Postgres takes neither in JSON or text; JSON escapes can smuggle both in.
_NO_TEXT: Final = re.compile("[\x00\ud800-\udfff]")
_KNOWN: Final = frozenset(
    {
        "type",
        "subtype",
        "is_error",
        "terminal_reason",
        "result",
        "num_turns",
        "total_cost_usd",
        "usage",
        "permission_denials",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class InitEvent:
    """The CLI has started a turn."""

    session_id: str
    model: str
    cli_version: str
    permission_mode: str
    working_dir: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultEvent:
    """The CLI has ended a turn. All text in it can be stored: no NUL, no lone surrogate, no number that is none.

    `text` is the answer, or the error if `is_error`. `total_cost_usd` counts over all turns of a resumed conversation,
    `usage` over this one. `permission_denials` names the tools that were not allowed. `extras` is the rest, as it came.
    """

    subtype: str
    is_error: bool
    terminal_reason: str | None
    text: str
    num_turns: int
    total_cost_usd: float
    usage: Mapping[str, Any]
    permission_denials: tuple[str, ...]
    model: str | None
    extras: Mapping[str, Any]

    def summary(self) -> dict[str, Any]:
        """What a session keeps as its `result`."""
        return {
            "text": self.text,
            "turns": self.num_turns,
            "cost_usd": self.total_cost_usd,
            "model": self.model,
            "subtype": self.subtype,
            "terminal_reason": self.terminal_reason,
            "usage": dict(self.usage),
            "permission_denials": list(self.permission_denials),
        }


ClaudeEvent = InitEvent | ResultEvent


class Verdict(NamedTuple):
    """How a Claude session ended: well or not, why, and a sentence for people."""

    ok: bool
    reason: Reason
    detail: str


class Conversation:
    """Follows stdout and keeps what the outcome needs: the last turn's `init` and its `result`.

    Takes at most `MAX_LINE_BYTES` and a few; a line that is neither of the two is dropped at its first bytes as a rule.
    """

    def __init__(self) -> None:
        self.init: InitEvent | None = None
        self.result: ResultEvent | None = None
        self._pieces: list[bytes] = []
        self._size_bytes = 0
        self._skipping = False

    def feed(self, data: str | bytes, *, eol: bool = True) -> None:
        """Take a line, or a piece of one if `eol` is false."""
        if not self._skipping:
            self._collect(data.encode(errors="surrogatepass") if isinstance(data, str) else data)
        if eol:
            self.end()

    def end(self) -> None:
        """The line is over; also for the end of the stream, where the last newline may be missing."""
        line = b"".join(self._pieces)
        self._pieces, self._size_bytes, self._skipping = [], 0, False
        match parse_line(line):
            case InitEvent() as init:
                # A further turn has begun: the former one's result says nothing about how this one ends.
                self.init, self.result = init, None
            case ResultEvent() as result:
                model = self.init.model if self.init else result.model
                self.result = replace(result, model=model)
            case None:
                pass

    def _collect(self, data: bytes) -> None:
        in_head = self._size_bytes < _HEAD_BYTES
        self._pieces.append(data)
        self._size_bytes += len(data)
        if self._size_bytes > MAX_LINE_BYTES or (in_head and _is_other(b"".join(self._pieces)[:_HEAD_BYTES])):
            self._pieces, self._skipping = [], True


def parse_line(data: str | bytes) -> ClaudeEvent | None:
    """The event in a line of stdout, or None for one that does not matter here. Never raises."""
    line = data.encode(errors="surrogatepass") if isinstance(data, str) else data
    if len(line) > MAX_LINE_BYTES or _is_other(line[:_HEAD_BYTES]) or not _OURS.search(line):
        return None
    event = read_json(line)
    if not isinstance(event, dict):
        return None
    match event.get("type"), event.get("subtype"):
        case "system", "init":
            return _init(event)
        case "result", _:
            return _result(event)
        case _:
            return None


def judge(result: ResultEvent | None, exit_code: int | None, exit_signal: int | None) -> Verdict:
    """By what the CLI says of itself first, by how it exited last: its exit code alone says little.

    A denied tool still ends in success with 0, an interrupted run is an error with 0, and a run whose answer was
    complete before something ended the process has succeeded.
    """
    exit_words = _exit_words(exit_code, exit_signal)
    if result is None:
        return Verdict(False, Reason.NO_RESULT, f"claude ended with {exit_words} before it gave a result")
    if result.is_error or result.subtype != "success":
        return Verdict(False, Reason.CLAUDE_ERROR, _error_words(result))
    turns = "1 turn" if result.num_turns == 1 else f"{result.num_turns} turns"
    after = "" if exit_code == 0 else f", then {exit_words}"
    return Verdict(True, Reason.FINISHED, f"claude answered after {turns}, ${result.total_cost_usd:.4f}{after}")


def read_json(line: str | bytes) -> object:
    """The value in a line, fit to be stored; None for what is no JSON."""
    try:
        value = json.loads(line.decode(errors="replace") if isinstance(line, bytes) else line)
        return _storable(value)
    except (ValueError, RecursionError):
        return None


def _is_other(head: bytes) -> bool:
    found = _HEAD.match(head)
    return found is not None and found[1] not in (b"system", b"result")


def _storable(value: Any) -> Any:
    match value:
        case str():
            return _NO_TEXT.sub("\N{REPLACEMENT CHARACTER}", value)
        case float() if not math.isfinite(value):
            return None
        case dict():
            return {_storable(key): _storable(item) for key, item in value.items()}
        case list():
            return [_storable(item) for item in value]
        case _:
            return value


def _init(fields: Mapping[str, Any]) -> InitEvent:
    return InitEvent(
        session_id=_text(fields, "session_id"),
        model=_text(fields, "model"),
        cli_version=_text(fields, "claude_code_version"),
        permission_mode=_text(fields, "permissionMode"),
        working_dir=_text(fields, "cwd"),
    )


def _result(fields: Mapping[str, Any]) -> ResultEvent:
    denials = fields.get("permission_denials")
    denied = denials if isinstance(denials, list) else []
    models = fields.get("modelUsage")
    return ResultEvent(
        subtype=_text(fields, "subtype"),
        is_error=fields.get("is_error") is True,
        terminal_reason=_text(fields, "terminal_reason") or None,
        text=_text(fields, "result") or _errors(fields),
        num_turns=int(_number(fields, "num_turns")),
        total_cost_usd=_number(fields, "total_cost_usd"),
        usage=usage if isinstance(usage := fields.get("usage"), dict) else {},
        permission_denials=tuple(_text(item, "tool_name") for item in denied if isinstance(item, dict)),
        model=next(iter(models), None) if isinstance(models, dict) else None,
        extras={name: value for name, value in fields.items() if name not in _KNOWN},
    )


def _text(fields: Mapping[str, Any], name: str) -> str:
    value = fields.get(name)
    return value if isinstance(value, str) else ""


def _number(fields: Mapping[str, Any], name: str) -> float:
    value = fields.get(name)
    return float(value) if isinstance(value, int | float) and abs(value) < 1e15 else 0.0


def _errors(fields: Mapping[str, Any]) -> str:
    errors = fields.get("errors")
    return "; ".join(item for item in errors if isinstance(item, str)) if isinstance(errors, list) else ""


def _error_words(result: ResultEvent) -> str:
    # One sentence for the history: the whole text stands in the session's result and in its output.
    text = " ".join(result.text[: 4 * _DETAIL_CHARS].split())[:_DETAIL_CHARS]
    return text or f"claude reports {result.subtype or 'an error'} ({result.terminal_reason or 'no reason given'})"


def _exit_words(exit_code: int | None, exit_signal: int | None) -> str:
    if exit_signal is None:
        return f"exit code {exit_code}" if exit_code is not None else "an unknown exit"
    known = {member.value: member.name for member in signal.Signals}
    return f"signal {exit_signal} ({known.get(exit_signal, 'unnamed')})"
