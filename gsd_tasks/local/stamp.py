"""Which process a pid stood for: proof before a signal.

A pid is used again soon, in a container sooner. A `Stamp` names one life of it: the kernel's start time in clock ticks,
and the boot that they are counted from.
"""

from __future__ import annotations

import json
import os
import select
from dataclasses import asdict, dataclass
from pathlib import Path

from gsd_tasks.local.private_files import write_private


@dataclass(frozen=True, slots=True)
class Stamp:
    """One life of one process on this machine."""

    pid: int
    start_ticks: int
    boot_id: str

    @classmethod
    def of(cls, pid: int) -> Stamp | None:
        """The stamp of a process that exists; None if there is none, or only its zombie."""
        try:
            stat = Path(f"/proc/{pid}/stat").read_bytes()
            boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        except OSError:
            return None
        # The second field, the name, may hold spaces and parentheses: count from the last one. proc(5): fields 3, 22.
        fields = stat[stat.rindex(b")") + 2 :].split()
        return None if fields[0] in (b"Z", b"X") else cls(pid, int(fields[19]), boot_id)

    def is_alive(self) -> bool:
        """Whether exactly this process still runs."""
        return Stamp.of(self.pid) == self

    def write(self, path: Path) -> None:
        """Keep it for a later process, atomically, mode 0600."""
        write_private(path, json.dumps(asdict(self)).encode())


def read_stamp(path: Path) -> Stamp | None:
    """What `Stamp.write` left there; None if nothing, or nothing that can be understood."""
    try:
        content = json.loads(path.read_bytes())
        return Stamp(int(content["pid"]), int(content["start_ticks"]), str(content["boot_id"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def has_ended(pidfd: int, bound_s: float) -> bool:
    """Wait up to `bound_s` for the end of the process behind a pidfd."""
    poller = select.poll()
    poller.register(pidfd, select.POLLIN)
    return bool(poller.poll(max(0.0, bound_s) * 1000))


def open_proven(stamp: Stamp) -> int | None:
    """A pidfd of exactly this process, for the caller to close; None if it is gone.

    The pid is held first and compared after: the other order could be overtaken.

    Raises:
        OSError: the kernel has no pidfd.
    """
    try:
        pidfd = os.pidfd_open(stamp.pid)
    except ProcessLookupError:
        return None
    if stamp.is_alive():
        return pidfd
    os.close(pidfd)
    return None
