"""Ports for servers that a test starts: each is given to one test alone, on this machine, for as long as the run lasts.

A port that was free when it was asked for is somebody else's by the time that a server listens there, if another test
is told the same, or is given it by the system. So they lie below those that the system gives out, and below those that
the code under test chooses from; and who is given one keeps a name for it, which no other process can have.
"""

from __future__ import annotations

import errno
import random
import socket
from typing import Final

from gsd_tasks.local.ports import LOWEST, is_free

_FIRST: Final = 10_000


def own_port(_remembered: None = None) -> int:
    """One that is free, and nobody else's until this process ends."""
    ports = range(_FIRST, LOWEST)
    return next(port for port in random.sample(ports, len(ports)) if is_free(port) and _is_ours_now(port))


def _is_ours_now(port: int) -> bool:
    with socket.socket(socket.AF_UNIX) as name:
        try:
            name.bind(f"\0gsd-tasks-test-port-{port}")
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            return False
        # It is kept until the process ends, and so is the port.
        name.detach()
    return True
