"""Telling of recoveries: by the command of `GSD_ON_RECOVERY`, or on the log where there is none.

At least once, because it is noted as told only after the command has ended well. One that does not is tried again after
a pause that grows, and given up after `MOST_TELLS` times: then its row stays untold, and the log says so.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from gsd_tasks.domain.errors import ConfigurationError
from gsd_tasks.domain.units import print_time
from gsd_tasks.store import recoveries
from gsd_tasks.store.recoveries import MOST_TELLS
from gsd_tasks.telemetry import get_log

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gsd_tasks.domain.recovery import Recovery
    from gsd_tasks.store import Database
    from gsd_tasks.store.recoveries import Untold

#: Of one turn; the others wait for the next.
TURN_RECOVERIES: Final = 100
#: The log names so many sessions, and counts the rest.
LOGGED_IDS: Final = 100
FIRST_PAUSE_S: Final = 10.0
LONGEST_PAUSE_S: Final = 600.0
_LOOK_S: Final = 0.2


def parse_hook(command: str | None) -> tuple[str, ...] | None:
    """The program and its arguments; None where there is no command.

    Raises:
        ConfigurationError: it cannot be run.
    """
    if command is None or not command.strip():
        return None
    try:
        argv = tuple(shlex.split(command))
    except ValueError as error:
        raise ConfigurationError(f"GSD_ON_RECOVERY: {command!r} cannot be read: {error}") from error
    if not argv or shutil.which(argv[0]) is None:
        raise ConfigurationError(f"GSD_ON_RECOVERY: there is no program {argv[0] if argv else command!r} to run")
    return argv


def as_event(recovery: Recovery) -> dict[str, Any]:
    """What the command reads: the event of `client.on("recovery:complete")`, as JSON has it."""
    return {
        "event": "recovery:complete",
        "id": recovery.id,
        "at": print_time(recovery.at),
        "count": len(recovery.session_ids),
        "requeued": list(map(str, recovery.requeued)),
        "failed": list(map(str, recovery.failed)),
        "cancelled": list(map(str, recovery.cancelled)),
        "paused": list(map(str, recovery.paused)),
    }


def log_recovery(recovery: Recovery) -> bool:
    """The default: one line on the log."""
    ids = list(map(str, recovery.session_ids))
    more = f" and {len(ids) - LOGGED_IDS} more" if len(ids) > LOGGED_IDS else ""
    plural = "" if len(ids) == 1 else "s"
    get_log("recovery").warning(f"Recovered {len(ids)} session{plural}: {' '.join(ids[:LOGGED_IDS])}{more}")
    return True


class Command:
    """Runs the operator's command, one recovery at a time. Whole process groups are killed when their time is over."""

    def __init__(self, argv: Sequence[str], *, timeout_s: float) -> None:
        self._argv = tuple(argv)
        self._timeout_s = timeout_s
        self._stopping = threading.Event()
        self._log = get_log("recovery")

    def __call__(self, recovery: Recovery) -> bool:
        """Whether it ended with 0 in time."""
        document = json.dumps(as_event(recovery)).encode() + b"\n"
        try:
            # What it prints goes where our log goes; a session of its own makes it, and what it starts, one group.
            process = subprocess.Popen(
                self._argv, stdin=subprocess.PIPE, stdout=sys.__stderr__, stderr=sys.__stderr__, start_new_session=True
            )
        except OSError as error:
            self._log.warning("GSD_ON_RECOVERY does not start", why=str(error))
            return False
        try:
            return self._has_ended_well(process, document)
        finally:
            self._let_go(process)

    def stop(self) -> None:
        """Kill what runs, and run nothing more."""
        self._stopping.set()

    def _has_ended_well(self, process: subprocess.Popen[bytes], document: bytes | None) -> bool:
        give_up_at = time.monotonic() + self._timeout_s
        while (left_s := give_up_at - time.monotonic()) > 0 and not self._stopping.is_set():
            with suppress(subprocess.TimeoutExpired):
                process.communicate(document, timeout=min(left_s, _LOOK_S))
                if process.returncode != 0:
                    self._log.warning("GSD_ON_RECOVERY has failed", code=process.returncode)
                return process.returncode == 0
            document = None
        why = "this process stops" if self._stopping.is_set() else f"it took longer than {self._timeout_s:g} s"
        self._log.warning("GSD_ON_RECOVERY is killed", why=why)
        return False

    def _let_go(self, process: subprocess.Popen[bytes]) -> None:
        if process.returncode is None:
            # It is not waited for yet, so its number is nobody else's.
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        if process.stdin is not None:
            with suppress(OSError):
                process.stdin.close()


class Teller:
    """Tells each recovery that is untold, the oldest first. Two of them tell some twice, which is no harm."""

    def __init__(
        self,
        database: Database,
        tell: Callable[[Recovery], bool],
        *,
        bound_s: float = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database = database
        self._tell = tell
        self._bound_s = bound_s
        self._clock = clock
        self._due: dict[tuple[int, int], float] = {}
        self._log = get_log("recovery")

    def turn(self) -> None:
        """Tell what is due now. Raises `DatabaseUnavailable`."""
        with self._database.connection() as connection:
            found = recoveries.untold(connection, limit=TURN_RECOVERIES)
        # How often it was tried is part of the key: another process may have tried it since, and may be at it now.
        self._due = {key: self._due.get(key, self._clock() + self._pause_s(key[1])) for key in map(_key, found)}
        for untold in found:
            if self._due[_key(untold)] <= self._clock():
                self._tell_one(untold)

    def _tell_one(self, untold: Untold) -> None:
        with self._database.connection() as connection:
            if not recoveries.begin_telling(connection, untold):
                return
        if self._tell(untold.recovery):
            with self._database.connection() as connection:
                recoveries.mark_told(connection, untold.recovery.id)
        elif untold.tells + 1 >= MOST_TELLS:
            ids = list(map(str, untold.recovery.session_ids))
            self._log.error("GSD_ON_RECOVERY is given up", tells=MOST_TELLS, recovery=untold.recovery.id, sessions=ids)

    def _pause_s(self, tells: int) -> float:
        """How long to leave alone what was tried so often: longer than that other try can last."""
        return self._bound_s + min(FIRST_PAUSE_S * 2 ** (tells - 1), LONGEST_PAUSE_S) if tells else 0.0


def _key(untold: Untold) -> tuple[int, int]:
    return untold.recovery.id, untold.tells
