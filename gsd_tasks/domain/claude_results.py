"""How the claude CLI ends a turn: its `result` event, and what of it a session keeps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final, Self

from gsd_tasks.domain.claude_fields import Fields
from gsd_tasks.domain.claude_words import shorten

_MOST_FIELDS: Final = 20


@dataclass(frozen=True, slots=True)
class Denial:
    """A call of a tool that was not allowed."""

    tool: str
    tool_use_id: str
    input: Mapping[str, Any]

    def brief(self) -> Self:
        """The same with its input cut to what fits into a few lines, however long a file it was to write."""
        texts = {name: shorten(value) for name, value in self.input.items() if isinstance(value, str)}
        numbers = {name: value for name, value in self.input.items() if isinstance(value, int | float)}
        return replace(self, input=dict(list((texts | numbers).items())[:_MOST_FIELDS]))


@dataclass(frozen=True, slots=True)
class Tokens:
    """What was read and written. `input` is what was paid in full: neither read from the cache nor written to it."""

    input: int
    output: int
    cache_read: int
    cache_write: int

    @classmethod
    def of_usage(cls, usage: Mapping[str, Any]) -> Self:
        """By the API's names."""
        read = Fields(usage).count
        names = ("input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")
        return cls(*(read(name) for name in names))

    @classmethod
    def of_model(cls, usage: object) -> Self:
        """By the names of a model in `modelUsage`."""
        read = Fields(usage).count
        names = ("inputTokens", "outputTokens", "cacheReadInputTokens", "cacheCreationInputTokens")
        return cls(*(read(name) for name in names))

    @classmethod
    def of_models(cls, usage: Mapping[str, Any]) -> Self:
        """Of all models in `modelUsage`."""
        used = [Tokens.of_model(of_it) for of_it in usage.values()]
        return cls(
            sum(one.input for one in used),
            sum(one.output for one in used),
            sum(one.cache_read for one in used),
            sum(one.cache_write for one in used),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultEvent:
    """The CLI has ended a turn. All text in it can be stored: no NUL, no lone surrogate, no number that is none.

    `text` is the answer, or the error if `is_error`. `total_cost_usd` and `model_usage` (per model) count over all
    turns of a resumed conversation, `usage` over this one. `api_error_status` is the HTTP status with which the API
    refused in the end. `structured_output` is what a `--json-schema` asked for. `extras` is the rest, as it came.
    """

    subtype: str
    is_error: bool
    terminal_reason: str | None
    text: str
    num_turns: int
    duration_ms: float
    total_cost_usd: float
    usage: Mapping[str, Any]
    model_usage: Mapping[str, Any]
    permission_denials: tuple[Denial, ...]
    #: Per model, of this turn alone; a CLI that is older does not tell.
    turn_model_usage: Mapping[str, Any] = field(default_factory=dict)
    structured_output: Any
    errors: tuple[str, ...]
    api_error_status: int | None
    model: str | None
    extras: Mapping[str, Any]

    @property
    def tokens(self) -> Tokens:
        """Of this turn alone, with those of subagents, as far as the CLI tells."""
        # `usage` leaves out subagents, and is empty where the budget was used up.
        return Tokens.of_models(self.turn_model_usage) if self.turn_model_usage else Tokens.of_usage(self.usage)

    def summary(self) -> dict[str, Any]:
        """What a session keeps as its `result`."""
        return {
            "text": self.text,
            "structured_output": self.structured_output,
            "is_error": self.is_error,
            "turns": self.num_turns,
            "duration_s": self.duration_ms / 1000,
            "tokens": asdict(self.tokens),
            "cost_usd": self.total_cost_usd,
            "model": self.model,
            "models": {name: _model(usage) for name, usage in self.model_usage.items()},
            "subtype": self.subtype,
            "terminal_reason": self.terminal_reason,
            "api_error_status": self.api_error_status,
            "usage": dict(self.usage),
            "denials": [_summary_of(denial.brief()) for denial in self.permission_denials],
            "permission_denials": [denial.tool for denial in self.permission_denials],
        }


def parse_result(fields: Fields) -> ResultEvent:
    """The event from what the CLI printed, its `type` apart."""
    errors = tuple(item for item in fields.items("errors") if isinstance(item, str))
    models = fields.mapping("modelUsage")
    return ResultEvent(
        subtype=fields.text("subtype"),
        is_error=fields.flag("is_error"),
        terminal_reason=fields.text("terminal_reason") or None,
        text=fields.text("result") or "; ".join(errors),
        num_turns=fields.count("num_turns"),
        duration_ms=fields.number("duration_ms"),
        total_cost_usd=fields.number("total_cost_usd"),
        usage=fields.mapping("usage"),
        model_usage=models,
        turn_model_usage=fields.mapping("model_usage_since_last_result"),
        permission_denials=tuple(
            _denial(item) for item in fields.items("permission_denials") if isinstance(item, dict)
        ),
        structured_output=fields.value("structured_output"),
        errors=errors,
        api_error_status=fields.count("api_error_status") or None,
        model=next(iter(models), None),
        extras=fields.rest(),
    )


def _summary_of(denial: Denial) -> dict[str, Any]:
    return {"tool": denial.tool, "input": denial.input}


def _denial(item: Mapping[str, Any]) -> Denial:
    fields = Fields(item)
    return Denial(fields.text("tool_name"), fields.text("tool_use_id"), fields.mapping("tool_input"))


def _model(usage: object) -> dict[str, Any]:
    return asdict(Tokens.of_model(usage)) | {"cost_usd": Fields(usage).number("costUSD")}
