"""`worker`, `maintenance`, `beat`, `flower`: the parts of a cluster, one process each, with the arguments they need.

Each becomes the Celery command that the Procfile has (`exec`): a supervisor sees one process, and its signals arrive.
"""

from __future__ import annotations

import os
import re
import sys
from typing import Annotated, Final, NoReturn

import typer

from gsd_tasks.domain.errors import ConfigurationError, InvalidValue
from gsd_tasks.domain.session import SLOTS

#: What Celery and Redis take in a node's name, and a file system in a file's.
_NODE_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
#: Workers need nothing of each other, and both cost messages.
_ALONE: Final = ("--without-gossip", "--without-mingle")


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    for command in (worker, maintenance, beat, flower):
        app.command(command.__name__)(command)


def worker(
    *,
    name: Annotated[
        str,
        typer.Option("--name", metavar="NAME", help="What to call it; its host's name is added. One of a kind there."),
    ] = "gsd",
    slots: Annotated[
        int, typer.Option("--slots", min=1, max=SLOTS, help="How many sessions it runs at a time.")
    ] = SLOTS,
    queues: Annotated[
        str | None,
        typer.Option(
            "--queues",
            metavar="QUEUES",
            help="Where it takes sessions from, comma-separated.",
            show_default="GSD_QUEUES",
        ),
    ] = None,
) -> None:
    """Run sessions on this host, for the cluster of GSD_DATABASE_URL and GSD_REDIS_URL. `gsd-tasks up` does it too.

    GSD_WORKSPACE_ROOTS says where they may work. On SIGTERM what runs is left to the next worker of this host, where it
    can go on without one (see GSD_DRAIN); on Ctrl-C it is ended.
    """
    arguments = ["worker", "-n", f"{_node_name(name)}@%h", "-c", str(slots), "-E", *_ALONE]
    if queues is not None:
        arguments += ["-Q", ",".join(_queue_names(queues))]
    _become_celery("worker", arguments)


def maintenance(
    *,
    name: Annotated[
        str, typer.Option("--name", metavar="NAME", help="What to call it; its host's name is added.")
    ] = "maint",
) -> None:
    """Recover what silent workers held, and publish again what was lost. Any number of them may run."""
    from gsd_tasks.settings import read_settings

    queue = read_settings().maintenance_queue
    _become_celery("maintenance", ["worker", "-n", f"{_node_name(name)}@%h", "-P", "solo", "-Q", queue, *_ALONE])


def beat() -> None:
    """Tell the maintenance processes when to sweep. One per cluster; without it they sweep by themselves, later."""
    _become_celery("beat", ["beat", "--scheduler", "celery.beat:Scheduler", "--pidfile="])


def flower() -> None:
    """Serve Flower: what sessions and workers do, in a browser, behind a password. `gsd-tasks up` does it too.

    At GSD_FLOWER_HOST and GSD_FLOWER_PORT, for the user `gsd` with GSD_FLOWER_PASSWORD, or with a password that is made
    and kept in GSD_STATE_DIR. It reads what it shows from Postgres, and keeps nothing.
    """
    _become_celery("flower", ["flower"])


def _become_celery(part: str, arguments: list[str]) -> NoReturn:
    from gsd_tasks.cli.connection import part_settings, servers
    from gsd_tasks.local.part import CELERY_PART

    configured = part_settings(part)
    servers(configured, part)
    level = ("-l", configured.log_level)
    # -P: nothing is imported from the folder that this happens to be called in.
    os.execv(sys.executable, [sys.executable, "-P", "-m", CELERY_PART, *arguments, *level])


def _node_name(name: str) -> str:
    if not _NODE_NAME.fullmatch(name):
        raise InvalidValue(
            "--name", f"{name!r}: letters, digits, '_', '.' and '-' alone, at most 63; the host is added"
        )
    return name


def _queue_names(given: str) -> list[str]:
    from gsd_tasks.domain.submission import QUEUE_NAME
    from gsd_tasks.settings import read_settings

    names = [name.strip() for name in given.split(",") if name.strip()]
    if not names:
        raise InvalidValue("--queues", f"{given!r} names none")
    for name in names:
        if not QUEUE_NAME.fullmatch(name):
            raise InvalidValue("--queues", f"{name!r}: letters, digits, '_', '.' and '-' alone, at most 100")
        if name == read_settings().maintenance_queue:
            raise ConfigurationError(f"--queues: {name!r} is maintenance's: run `gsd-tasks maintenance` beside this")
    return names
