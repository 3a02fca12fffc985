"""What pages are made of."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Sequence
from typing import Final

WIDTH: Final = 120
MADE: Final = "<!-- Made from the code by `make reference`: change the code, not this page. -->"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table."""
    return "\n".join([row(head), "|---" * len(head) + "|", *map(row, rows)])


def row(cells: Sequence[str]) -> str:
    """A line of a table. A `|` within code cannot be written so that every reader of Markdown shows it as it is."""
    shown = (
        re.sub(r"`[^`]*`", lambda code: code[0].replace(" | ", "` or `"), " ".join(cell.split())) for cell in cells
    )
    escaped = (re.sub(r"(?<!\\)\|", r"\\|", cell) for cell in shown)
    return "|" + "|".join(f" {cell} " if cell else " " for cell in escaped) + "|"


def paragraph(text: str, *, first: str = "", then: str = "") -> str:
    """One, in lines that fit on a screen."""
    words = " ".join(text.split())
    return textwrap.fill(
        words,
        WIDTH,
        initial_indent=first,
        subsequent_indent=then,
        break_long_words=False,
        break_on_hyphens=False,
    )


def paragraphs(text: str) -> str:
    """Each of a docstring's, which empty lines divide."""
    return "\n\n".join(paragraph(part) for part in re.split(r"\n\s*\n", text.strip()))
