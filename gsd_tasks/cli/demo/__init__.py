"""`demo`: a whole cluster from nothing, three sessions at once, and everything gone again.

course     what happens, step by step
cluster    the cluster: the real `gsd-tasks up`, in a folder and an environment of its own
jobs       the three sessions, and how each of them should end
lanes      their output on one screen, a line at a time
leftovers  that nothing is left running
count_lines  what one of the sessions runs
"""

from __future__ import annotations

from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the command of this folder."""
    app.command("demo")(demo)


def demo(
    *,
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave its folder, with the database and the logs, when it is over.")
    ] = False,
) -> int:
    """Show a whole cluster at work, from nothing and all on this machine: needs no server, no account and no key.

    It touches nothing that you have: what it starts lives in a temporary folder and is stopped and removed at the end.
    """
    from gsd_tasks.cli.demo.course import run_demo

    return run_demo(keep=keep)
