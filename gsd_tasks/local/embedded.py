"""Both servers, for as long as a `with` block lasts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from gsd_tasks.local.ports import choose_port
from gsd_tasks.local.postgres import PostgresServer
from gsd_tasks.local.private_files import make_private_folder
from gsd_tasks.local.server import new_password
from gsd_tasks.local.valkey import ValkeyServer


@dataclass(frozen=True, slots=True)
class EmbeddedServers:
    """Two servers that answer."""

    postgres: PostgresServer
    valkey: ValkeyServer

    @property
    def database_url(self) -> str:
        return self.postgres.url

    @property
    def redis_url(self) -> str:
        return self.valkey.url


@contextmanager
def embedded_servers(
    folder: Path, *, extra_postgres_settings: Mapping[str, str] | None = None
) -> Iterator[EmbeddedServers]:
    """Both servers with their data in `folder`, running within the block and stopped after it.

    On free ports, with passwords of their own. They end with the calling thread too. Nobody else may use the folder.

    Raises:
        ConfigurationError, Unavailable: as from `EmbeddedServer.start`.
    """
    make_private_folder(folder)
    servers = EmbeddedServers(
        PostgresServer(folder / "postgres", choose_port(None), new_password(), extra_settings=extra_postgres_settings),
        ValkeyServer(folder / "valkey", choose_port(None), new_password()),
    )
    with ExitStack() as stack:
        for server in (servers.postgres, servers.valkey):
            server.start()
            stack.callback(server.stop)
        yield servers
