"""The tables of `docs/settings.md`: a line for each setting, with its default and what the code says of it."""

from __future__ import annotations

import re
from typing import Final

from gsd_tasks.settings import Settings
from scripts.reference import markdown

_ROW: Final = re.compile(r"^\| `GSD_(\w+)` \|.*$", re.MULTILINE)
#: Another one for each user; and one that has a place of its own on the page.
_IN_WORDS: Final = {"state_dir": "the user's state folder", "claude_env": "[below](#credentials-for-claude)"}


def rewritten(page: str) -> str:
    """The page with its tables as they should be: which one a setting is in, and where, is the page's.

    Raises:
        ValueError: a setting is on no line, or a line has no setting.
    """
    named = [name.lower() for name in _ROW.findall(page)]
    if missing := sorted(Settings.model_fields.keys() - set(named)):
        raise ValueError(f"give each of these a line `| `GSD_NAME` |` in a table of docs/settings.md: {missing}")
    if unknown := sorted(set(named) - Settings.model_fields.keys()):
        raise ValueError(f"no such settings: take their lines out of docs/settings.md: {unknown}")
    return _ROW.sub(lambda match: _row(match[1].lower()), page)


def _row(name: str) -> str:
    field = Settings.model_fields[name]
    default = _IN_WORDS.get(name) or _shown(field.default)
    return markdown.row((f"`GSD_{name.upper()}`", default, field.description or ""))


def _shown(default: object) -> str:
    match default:
        case None | ():
            return "none"
        case tuple():
            return f"`{','.join(default)}`"
        case bool():
            return f"`{str(default).lower()}`"
        case float() | int():
            return f"`{default:.10g}`"
        case _:
            return f"`{default}`"
