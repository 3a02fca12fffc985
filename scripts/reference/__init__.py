"""The pages, and the tables of pages, that are made from the code: `make reference` writes them, a test compares them.

A page below `docs/reference` is made as a whole. In `docs/settings.md` and `docs/metrics.md` people write what stands
around the tables, and the code says what is in them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from scripts.reference import command_line, errors, events, metrics, settings

ROOT: Final = Path(__file__).parents[2]

PAGES: Final[Mapping[str, Callable[[str], str]]] = {
    "docs/settings.md": settings.rewritten,
    "docs/metrics.md": metrics.rewritten,
    "docs/reference/cli.md": command_line.page,
    "docs/reference/events.md": events.page,
    "docs/reference/errors.md": errors.page,
}
"""What makes each page of what it is now, which may be nothing."""


def made(name: str) -> str:
    """The page as it should be."""
    path = ROOT / name
    return PAGES[name](path.read_text(encoding="utf-8") if path.exists() else "")
