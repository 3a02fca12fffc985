"""`tree`: the sessions that one belongs to, each below its parent or below what it is to follow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import typer

from gsd_tasks.cli import connection
from gsd_tasks.cli.reading import Id, Json, describe_status, shorten_ids, summary
from gsd_tasks.cli.shapes import print_json

if TYPE_CHECKING:
    from collections.abc import Sequence

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
    guides = draw_guides([min(branch.depth, _MOST_INDENTED) for branch in branches])
    rows = [_row(guide + short, branch) for guide, short, branch in zip(guides, ids, branches, strict=True)]
    print_table(("SESSION", "STATUS", "REASON", "WHAT"), rows)


def draw_guides(depths: Sequence[int]) -> list[str]:
    """What stands before each line of a tree, from their depths: which is below which, and whether more come."""
    guides: list[str] = []
    # From the last one up: the depths at which something follows below the same session.
    followed: set[int] = set()
    for depth in reversed(depths):
        followed = {above for above in followed if above <= depth}
        lines = "".join("│ " if above in followed else "  " for above in range(1, depth))
        guides.append(lines + ("├ " if depth in followed else "└ ") if depth else "")
        followed.add(depth)
    return guides[::-1]


def _row(first: str, branch: Branch) -> tuple[str, ...]:
    return first, describe_status(branch.session), str(branch.session.reason), summary(branch.session)
