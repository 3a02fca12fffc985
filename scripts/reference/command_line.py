"""`docs/reference/cli.md`: every command with its arguments and options, as `--help` has them."""

from __future__ import annotations

import re
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, get_args

import typer.main

from gsd_tasks.cli.app import _app
from scripts.reference import markdown

if TYPE_CHECKING:
    from collections.abc import Iterator

_BEGINNING: Final = """\
# Command line

What `gsd-tasks COMMAND --help` says, all of it in one place. [Exit codes](errors.md) have a page of their own.

- Each command talks to what `GSD_*` names ([settings](../settings.md)): an API, or the two servers; else to the `up` of
  this user.
- A session's ID may be any start of it that fits one session alone.
- A DURATION is a number of seconds, or `90s`, `30m`, `2h`, `1d`. A TIME is such a one from now (or ago, where the past
  is meant), or a point like `2026-11-21T18:00`, in the time zone of the machine unless it says otherwise.
- What a command says of itself goes to standard error. `--json` prints what the [API](../api.md) answers.
"""


def page(_before: str) -> str:
    """The page."""
    root: Any = typer.main.get_command(_app())
    parts = [markdown.MADE, _BEGINNING.strip()]
    for names, command in _commands(root):
        parts += _section(names, command)
    return "\n\n".join(part for part in parts if part) + "\n"


def _commands(group: Any, *before: str) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, command in group.commands.items():
        if command.hidden or name == "ls":  # `ps` says that it is the same
            continue
        if hasattr(command, "commands"):
            yield from _commands(command, *before, name)
        else:
            yield (*before, name), command


def _section(names: tuple[str, ...], command: Any) -> Iterator[str]:
    arguments = [one for one in command.params if one.param_type_name == "argument"]
    options = [one for one in command.params if one.param_type_name == "option" and not one.hidden]
    usage = [*names, "[OPTIONS]" if options else "", *(_usage(one) for one in arguments)]
    yield f"## {' '.join(names)}"
    yield f"```text\ngsd-tasks {' '.join(word for word in usage if word)}\n```"
    yield markdown.paragraphs(command.help or "")
    if arguments:
        yield markdown.table(("argument", "meaning"), ((f"`{_name(one)}`", _words(one.help)) for one in arguments))
    for panel in dict.fromkeys(getattr(one, "rich_help_panel", None) for one in options):
        shown = [one for one in options if getattr(one, "rich_help_panel", None) == panel]
        if isinstance(panel, str):
            yield f"{panel}:"
        yield markdown.table(("option", "default", "meaning"), map(_option, shown))


def _usage(argument: Any) -> str:
    name = _name(argument)
    return name if argument.required or name.startswith("[") else f"[{name}]"


def _name(argument: Any) -> str:
    return str(argument.metavar or argument.name).upper().rstrip("_")


def _option(option: Any) -> tuple[str, str, str]:
    names = ", ".join(f"`{name}`" for name in sorted(option.opts, key=len))
    value = "" if option.is_flag else f" {_value(option)}"
    return f"{names}{value}", _default(option), _words(option.help)


def _value(option: Any) -> str:
    if option.metavar:
        return str(option.metavar)
    kind = option.type_descriptor.annotation
    for inner in (*get_args(kind), kind):  # of what may be repeated, one
        if isinstance(inner, type) and issubclass(inner, Enum):
            return ", ".join(f"`{one.value}`" for one in inner)
    return {int: "N", float: "N", Path: "FILE"}.get(kind, "TEXT")


def _default(option: Any) -> str:
    if isinstance(option.show_default, str):
        return option.show_default
    default = getattr(option.default, "value", option.default)
    if option.required:
        return "required"
    if default is None or default is False or default == () or callable(default):
        return "none" if not option.is_flag else ""
    return f"`{default}`"


def _words(help_: str | None) -> str:
    return re.sub(r"\s+", " ", help_ or "").strip()
