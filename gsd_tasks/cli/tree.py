"""`tree`: the sessions that one belongs to, each below its parent or below what it is to follow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import typer

from gsd_tasks.cli import connection
from gsd_tasks.cli.reading import Id, Json, describe_status, shorten_ids, summary
from gsd_tasks.cli.shapes import print_json

if TYPE_CHECKING:
    from gsd_tasks.domain.tree import Branch

#: Deeper than this, all stand below each other.
_MOST_INDENTED: Final = 30


def register(app: typer.Typer) -> None:
    """Add the command of this file."""
    app.command("tree")(tree)


def tree(id_: Id, *, json: Json = False) -> None:
    """The sessions that it belongs to, from the root on: each once, below its parent or below what it is to follow."""
    with connection.connect() as client:
        branches = client.tree(id_)
    if json:
        print_json(branches)
        return
    from gsd_tasks.cli.tables import print_table

    ids = shorten_ids([str(branch.session.id) for branch in branches])
    rows = [_row(short, branch) for short, branch in zip(ids, branches, strict=True)]
    print_table(("SESSION", "STATUS", "REASON", "WHAT"), rows)


def _row(short: str, branch: Branch) -> tuple[str, ...]:
    indent = "  " * min(branch.depth - 1, _MOST_INDENTED) + "└ " if branch.depth else ""
    session = branch.session
    return f"{indent}{short}", describe_status(session), str(session.reason), summary(session)
