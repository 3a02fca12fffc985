"""The bounds that this process's own cgroup sets, to the number of processes and to memory: shims and all included."""

from __future__ import annotations

import contextlib
from pathlib import Path, PurePosixPath
from typing import Final

_UNIFIED: Final = Path("/sys/fs/cgroup")
_PIDS_V1: Final = Path("/sys/fs/cgroup/pids")
_MEMORY_V1: Final = Path("/sys/fs/cgroup/memory")


def processes_allowed() -> int | None:
    """The lowest `pids.max` from this process's cgroup up to the root; None where there is none, or it is not seen."""
    with contextlib.suppress(OSError):
        return lowest_limit(Path("/proc/self/cgroup").read_text(), _UNIFIED, _PIDS_V1)
    return None


def memory_allowed() -> int | None:
    """The lowest bound on memory in bytes, likewise."""
    with contextlib.suppress(OSError):
        return lowest_memory(Path("/proc/self/cgroup").read_text(), _UNIFIED, _MEMORY_V1)
    return None


def lowest_limit(cgroups: str, unified: Path, pids_v1: Path) -> int | None:
    """`processes_allowed` for the process with these lines in its /proc/PID/cgroup."""
    return _lowest(cgroups, "pids", unified / "pids.max", pids_v1 / "pids.max")


def lowest_memory(cgroups: str, unified: Path, memory_v1: Path) -> int | None:
    """`memory_allowed`, likewise."""
    return _lowest(cgroups, "memory", unified / "memory.max", memory_v1 / "memory.limit_in_bytes")


def _lowest(cgroups: str, controller: str, unified: Path, v1: Path) -> int | None:
    limits = []
    for line in cgroups.splitlines():
        number, controllers, path = line.split(":", 2)
        if number == "0" or controller in controllers.split(","):
            file = unified if number == "0" else v1
            below = PurePosixPath(path.lstrip("/"))
            limits += [_read_limit(file.parent / part / file.name) for part in (below, *below.parents)]
    return min((limit for limit in limits if limit is not None), default=None)


def _read_limit(file: Path) -> int | None:
    with contextlib.suppress(OSError, ValueError):  # not there, or "max"
        return int(file.read_text())
    return None
