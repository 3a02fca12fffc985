"""Which servers to use: those that the environment names, else those of the `up` that runs."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from gsd_tasks.domain.errors import ConfigurationError
from gsd_tasks.local.state_dir import StateDir
from gsd_tasks.settings import Settings


@dataclass(frozen=True, slots=True)
class Addresses:
    """Both servers' URLs, passwords included: hence without a repr."""

    database_url: str = field(repr=False)
    redis_url: str = field(repr=False)


def resolve_addresses(settings: Settings) -> Addresses:
    """`GSD_DATABASE_URL` and `GSD_REDIS_URL`; what is not set comes from the running `up` of this user.

    Raises:
        ConfigurationError: neither is there.
    """
    database = settings.database_url and settings.database_url.get_secret_value()
    redis = settings.redis_url and settings.redis_url.get_secret_value()
    if database and redis:
        return Addresses(database, redis)
    running = running_cluster(settings.state_dir)
    if running is not None:
        return Addresses(database or running.database_url, redis or running.redis_url)
    if not database and not redis:
        raise ConfigurationError("no servers: start `gsd-tasks up`, or set GSD_DATABASE_URL and GSD_REDIS_URL")
    missing = "GSD_REDIS_URL" if database else "GSD_DATABASE_URL"
    raise ConfigurationError(f"{missing} is not set: set it too, or start `gsd-tasks up`")


def running_cluster(state_dir: Path) -> Addresses | None:
    """The servers of the `up` that holds this folder now; None if none does, or it is not that far yet."""
    state = StateDir(state_dir.absolute())
    if not state.is_held():
        return None
    match state.read().get("running"):
        case {"database_url": str(database_url), "redis_url": str(redis_url)}:
            return Addresses(database_url, redis_url)
        case _:
            return None
