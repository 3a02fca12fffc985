"""The few words in which a person is told what stands in an event in full."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

WIDTH: Final = 160
# What says most about a tool's call, best first.
_TELLING: Final = ("command", "file_path", "notebook_path", "pattern", "url", "query", "description", "prompt", "skill")


def shorten(text: str, width: int = WIDTH) -> str:
    """The beginning of `text` on one line of at most `width` characters, with an ellipsis if there is more."""
    # Only so much of it is looked at: it may be megabytes.
    one_line = " ".join(text[: 4 * width].split())
    return one_line if len(one_line) <= width and len(text) <= 4 * width else one_line[: width - 1] + "…"


def describe_input(given: Mapping[str, Any]) -> str:
    """What matters most of a tool's input, whole; all of it, as JSON, where it is not known what does."""
    telling = (given[name] for name in _TELLING if isinstance(given.get(name), str))
    return next(telling, None) or (json.dumps(given, ensure_ascii=False) if given else "")
