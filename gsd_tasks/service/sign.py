"""Signs of life: a file for each node of this host, whose age says when that node last did what it is there for.

For health checks, which run often, beside what they ask about: reading one needs no server, so that neither many checks
burden Postgres, nor a Postgres that is away has every node ended as if it were dead.
"""

from __future__ import annotations

import time
from contextlib import suppress
from enum import StrEnum
from typing import TYPE_CHECKING, Final, NamedTuple

from gsd_tasks.telemetry import get_log

if TYPE_CHECKING:
    from pathlib import Path

#: What nodes are called on their host, unless somebody calls them otherwise: `gsd@host`.
WORKER: Final = "gsd"
MAINTENANCE: Final = "maint"
BEAT: Final = "beat"
#: A node may miss so many signs, and be silent for so long: a statement waits 15 s for a server that is cut off, and a
#: sweep has several.
MISSED: Final = 6
LEAST_PATIENCE_S: Final = 90.0


class State(StrEnum):
    """WELL: it does its work. HINDERED: it lives, and something is in its way. SILENT: it does nothing, or is not."""

    WELL = "well"
    HINDERED = "hindered"
    SILENT = "silent"


class Condition(NamedTuple):
    """How a node is, and why, in a sentence without a full stop."""

    state: State
    why: str


class Sign:
    """The sign of one node, for it to give and for others to read."""

    def __init__(self, state_dir: Path, node: str) -> None:
        """`node` is its whole name, with its host's."""
        self._path = state_dir / "alive" / node
        self._draft = state_dir / "alive" / f".{node}.new"
        self._has_failed = False

    def give(self, problem: str = "") -> None:
        """The node has done its work, or has tried to and says what was in its way. Never fails."""
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            # At once: whoever read it while it is empty would take the node for well.
            self._draft.write_text(problem, encoding="utf-8")
            self._draft.replace(self._path)
            self._has_failed = False
        except OSError as error:
            if not self._has_failed:
                get_log("sign").warning("no sign of life can be given", folder=str(self._path.parent), why=str(error))
            self._has_failed = True

    def take_away(self) -> None:
        """The node ends. Never fails."""
        with suppress(OSError):
            self._path.unlink()

    def read(self, *, interval_s: float) -> Condition:
        """How the node is, which gives a sign every `interval_s`."""
        patience_s = max(MISSED * interval_s, LEAST_PATIENCE_S)
        try:
            problem = self._path.read_text(encoding="utf-8", errors="replace")
            age_s = time.time() - self._path.stat().st_mtime
        except OSError:
            return Condition(State.SILENT, f"there is no sign of {self._path.name} in {self._path.parent}")
        # From the future: of a clock that was set back, or of the life before.
        if not -patience_s < age_s < patience_s:
            return Condition(State.SILENT, f"{self._path.name} gave its last sign {age_s:.0f} s ago")
        if problem:
            return Condition(State.HINDERED, problem)
        return Condition(State.WELL, f"{self._path.name} gave its last sign {max(0, age_s):.0f} s ago")
