"""Databases of tests: each with the present schema, copied from one in which the migrations have run."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import psycopg
from psycopg import sql

from gsd_tasks.local.embedded import EmbeddedServers
from gsd_tasks.store import migrate

TEMPLATE = "template_gsd"
_numbers = itertools.count(1)


def ease_entry(servers: EmbeddedServers) -> None:
    """From now on their password is checked once, where otherwise thousands of rounds make it dear to guess.

    They are half of what it costs a client to connect, and tests do little else.
    """
    with psycopg.connect(servers.database_url, autocommit=True) as connection:
        connection.execute("SET scram_iterations = 1")
        connection.execute(sql.SQL("ALTER ROLE CURRENT_USER PASSWORD {}").format(connection.info.password))


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
