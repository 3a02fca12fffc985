"""Checking what a producer wants of the claude CLI."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from gsd_tasks.domain.checking import check_json, check_text, check_whole
from gsd_tasks.domain.errors import InvalidValue
from gsd_tasks.domain.session import MCP_SERVERS

if TYPE_CHECKING:
    from gsd_tasks.domain.session import ClaudeOptions

LARGEST_WORD_BYTES: Final = 4096
LARGEST_SYSTEM_PROMPT_BYTES: Final = 1024 * 1024
#: It is an argument of the CLI, which takes it from nowhere else; Linux takes no longer one than 128 KiB.
LARGEST_SCHEMA_BYTES: Final = 120 * 1024
MOST_FOLDERS: Final = 100
MOST_BUDGET_USD: Final = 1_000_000
MOST_TURNS: Final = 1_000_000


def check_claude(options: ClaudeOptions) -> None:
    """Raise `InvalidValue` for the first option that cannot be used."""
    for word in (options.model, options.fallback_model, *options.allowed_tools, *options.disallowed_tools):
        if word is not None:
            check_text("claude options", word, LARGEST_WORD_BYTES)
    if options.max_turns is not None:
        check_whole("max_turns", options.max_turns, 1, MOST_TURNS)
    _check_budget(options.max_budget_usd)
    _check_folders(options.add_dirs)
    if options.append_system_prompt is not None:
        check_text("append_system_prompt", options.append_system_prompt, LARGEST_SYSTEM_PROMPT_BYTES)
    if options.mcp_config is not None:
        _check_servers(options.mcp_config)
    if options.agents is not None:
        _check_named_objects("agents", options.agents)
    if options.json_schema is not None:
        check_json("json_schema", options.json_schema, LARGEST_SCHEMA_BYTES)


def _check_budget(budget: object) -> None:
    if budget is None:
        return
    if isinstance(budget, bool) or not isinstance(budget, int | float) or not math.isfinite(budget):
        raise InvalidValue("max_budget_usd", f"{budget!r} is no amount")
    if not 0 < budget <= MOST_BUDGET_USD:
        raise InvalidValue("max_budget_usd", f"{budget} is not in more than 0 to {MOST_BUDGET_USD} dollars")


def _check_folders(folders: tuple[str, ...]) -> None:
    if len(folders) > MOST_FOLDERS:
        raise InvalidValue("add_dirs", f"are more than {MOST_FOLDERS}")
    for folder in folders:
        check_text("add_dirs", folder, LARGEST_WORD_BYTES - 1)
        if not folder.startswith("/"):
            raise InvalidValue("add_dirs", f"{folder!r} is not an absolute path")


def _check_servers(config: Mapping[str, Any]) -> None:
    check_json("mcp_config", config)
    if set(config) != {MCP_SERVERS}:
        raise InvalidValue("mcp_config", f'must have the one key "{MCP_SERVERS}", as in a .mcp.json')
    _check_named_objects("mcp_config", config[MCP_SERVERS])


def _check_named_objects(name: str, value: Mapping[str, Any]) -> None:
    """As the CLI wants them: else it would end before its first word, on a worker, much later."""
    check_json(name, value)
    for key, inner in value.items():
        if not key or not isinstance(inner, Mapping):
            raise InvalidValue(name, f"{key!r}: is no name with a JSON object")
