"""The servers of one `up`: those that the environment names, and embedded ones in the place of the others."""

from __future__ import annotations

import re
from dataclasses import dataclass

from gsd_tasks.local.addresses import Addresses
from gsd_tasks.local.part import Part
from gsd_tasks.local.ports import choose_port
from gsd_tasks.local.postgres import PostgresServer
from gsd_tasks.local.server import UNQUOTED, EmbeddedServer, new_password
from gsd_tasks.local.state_dir import StateDir
from gsd_tasks.local.valkey import ValkeyServer
from gsd_tasks.settings import Settings


@dataclass(frozen=True, slots=True)
class Servers:
    """Where both servers are, and the parts that run the embedded ones, in the order to start them."""

    addresses: Addresses
    parts: tuple[Part, ...]


def choose_servers(settings: Settings, state: StateDir) -> Servers:
    """Embedded servers get the port and password that they had, if the port is still free. Ends their former lives.

    Raises:
        ConfigurationError: an embedded server is not installed, or there is no free port.
    """
    parts: list[Part] = []
    if settings.database_url is not None:
        database_url = settings.database_url.get_secret_value()
    else:
        port, password = _remembered(state, "postgres")
        postgres = PostgresServer(state.postgres, port, password, log=state.logs / "postgres.log")
        _settle(postgres, "postgres", state)
        database_url = postgres.url
        parts.append(postgres.part())
    if settings.redis_url is not None:
        redis_url = settings.redis_url.get_secret_value()
    else:
        port, password = _remembered(state, "valkey")
        valkey = ValkeyServer(state.valkey, port, password, log=state.logs / "valkey.log")
        _settle(valkey, "valkey", state)
        redis_url = valkey.url
        parts.append(valkey.part())
    return Servers(Addresses(database_url, redis_url), tuple(parts))


def _remembered(state: StateDir, name: str) -> tuple[int, str]:
    """What it had the last time; port 0, and a new password, if nothing is known."""
    match state.read().get(name):
        case {"port": int(port), "password": str(password)} if re.fullmatch(UNQUOTED, password):
            return port, password
        case _:
            return 0, new_password()


def _settle(server: EmbeddedServer, name: str, state: StateDir) -> None:
    """Its port, and on disk before it is used. Its own former life must not look like somebody else on that port."""
    server.end_former()
    server.port = choose_port(server.port or None)
    state.remember(**{name: {"port": server.port, "password": server.password}})
