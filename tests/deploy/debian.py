"""The servers that Debian packages: older than the embedded ones, and what most people have."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gsd_tasks.local import postgres, valkey
from gsd_tasks.local.embedded import EmbeddedServers, embedded_servers

#: Each version has a folder of its own, and none of it is on PATH.
POSTGRES = Path("/usr/lib/postgresql")


@contextmanager
def debian_servers(folder: Path) -> Iterator[EmbeddedServers]:
    """Debian's Postgres and Redis, set up and run as the embedded ones are. Without them the test is skipped."""
    postgres_server = max(POSTGRES.glob("*/bin/postgres"), default=None)
    redis_server = shutil.which("redis-server")
    if postgres_server is None or redis_server is None:
        pytest.skip("needs the packages postgresql and redis-server")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(postgres, "_binary", postgres_server.with_name)
        patch.setattr(valkey, "_binary", lambda: Path(redis_server))
        with embedded_servers(folder, extra_postgres_settings={"fsync": "off"}) as running:
            yield running
