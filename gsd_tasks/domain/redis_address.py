"""What `GSD_REDIS_URL` says: a server, with TLS or without, or the Sentinels that know where it is.

    redis://USER:PASSWORD@HOST:6379/DB
    rediss://USER:PASSWORD@HOST:6379/DB?ssl_ca_certs=FILE
    sentinel://USER:PASSWORD@HOST:26379;sentinel://HOST:26379/DB?master_name=NAME

Celery's transport and redis-py read such addresses each in their own way (without options, Celery's does not check a
server's certificate at all). So nobody but this module reads them, and what neither would see is refused.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qsl, unquote, urlsplit

from gsd_tasks.domain.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from urllib.parse import SplitResult

EXAMPLE: Final = "redis://:password@host:6379/0"
SENTINEL_EXAMPLE: Final = "sentinel://:password@host-1:26379;sentinel://host-2:26379/0?master_name=mymaster"
PORTS: Final = {"redis": 6379, "rediss": 6379, "sentinel": 26379}

_TLS_OPTIONS: Final = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_cert_reqs", "ssl_check_hostname")
_SENTINEL_OPTIONS: Final = ("master_name", "sentinel_username", "sentinel_password", "ssl", *_TLS_OPTIONS)
_OPTIONS: Final[dict[str, tuple[str, ...]]] = {"redis": (), "rediss": _TLS_OPTIONS, "sentinel": _SENTINEL_OPTIONS}
_YES_OR_NO: Final = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """How the server proves who it is, and we do. Without `ca_certs`, the system's authorities are trusted."""

    ca_certs: str | None = None
    certfile: str | None = None
    keyfile: str | None = None
    is_checked: bool = True
    checks_host: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """For a server, or for its Sentinels. Without a repr: it may go to a log."""

    username: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisAddress:
    """`hosts` is the one server; with a `master_name`, they are the Sentinels to ask for it."""

    hosts: tuple[tuple[str, int], ...]
    database: int
    login: Login
    tls: Tls | None
    master_name: str | None
    sentinel_login: Login

    def __str__(self) -> str:
        """For people: where, without user and password."""
        places = ", ".join(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in self.hosts)
        if self.master_name is None:
            return f"{places}/{self.database}"
        return f"{self.master_name}/{self.database} of Sentinel {places}"


def parse_redis_url(url: str) -> RedisAddress:
    """What this address says.

    Raises:
        ConfigurationError: it cannot be used. The message has no part of it that might be a password.
    """
    scheme = url.strip().partition("://")[0]
    try:
        parts = _split(scheme, url)
        hosts = tuple((unquote(part.hostname or ""), part.port or PORTS[scheme]) for part in parts)
        database = _database(parts)
    except ValueError:
        raise ConfigurationError(
            f"GSD_REDIS_URL: is no address like {SENTINEL_EXAMPLE if scheme == 'sentinel' else EXAMPLE}"
        ) from None
    options = _options(scheme, parts[-1].query)
    return RedisAddress(
        hosts=hosts,
        database=database,
        login=_login(parts),
        tls=_tls(scheme, options),
        master_name=_master_name(scheme, options),
        sentinel_login=Login(username=options.get("sentinel_username"), password=options.get("sentinel_password")),
    )


def _split(scheme: str, url: str) -> list[SplitResult]:
    places = [place.strip() for place in url.split(";")]
    parts = [urlsplit(place if "://" in place else f"{scheme}://{place}") for place in places]
    if scheme not in PORTS or any(part.scheme != scheme or not part.hostname or part.fragment for part in parts):
        raise ValueError
    if len(parts) > 1 and scheme != "sentinel":
        raise ValueError
    return parts


def _database(parts: list[SplitResult]) -> int:
    """That of the last place, after which the options are. Celery's way of writing it may have it in each."""
    *others, text = (part.path.strip("/") for part in parts)
    if any(part.query for part in parts[:-1]) or any(other not in {"", text} for other in others):
        raise ValueError
    if text and not (text.isascii() and text.isdigit()):
        raise ValueError
    return int(text or 0)


def _options(scheme: str, query: str) -> dict[str, str]:
    options = dict(parse_qsl(query))
    known = _OPTIONS[scheme]
    for name in options:
        if name in known:
            continue
        if scheme == "redis" and name in _TLS_OPTIONS:
            raise ConfigurationError(f"GSD_REDIS_URL: {name} needs TLS: begin the address with rediss://")
        there_are = f"there are {', '.join(known)}" if known else "there are none"
        # Not the name that was found: with a `?` in a password, it would be a part of that.
        raise ConfigurationError(f"GSD_REDIS_URL: has an option that {scheme}:// does not know: {there_are}")
    return options


def _login(parts: list[SplitResult]) -> Login:
    """Of the first place that has one: Celery's way of writing it has it in each."""
    for part in parts:
        if part.username or part.password:
            return Login(username=unquote(part.username or "") or None, password=unquote(part.password or "") or None)
    return Login()


def _tls(scheme: str, options: Mapping[str, str]) -> Tls | None:
    is_wanted = scheme == "rediss" or any(name in options for name in _TLS_OPTIONS)
    if not _yes_or_no(options, "ssl", otherwise=is_wanted):
        return None
    required = options.get("ssl_cert_reqs", "required").lower().removeprefix("cert_")
    if required not in {"required", "none"}:
        raise ConfigurationError("GSD_REDIS_URL: ssl_cert_reqs is required, or none")
    if ("ssl_keyfile" in options) and "ssl_certfile" not in options:
        raise ConfigurationError("GSD_REDIS_URL: ssl_keyfile needs ssl_certfile: name the certificate too")
    return Tls(
        ca_certs=options.get("ssl_ca_certs"),
        certfile=options.get("ssl_certfile"),
        keyfile=options.get("ssl_keyfile"),
        is_checked=required == "required",
        checks_host=required == "required" and _yes_or_no(options, "ssl_check_hostname", otherwise=True),
    )


def _yes_or_no(options: Mapping[str, str], name: str, *, otherwise: bool) -> bool:
    given = options.get(name)
    if given is None:
        return otherwise
    if given.lower() not in _YES_OR_NO:
        raise ConfigurationError(f"GSD_REDIS_URL: {name} is true or false")
    return _YES_OR_NO[given.lower()]


def _master_name(scheme: str, options: Mapping[str, str]) -> str | None:
    name = options.get("master_name")
    if scheme == "sentinel" and not name:
        raise ConfigurationError(
            "GSD_REDIS_URL: Sentinel needs the name of its master: add ?master_name=NAME to the address"
        )
    return name
