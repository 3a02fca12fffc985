"""Ports for the embedded servers, and for the API."""

from __future__ import annotations

import random
import socket
from typing import Final

from gsd_tasks.domain.errors import ConfigurationError

# Above lie the ephemeral ports of clients (Linux: 32768 and up), one of which may hold a port at a restart.
LOOPBACK: Final = "127.0.0.1"
LOWEST: Final = 20_000
HIGHEST: Final = 32_767
TRIES: Final = 1_000


def choose_port(remembered: int | None, host: str = LOOPBACK) -> int:
    """The remembered port if it is free at this address, else another one that is.

    Raises:
        ConfigurationError: none can be had.
    """
    if remembered is not None and is_free(remembered, host):
        return remembered
    for port in random.sample(range(LOWEST, HIGHEST + 1), TRIES):
        if is_free(port, host):
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
