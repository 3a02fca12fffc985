"""Which servers to use, and which API: those that the environment names, else those of the `up` that runs."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from gsd_tasks.domain.errors import ConfigurationError
from gsd_tasks.domain.redis_address import parse_redis_url
from gsd_tasks.local.api_token import read_token
from gsd_tasks.local.state_dir import StateDir
from gsd_tasks.settings import Settings


@dataclass(frozen=True, slots=True)
class Addresses:
    """Both servers' URLs, passwords included: hence without a repr."""

    database_url: str = field(repr=False)
    redis_url: str = field(repr=False)


class Api(NamedTuple):
    """Where the API is, and the token for it; None: nobody has set one, and it lets nobody in without."""

    url: str
    token: str | None

    def __repr__(self) -> str:
        return f"Api({self.url!r}, {'***' if self.token else None!r})"


def resolve_addresses(settings: Settings) -> Addresses:
    """`GSD_DATABASE_URL` and `GSD_REDIS_URL`; what is not set comes from the running `up` of this user.

    Raises:
        ConfigurationError: neither is there, or that of Redis cannot be used.
    """
    database = settings.database_url and settings.database_url.get_secret_value()
    redis = settings.redis_url and settings.redis_url.get_secret_value()
    if redis:
        # Here, where everybody comes through: what is wrong with it is said once, in one line.
        parse_redis_url(redis)
    if database and redis:
        return Addresses(database, redis)
    running = running_cluster(settings.state_dir)
    if running is not None:
        return Addresses(database or running.database_url, redis or running.redis_url)
    if not database and not redis:
        raise ConfigurationError("no servers: start `gsd-tasks up`, or set GSD_DATABASE_URL and GSD_REDIS_URL")
    missing = "GSD_REDIS_URL" if database else "GSD_DATABASE_URL"
    raise ConfigurationError(f"{missing} is not set: set it too, or start `gsd-tasks up`")


def resolve_database(settings: Settings) -> str:
    """The database alone, for what needs no Redis: `GSD_DATABASE_URL`, else that of this user's running `up`.

    Raises:
        ConfigurationError: there is none.
    """
    if settings.database_url is not None and (url := settings.database_url.get_secret_value()):
        return url
    running = running_cluster(settings.state_dir)
    if running is None:
        raise ConfigurationError("no database: start `gsd-tasks up`, or set GSD_DATABASE_URL")
    return running.database_url


def running_cluster(state_dir: Path) -> Addresses | None:
    """The servers of the `up` that holds this folder now; None if none does, or it is not that far yet."""
    match _running(state_dir):
        case {"database_url": str(database_url), "redis_url": str(redis_url)}:
            return Addresses(database_url, redis_url)
        case _:
            return None


def api_of(settings: Settings) -> Api | None:
    """The API of `GSD_API_URL`, None where that is not set: then the servers are asked themselves.

    Without `GSD_API_TOKEN`, the API of this user's running `up` gets the token of that `up`, and no other one does.

    Raises:
        ConfigurationError: that token is not its owner's alone.
    """
    if not settings.api_url:
        return None
    token = settings.api_token and settings.api_token.get_secret_value()
    if not token and _is_same(settings.api_url, running_api(settings.state_dir)):
        token = read_token(StateDir(settings.state_dir.absolute()).api_token)
    return Api(settings.api_url, token or None)


def running_api(state_dir: Path) -> str | None:
    """The URL of the API of the `up` that holds this folder now; None if none does, or it is not that far yet."""
    match _running(state_dir):
        case {"api_url": str(api_url)}:
            return api_url
        case _:
            return None


def running_flower(state_dir: Path) -> str | None:
    """The URL of the Flower of that `up`, likewise."""
    match _running(state_dir):
        case {"flower_url": str(flower_url)}:
            return flower_url
        case _:
            return None


def _running(state_dir: Path) -> object:
    state = StateDir(state_dir.absolute())
    return state.read().get("running") if state.is_held() else None


def _is_same(url: str, running: str | None) -> bool:
    """Whether both name one API. Its token goes nowhere else: `localhost` may be another address than `127.0.0.1`."""
    return running is not None and _place(url) is not None and _place(url) == _place(running)


def _place(url: str) -> tuple[str, str, int | None] | None:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return None
    return parts.scheme, parts.hostname or "", port
