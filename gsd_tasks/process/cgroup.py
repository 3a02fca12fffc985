"""The bound that this process's own cgroup sets to the number of processes: what it runs included, shims and all."""

from __future__ import annotations

import contextlib
from pathlib import Path, PurePosixPath
from typing import Final

_UNIFIED: Final = Path("/sys/fs/cgroup")
_PIDS_V1: Final = Path("/sys/fs/cgroup/pids")


def processes_allowed() -> int | None:
    """The lowest `pids.max` from this process's cgroup up to the root; None where there is none, or it is not seen."""
    with contextlib.suppress(OSError):
        return lowest_limit(Path("/proc/self/cgroup").read_text(), _UNIFIED, _PIDS_V1)
    return None


def lowest_limit(cgroups: str, unified: Path, pids_v1: Path) -> int | None:
    """The same, of the process with these lines in its /proc/PID/cgroup."""
    limits = []
    for line in cgroups.splitlines():
        number, controllers, path = line.split(":", 2)
        if number == "0" or "pids" in controllers.split(","):
            root = unified if number == "0" else pids_v1
            below = PurePosixPath(path.lstrip("/"))
            limits += [_read_limit(root / part / "pids.max") for part in (below, *below.parents)]
    return min((limit for limit in limits if limit is not None), default=None)


def _read_limit(file: Path) -> int | None:
    with contextlib.suppress(OSError, ValueError):  # not there, or "max"
        return int(file.read_text())
    return None
