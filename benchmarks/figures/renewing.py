"""F11: what very many workers cost Postgres by being alive, each renewing three leases every 5 s (`many_workers.py`).

A thousand at once are more than most machines can play beside Postgres: the CPU of fewer is reckoned up to a thousand,
and what one sweep and one scrape cost with them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from benchmarks.many_workers import COMMITS, CPU, HEAP_ONLY, MEMORY, RENEWALS, measure
from benchmarks.measuring import Contestant, Figure, Reading, Role, at_most, told

if TYPE_CHECKING:
    from benchmarks.sizes import Sizes

RECKONED: Final = "% of a core for 1,000 workers"
FIGURES: Final = (
    Figure("F11", "CPU of Postgres for 1,000 workers", RECKONED, "%", at_most(30, "% of a core")),
    Figure("F11", "renewals of those who were there", RENEWALS, "/s", told("/s")),
    Figure("F11", "commits, questions included", COMMITS, "/s", told("/s")),
    Figure("F11", "heap-only updates of leases", HEAP_ONLY, "%", told("%")),
    Figure("F11", "memory of Postgres for each connection", MEMORY, "MiB", told("MiB")),
)


def contestants(sizes: Sizes) -> Sequence[Contestant]:
    """Ours alone."""
    return (Ours(sizes),)


class Ours:
    """So many workers for so long."""

    name = "gsd-tasks"
    role = Role.OURS

    def __init__(self, sizes: Sizes) -> None:
        self._sizes = sizes

    def run(self) -> Reading:
        workers = self._sizes.workers
        reading = measure(workers, self._sizes.worker_processes, self._sizes.renewing_s)
        return reading | {RECKONED: reading[CPU] * 1000 / workers}
