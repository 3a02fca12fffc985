"""Time, as all processes of the machine have it in common."""

from __future__ import annotations

import time
from typing import Final

S: Final = 1_000_000_000


def boot_ns() -> int:
    """The clock of the children's records."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def boot_minus_wall_ns() -> int:
    """What to add to a time of the database's. The server is on this machine, and nobody sets its clock."""
    return boot_ns() - time.time_ns()
