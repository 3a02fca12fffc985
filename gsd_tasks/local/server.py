"""What the two embedded servers have in common: a folder, a port, a password, and one life at a time."""

from __future__ import annotations

import os
import re
import secrets
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from gsd_tasks.domain.errors import InvalidValue, Unavailable
from gsd_tasks.local.life import Child, end, spawn, wait_end
from gsd_tasks.local.part import Part

START_BOUND_S: Final = 120.0  # recovery after a crash may take its time
PROBE_EVERY_S: Final = 0.01
PASSWORD_BYTES: Final = 24
UNQUOTED: Final = r"[A-Za-z0-9_-]{1,128}"  # a password like this can stand in a URL, SQL or configuration file


class EmbeddedServer(ABC):
    """One server on 127.0.0.1 with its data in `folder`.

    It ends with the thread that called `start`, however that ends. Whoever starts servers sees to it that nobody else
    does so on the same folder (`state_dir.hold`): a former server of this folder is ended.
    """

    def __init__(self, folder: Path, port: int, password: str, *, log: Path | None = None) -> None:
        if not re.fullmatch(UNQUOTED, password):
            raise InvalidValue("password", "letters, digits, - and _ only")
        self.folder = folder.absolute()
        self.port = port
        self.password = password
        self.log = log or self.folder / "server.log"
        self._child: Child | None = None

    @property
    @abstractmethod
    def url(self) -> str:
        """Its address, the password included: never for a screen or a log."""

    @abstractmethod
    def part(self) -> Part:
        """How to run it, for the supervisor. `prepare` creates the data on first use."""

    @abstractmethod
    def end_former(self) -> None:
        """End what still serves this folder, whoever started it, and has been proven to.

        Raises:
            ConfigurationError: it does not end.
        """

    @abstractmethod
    def unavailable(self, problem: str) -> Unavailable:
        """The error that says that it does not answer."""

    def start(self) -> None:
        """Start it, for the first time or again, and return when it answers. Nothing if it runs.

        Raises:
            ConfigurationError: it cannot run here.
            Unavailable: it ended, or does not answer in time; with the last lines of its log.
        """
        if self.is_running():
            return
        self._child = spawn(self.part())
        try:
            self._await_answer(self._child)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop it in good order, by force after 30 s. Harmless when it does not run."""
        if self._child is not None:
            end(self._child, self._child.part.stop_signal, self._child.part.stop_bound_s)
            self._child = None

    def is_running(self) -> bool:
        """Whether the process that `start` made is alive."""
        return self._child is not None and self._child.exit_status() is None

    def _await_answer(self, child: Child) -> None:
        deadline = time.monotonic() + START_BOUND_S
        while not child.part.probe(child.pid):
            if wait_end(child, PROBE_EVERY_S):
                raise self.unavailable(f"ended at its start (status {child.exit_status()}): {child.log_tail()}")
            if time.monotonic() > deadline:
                raise self.unavailable(f"does not answer after {START_BOUND_S:.0f} s: {child.log_tail()}")


def new_password() -> str:
    """A password for an embedded server."""
    return secrets.token_urlsafe(PASSWORD_BYTES)


def server_environment() -> Mapping[str, str]:
    """Nothing of ours: a server needs none of our secrets, and PG* variables would change what it does."""
    kept = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH", "TMPDIR") if name in os.environ}
    return {**kept, "LC_ALL": "C", "TZ": "UTC"}
