"""Ports for the embedded servers."""

from __future__ import annotations

import random
import socket
from typing import Final

from gsd_tasks.domain.errors import ConfigurationError

# Above lie the ephemeral ports of clients (Linux: 32768 and up), one of which may hold a port at a restart.
LOWEST: Final = 20_000
HIGHEST: Final = 32_767
TRIES: Final = 1_000


def choose_port(remembered: int | None) -> int:
    """The remembered port if it is free, else another one that is.

    Raises:
        ConfigurationError: none can be had.
    """
    if remembered is not None and is_free(remembered):
        return remembered
    for port in random.sample(range(LOWEST, HIGHEST + 1), TRIES):
        if is_free(port):
            return port
    raise ConfigurationError(f"no free port on 127.0.0.1 between {LOWEST} and {HIGHEST}")


def is_free(port: int) -> bool:
    """Whether a server could listen there now; connections of a former one that linger do not count."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
