"""Tables and field lists for people. Every cell is made safe, and none of it is read as markup."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from gsd_tasks.domain.sanitize import one_line, visible_lines

# A file or a pipe has no width: nothing is cut or wrapped there.
_ENDLESS: Final = 100_000
_STYLES: Final = {
    "running": "cyan",
    "completed": "green",
    "failed": "red",
    "cancelled": "yellow",
    "alive": "green",
    "stopped": "dim",
    "gone": "red",
    "ok": "green",
    "note": "yellow",
    "problem": "red",
}


def print_table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """One line a row; on a terminal too narrow for it, the last column is what is cut."""
    _console().print(make_table(headings, rows))


def make_table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    """The same, to be shown among other things."""
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
    for heading in headings:
        table.add_column(heading, no_wrap=True, overflow="ellipsis", min_width=None if heading == headings[-1] else 4)
    for row in rows:
        table.add_row(*(_cell(text) for text in row))
    return table


def print_fields(pairs: Iterable[tuple[str, str | None]]) -> None:
    """A name and its value on each line, what has no value left out; a value of several lines stands below its name."""
    known = [(name, value) for name, value in pairs if value]
    width = max((len(name) for name, _ in known), default=0)
    for name, value in known:
        lines = visible_lines(value)
        print(
            f"{name:<{width}}  {lines[0]}" if len(lines) == 1 else "\n".join([name, *(f"  {line}" for line in lines)])
        )


def _cell(text: str) -> Text:
    safe = one_line(text)
    # The blanks that it begins with stay: trees are drawn with them.
    return Text(" " * (len(text) - len(text.lstrip(" "))) + safe, style=_STYLES.get(safe, ""))


def _console() -> Console:
    width = None if sys.stdout.isatty() else _ENDLESS
    return Console(file=sys.stdout, width=width, markup=False, highlight=False, emoji=False, soft_wrap=False)
