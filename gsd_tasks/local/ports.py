"""Ports for the embedded servers, and for the API.

A port that is free when it is chosen may be somebody else's by the time that a server listens there. So whoever chooses
one keeps a name for it, which no other process of this network can have meanwhile: a second `up` chooses another one.
"""

from __future__ import annotations

import errno
import random
import socket
from typing import Final

from gsd_tasks.domain.errors import ConfigurationError

# Above lie the ephemeral ports of clients (Linux: 32768 and up), one of which may hold a port at a restart.
LOOPBACK: Final = "127.0.0.1"
LOWEST: Final = 20_000
HIGHEST: Final = 32_767
TRIES: Final = 1_000
#: The descriptors of the names that this process has, by port. It has them until it ends.
_names: Final[dict[int, int]] = {}


def choose_port(remembered: int | None, host: str = LOOPBACK) -> int:
    """The remembered port if it is free at this address, else another one that is: ours until this process ends.

    Raises:
        ConfigurationError: none can be had.
    """
    if remembered is not None and is_free(remembered, host) and _have_name_of(remembered):
        return remembered
    for port in random.sample(range(LOWEST, HIGHEST + 1), TRIES):
        if is_free(port, host) and _have_name_of(port):
            return port
    raise ConfigurationError(f"no free port on {host} between {LOWEST} and {HIGHEST}")


def is_free(port: int, host: str = LOOPBACK) -> bool:
    """Whether a server could listen there now; connections of a former one that linger do not count."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except (OSError, UnicodeError):
            return False
    return True


def _have_name_of(port: int) -> bool:
    """Whether no other process has chosen it. Names of this kind are in no folder, and go with who has them."""
    if port in _names:
        return True
    with socket.socket(socket.AF_UNIX) as name:
        try:
            name.bind(f"\0gsd-tasks-port-{port}")
        except OSError as error:
            # Where such names cannot be had at all, one does without.
            return error.errno != errno.EADDRINUSE
        _names[port] = name.detach()
    return True
