"""F7: what a claim, a sweep, a page and a scrape take with very many sessions, and with next to none.

Both databases are on one Postgres (`large_filling.py`), and asked by turns, through the project's own functions. Many
more calls than these are made by `large_database.py`.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
import urllib.request
from collections.abc import Sequence
from contextlib import ExitStack, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Final

from benchmarks.large_filling import Shape, make_database
from benchmarks.large_side import POSTGRES, SMALL, Side, serving, settle
from benchmarks.measuring import Contestant, Figure, Reading, Role, at_most, ratio_at_most
from gsd_tasks.local.embedded import embedded_servers

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.sizes import Sizes

CLAIM: Final = "claim, ms"
SWEEP: Final = "sweep, ms"
PAGE: Final = "page, ms"
METRICS: Final = "metrics, ms"
_CALLS: Final = {
    CLAIM: "a claim",
    SWEEP: "a sweep of the reaper",
    PAGE: "a page of the list",
    METRICS: "a scrape of /metrics",
}
FIGURES: Final = tuple(
    Figure("F7", f"{what}, many sessions", quantity, "ms", goal, more_is_better=False)
    for quantity, what in _CALLS.items()
    for goal in (at_most(50, "ms"), ratio_at_most(2))
)
#: What was asked less than a second ago is not asked again.
BETWEEN_SCRAPES_S: Final = 1.05


def contestants(ending: ExitStack, sizes: Sizes) -> Sequence[Contestant]:
    """The large one is ours, the small one what it is held against."""
    folder = Path(ending.enter_context(tempfile.TemporaryDirectory(prefix="gsd-bench-")))
    servers = ending.enter_context(embedded_servers(folder, extra_postgres_settings=POSTGRES))
    large = Shape(
        ended=sizes.ended,
        queued=sizes.queued,
        running=sizes.running,
        long=max(4, sizes.ended // 50_000),
        past=max(30, sizes.ended // 300),
    )
    made = []
    for name, shape, role in (("large", large, Role.OURS), ("small", SMALL, Role.YARDSTICK)):
        with redirect_stdout(sys.stderr):
            url = make_database(servers.database_url, name, shape)
        side = Side(name, url, servers.redis_url, shape)
        ending.callback(side.close)
        side.metrics_url = ending.enter_context(serving(side, servers.redis_url, folder))
        made.append(Database(side, role, sizes.calls))
    return made


class Database:
    """One of the two."""

    def __init__(self, side: Side, role: Role, calls: int) -> None:
        self.name = "gsd-tasks" if role is Role.OURS else "small database"
        self.role = role
        self._side = side
        self._calls = calls

    def run(self) -> Reading:
        taken = [self._once() for _ in range(self._calls)]
        return {quantity: statistics.median(one[quantity] for one in taken) for quantity in _CALLS}

    def _once(self) -> Reading:
        side = self._side
        claimable = next(side.unclaimed)
        began = time.perf_counter()
        claim = side.claim(claimable)
        claimed_ms = (time.perf_counter() - began) * 1000
        # So that none is left running for the sweep.
        settle(side, claim)
        time.sleep(BETWEEN_SCRAPES_S)
        return {
            CLAIM: claimed_ms,
            SWEEP: _ms(lambda: side.reaper.sweep(side.database)),
            PAGE: _ms(side.client.list),
            METRICS: _ms(self._scrape),
        }

    def _scrape(self) -> None:
        with urllib.request.urlopen(self._side.metrics_url, timeout=60) as answer:
            assert b"gsd_database_up 1.0" in answer.read()


def _ms(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return (time.perf_counter() - began) * 1000
