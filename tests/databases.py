"""Databases of tests: each with the present schema, copied from one in which the migrations have run."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import psycopg

from gsd_tasks.local.embedded import EmbeddedServers
from gsd_tasks.store import migrate

TEMPLATE = "template_gsd"
_numbers = itertools.count(1)


def make_template(servers: EmbeddedServers) -> None:
    """Once for these servers, before any `own_database`."""
    with psycopg.connect(servers.database_url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {TEMPLATE}")
    migrate(_named(servers.database_url, TEMPLATE))


@contextmanager
def own_database(servers: EmbeddedServers) -> Iterator[str]:
    """The URL of a new one, which is gone after the block, whoever still uses it."""
    name = f"test_{next(_numbers)}"
    with psycopg.connect(servers.database_url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE {TEMPLATE} STRATEGY FILE_COPY")
        try:
            yield _named(servers.database_url, name)
        finally:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


def _named(url: str, name: str) -> str:
    return urlsplit(url)._replace(path=f"/{name}").geturl()
