"""`python -m gsd_tasks.celery_part worker ...`: Celery's own command for one part of a cluster, and nothing beside it.

It takes and does what `celery -A gsd_tasks.celery_app worker ...` does. That one loads all the commands that Celery has
before it looks at which is meant, Flower and an interactive shell among them: a third of what a worker costs to start.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import Final

import click

from gsd_tasks.garbage import begin

#: What Celery and structlog take along where it is installed, and a part has no use for: colours for answers to
#: questions and for tracebacks, and a way to write messages in which nobody here writes any.
_UNUSED: Final = ("pygments", "rich", "yaml")
#: Where the command of each is.
_HOMES: Final = {"worker": "celery.bin.worker", "beat": "celery.bin.beat", "flower": "flower.command"}


def main() -> None:
    """Never returns: it exits as Celery's command does."""
    for name in _UNUSED:
        sys.modules.setdefault(name, None)  # type: ignore[arg-type]  # so that it counts as not installed
    begin()
    name = next(iter(sys.argv[1:]), "")
    command = _command(name)
    from celery.bin.base import CLIContext, consume_preload_options

    from gsd_tasks.celery_app import app

    command.params.extend(app.user_options["preload"])
    command.callback = consume_preload_options(command.callback)
    # Variables such as CELERY_WORKER_POOL stand for options, as they do for `celery`.
    click.Group("celery", commands={name: command}).main(
        prog_name="celery",
        obj=CLIContext(app=app, no_color=bool(os.environ.get("NO_COLOR")), workdir=None),
        auto_envvar_prefix="CELERY",
    )


def _command(name: str) -> click.Command:
    home = _HOMES.get(name)
    if home is None:
        sys.exit("usage: python -m gsd_tasks.celery_part worker|beat|flower ...")
    command: click.Command = getattr(import_module(home), name)
    return command


if __name__ == "__main__":
    main()
