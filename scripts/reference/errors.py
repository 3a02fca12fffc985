"""`docs/reference/errors.md`: exit codes, the tree of errors and what each is over HTTP, the reasons of a session."""

from __future__ import annotations

import inspect
import re
from typing import Final

from gsd_tasks.cli import exits
from gsd_tasks.domain import errors
from gsd_tasks.wire.problems import LINES
from scripts.reference import markdown

_BEGINNING: Final = """\
# Exit codes and errors

Why a session has failed is another question, with a word of its own: `gsd-tasks show ID` says it, and
[the states of a session](../state-machine.md#why-a-session-has-failed) what to do about each.

## Exit codes

What `gsd-tasks run` and `wait` exit with, by how the session ended, and what any other command does.
"""
_TREE: Final = """\
## Errors

Everything that `gsd_tasks` raises on purpose, by the same names from the database and over HTTP
(`from gsd_tasks.domain.errors import ...`; the public ones are also in `gsd_tasks`). The command line prints the
message, one line, and exits with 2 for a `UsageError`, with 125 for any other.
"""
_HTTP: Final = """\
What each says, its data, and what it is over HTTP; the [API's page](../api.md#problems) has what HTTP adds.
"""


def page(_before: str) -> str:
    """The page."""
    tree, _, _ = _doc(errors).partition("\n\nEach message")
    parts = [
        markdown.MADE,
        _BEGINNING.strip(),
        _codes(),
        _said_after(_doc(exits)),
        _TREE.strip(),
        f"```text\n{inspect.cleandoc(tree.partition(chr(10))[2])}\n```",
        _HTTP.strip(),
        markdown.table(("error", "meaning", "data", "HTTP"), _classes()),
    ]
    return "\n\n".join(parts) + "\n"


def _doc(module: object) -> str:
    return inspect.cleandoc(inspect.getdoc(module) or "")


def _codes() -> str:
    """What is drawn in the docstring of `exits`: a column begins where its head does; a line may go on another one."""
    drawn = re.search(r"^ *code .*?(?=\n\n)", _doc(exits), re.MULTILINE | re.DOTALL)
    if drawn is None:
        raise ValueError("the docstring of gsd_tasks.cli.exits has no table")
    head, *lines = inspect.cleandoc(drawn[0]).splitlines()
    starts = [match.start() for match in re.finditer(r"(?<=  )\S|^\S", head)]
    rows: list[list[str]] = []
    for line in lines:
        cells = [line[at:to].strip() for at, to in zip(starts, [*starts[1:], None], strict=True)]
        if cells[0]:
            rows.append(cells)
        else:
            rows[-1] = [f"{before} {more}".strip() for before, more in zip(rows[-1], cells, strict=True)]
    cells_of_head = [head[at:to].strip() for at, to in zip(starts, [*starts[1:], None], strict=True)]
    return markdown.table(cells_of_head, rows)


def _said_after(doc: str) -> str:
    return markdown.paragraphs(doc.rsplit("\n\n", maxsplit=1)[-1])


def _classes() -> list[tuple[str, str, str, str]]:
    return [
        (
            f"`{line.error.__name__}`",
            " ".join((line.error.__doc__ or "").split()),
            ", ".join(f"`{name}`" for name in line.members),
            f"{line.status} `{line.slug}`",
        )
        for line in LINES
    ]
