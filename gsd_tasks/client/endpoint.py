"""Where an API is and how to get in; and in one line what went wrong on the way there."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from gsd_tasks import __version__
from gsd_tasks.domain.errors import ConfigurationError
from gsd_tasks.domain.hosts import in_url
from gsd_tasks.local.addresses import api_of, running_api
from gsd_tasks.telemetry import get_log

if TYPE_CHECKING:
    from gsd_tasks.settings import Settings

_LOCALHOST: Final = "localhost"
#: Every API in plain HTTP that a warning was given for.
_warned: set[str] = set()


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An API: its base URL, with nothing secret in it, and the token for it."""

    url: str
    host: str
    token: str = field(repr=False)

    @property
    def is_loopback(self) -> bool:
        """Whether it is on this machine: then no proxy is asked."""
        return _is_loopback(urlsplit(self.url).hostname or "")

    @property
    def is_encrypted(self) -> bool:
        """Whether it is asked by TLS."""
        return self.url.startswith("https:")

    @property
    def headers(self) -> dict[str, str]:
        """What every request has."""
        return {"Authorization": f"Bearer {self.token}", "User-Agent": f"gsd-tasks/{__version__}"}


def find_endpoint(settings: Settings, url: str | None, token: str | None) -> Endpoint:
    """The API of `url`, else of `GSD_API_URL`, else of this user's running `up`; with `token`, else `GSD_API_TOKEN`.

    The API of the running `up` is let in to with the token of that `up`, where no other is given.

    Raises:
        ConfigurationError: there is none, or no token for it, or one of them cannot be one.
    """
    chosen = url or settings.api_url or running_api(settings.state_dir)
    if not chosen:
        raise ConfigurationError("no API: give its url, or set GSD_API_URL, or start `gsd-tasks up`")
    host = _check_url(chosen)
    if token is None:
        found = api_of(settings.model_copy(update={"api_url": chosen}))
        token = found and found.token
    if not token:
        raise ConfigurationError(
            f"no token for the API at {host}: set GSD_API_TOKEN to one that `gsd-tasks token create` printed there"
        )
    if not token.isascii() or not token.isprintable() or " " in token:
        raise ConfigurationError("GSD_API_TOKEN: this is no token: use one that `gsd-tasks token create` printed")
    endpoint = Endpoint(chosen.rstrip("/"), host, token)
    _warn_if_open(endpoint)
    return endpoint


def _check_url(url: str) -> str:
    """Its host and port. What is wrong is said without the URL: it may have a password in it."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise ConfigurationError(f"GSD_API_URL: is no URL: {error}") from None
    if parts.scheme not in {"http", "https"} or not host:
        raise ConfigurationError("GSD_API_URL: is no URL such as https://gsd.example.org")
    if parts.username is not None or parts.query or parts.fragment or not url.isprintable() or " " in url:
        raise ConfigurationError(
            "GSD_API_URL: must be scheme, host, port and path alone; the token has its own setting"
        )
    shown = in_url(host)
    return shown if port is None else f"{shown}:{port}"


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == _LOCALHOST


def _warn_if_open(endpoint: Endpoint) -> None:
    if endpoint.is_encrypted or endpoint.is_loopback or endpoint.host in _warned:
        return
    _warned.add(endpoint.host)
    get_log("client").warning(
        "whoever is on the way can read the token and what is sent: use https", api=f"http://{endpoint.host}"
    )
