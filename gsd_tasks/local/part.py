"""What a part of the cluster on this machine is: a program, where it logs, how it is stopped, when it is ready."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from io import FileIO
from pathlib import Path
from typing import Final

from gsd_tasks.local.private_files import make_private_folder

#: The module that runs Celery's own command of a part: of a name, as what is below does not import what is above.
CELERY_PART: Final = "gsd_tasks.celery_part"
LOG_BYTES: Final = 10 * 1024**2
TAIL_BYTES: Final = 8 * 1024
TAIL_LINES: Final = 5


class Become(StrEnum):
    """As whom a program runs; see `trampoline`."""

    SELF = "self"
    USER_NAMESPACE = "userns"
    NOBODY = "nobody"


def ready_at_once(_pid: int) -> bool:
    """The probe of a part that is up as soon as it runs."""
    return True


def nothing_to_prepare() -> None:
    """For a part that needs nothing before it is spawned."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """How to run one part.

    `probe` is given its pid and says whether it is ready: asked again and again, it answers within a second or so and
    never raises. `prepare` runs before each spawn and may raise a GsdError. `record` is the file with the stamp of its
    present life. `death_signal` comes when the one who spawned it dies, `stop_signal` when it is to stop, KILL
    `stop_bound_s` later; once somebody is in a hurry, `hurry_bound_s` later. `handover_signal`, if there is one, takes
    the place of `stop_signal` where a supervisor asked us to stop (SIGTERM). `url` is where clients reach it, if they
    do: people are told, and clients of this user find it there once it is ready. `access` says where people find what
    lets them in.
    """

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str]
    log: Path
    record: Path
    cwd: Path
    become: Become = Become.SELF
    umask: int = -1
    stop_signal: signal.Signals = signal.SIGTERM
    handover_signal: signal.Signals | None = None
    death_signal: signal.Signals = signal.SIGTERM
    stop_bound_s: float = 60.0
    hurry_bound_s: float = 0.0
    probe: Callable[[int], bool] = ready_at_once
    prepare: Callable[[], None] = nothing_to_prepare
    url: str | None = None
    access: str = ""


def open_log(path: Path) -> FileIO:
    """A log to append to, mode 0600, positioned at its end. One that has grown too large becomes `NAME.1` before."""
    make_private_folder(path.parent)
    with suppress(FileNotFoundError):
        if path.stat().st_size > LOG_BYTES:
            path.rename(path.with_name(path.name + ".1"))
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    log = FileIO(descriptor, "ab")
    log.seek(0, os.SEEK_END)
    return log


def read_tail(log: Path, start: int) -> str:
    """The last lines of a log after the byte `start`, joined by ` | `."""
    try:
        with log.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(start, size - TAIL_BYTES))
            text = file.read().decode(errors="replace")
    except OSError:
        return ""
    return " | ".join([line.strip() for line in text.splitlines() if line.strip()][-TAIL_LINES:])
