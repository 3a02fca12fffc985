"""How many processes a session may have at a time: so that a fork bomb ends itself, and not the host.

Two of the kernel's bounds count the processes of one session alone, threads included. Every other count that needs
nobody's permission (RLIMIT_NPROC outside of a user namespace of one's own) is of all that the user runs, desktop and
other sessions too: a bound on that would break what has nothing to do with the session.
"""

from __future__ import annotations

import contextlib
import os
import resource
from typing import Final

from gsd_tasks.process.shim import linux
from gsd_tasks.process.shim.protocol import ProcessLimit

# Since then RLIMIT_NPROC counts within the user namespace. Root outside of namespaces is never bound by it.
_OWN_NPROC_SINCE: Final = (5, 14)
# Since then a PID namespace has a pid_max of its own. In an older kernel the same file is the whole host's. The second
# choice: it makes pids come again sooner, and is less exact.
_OWN_PID_MAX_SINCE: Final = (6, 14)
_PID_MAX: Final = "/proc/sys/kernel/pid_max"
# Below it, pids are given only once, to the first processes of a namespace (RESERVED_PIDS in kernel/pid.c).
_RESERVED_PIDS: Final = 300
_LARGEST_PID_MAX: Final = 4_194_304


def bound_processes(at_most: int, *, own_users: bool) -> ProcessLimit:
    """Bound the PID namespace of which this is process 1; with pid_max, some RESERVED_PIDS more may come through.

    To be called with the powers that made the namespace, and its own /proc. `own_users`: a user namespace was made for
    it. 0: no bound.
    """
    if at_most and own_users and linux.kernel_version() >= _OWN_NPROC_SINCE:
        _set_nproc(at_most + 1)  # init counts, too
        return ProcessLimit.NPROC
    if at_most and linux.kernel_version() >= _OWN_PID_MAX_SINCE:
        with contextlib.suppress(OSError):
            _set_pid_max(min(at_most + _RESERVED_PIDS, _LARGEST_PID_MAX))
            return ProcessLimit.PID_MAX
    return ProcessLimit.NONE


def _set_pid_max(pid_max: int) -> None:
    fd = os.open(_PID_MAX, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, str(pid_max).encode())
    finally:
        os.close(fd)


def _set_nproc(at_most: int) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NPROC)
    bound = at_most if hard == resource.RLIM_INFINITY else min(at_most, hard)
    resource.setrlimit(resource.RLIMIT_NPROC, (bound, bound))
