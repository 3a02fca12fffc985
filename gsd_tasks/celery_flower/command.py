"""How the plain command `celery -A gsd_tasks.celery_app flower` comes to run our Flower."""

from __future__ import annotations

from typing import Any, Final, NoReturn

import flower.command
from flower.options import default_options

from gsd_tasks.celery_flower.application import GuardedFlower, set_defaults
from gsd_tasks.domain.errors import GsdError
from gsd_tasks.garbage import begun
from gsd_tasks.process.shim.linux import make_undumpable
from gsd_tasks.settings import settings
from gsd_tasks.telemetry import refuse

CANNOT_START: Final = 125


def arrange() -> None:
    """See to it that Flower's command, which is about to run in this process, runs ours, with our defaults.

    Its own command line and environment are read after this, and come before what is set here.
    """
    try:
        configured = settings()
        set_defaults(default_options, configured)
    except GsdError as error:
        _refuse(error)
    # Its memory knows the servers' passwords: no other process of its user may look.
    make_undumpable()
    flower.command.Flower = _build


def _build(**given: Any) -> GuardedFlower:
    begun()
    try:
        return GuardedFlower(**given)
    except GsdError as error:
        _refuse(error)


def _refuse(error: GsdError) -> NoReturn:
    refuse(str(error), "flower")
    raise SystemExit(CANNOT_START) from error
