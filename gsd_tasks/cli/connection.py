"""Where the commands get their client from: imported when one needs it."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import typer

from gsd_tasks.cli import exits
from gsd_tasks.domain.errors import ConfigurationError
from gsd_tasks.garbage import loaded

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gsd_tasks.client import Client
    from gsd_tasks.local.addresses import Addresses
    from gsd_tasks.settings import Settings
    from gsd_tasks.store import Database

#: Who works on the database itself gives up where somebody's lock is in the way for longer.
LOCK_TIMEOUT_S: Final = 2.0


def connect() -> Client:
    """A client of the API or the servers that `GSD_*` names, or of this user's running `up`.

    Raises:
        ConfigurationError: there are none, or there is no token for the API.
    """
    from gsd_tasks.client import Client

    client = Client()
    # Following a session may take days.
    loaded()
    return client


def servers(settings: Settings, command: str) -> Addresses:
    """Postgres and Redis, for a command that works on them themselves, and for which there is no API.

    Raises:
        ConfigurationError: they are not named.
    """
    from gsd_tasks.local.addresses import resolve_addresses

    try:
        return resolve_addresses(settings)
    except ConfigurationError as error:
        if not settings.api_url:
            raise
        raise ConfigurationError(
            f"`gsd-tasks {command}` works on the servers themselves, not over GSD_API_URL: run it where"
            " GSD_DATABASE_URL and GSD_REDIS_URL are set"
        ) from error


@contextmanager
def opened(settings: Settings, command: str) -> Iterator[tuple[Database, Addresses]]:
    """The database that is among the `servers`, for the length of a block.

    Raises:
        ConfigurationError: they are not named.
    """
    from gsd_tasks.store import Database

    addresses = servers(settings, command)
    database = Database(addresses.database_url, name=f"gsd-tasks {command}", lock_timeout_s=LOCK_TIMEOUT_S)
    # A prune may take hours.
    loaded()
    try:
        yield database, addresses
    finally:
        database.close()


def part_settings(part: str) -> Settings:
    """What a process of a cluster runs by. Where its log is JSON, whatever it says from here on is.

    Raises:
        ConfigurationError: a value that cannot be used.
        typer.Exit: the same, and the log has it.
    """
    from gsd_tasks.settings import read_settings
    from gsd_tasks.telemetry import configure_part, is_json_asked, refuse

    try:
        settings = read_settings()
    except ConfigurationError as error:
        if not is_json_asked():
            raise
        refuse(str(error), part)
        raise typer.Exit(exits.of_error(error)) from error
    if settings.log_json:
        configure_part(settings, part)
    return settings
