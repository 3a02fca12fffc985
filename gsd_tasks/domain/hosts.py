"""The names and addresses by which a server is called, as a `Host` and a URL have them."""

from __future__ import annotations

from ipaddress import IPv6Address, ip_address
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

_LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")
#: Any address of this machine; clients on it take loopback.
_ANY: Final = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104 - named, not listened at


def known_hosts(names: Iterable[str]) -> frozenset[str]:
    """What `host_name` may give: these names, those that are not empty, and the ones of this machine.

    Whoever calls by another one is to be refused, against a page that has its own name lead here (DNS rebinding).
    """
    return frozenset(in_url(name).lower() for name in (*_LOOPBACK, *names) if name)


def host_name(host: str) -> str:
    """The name in a `Host`, without its port."""
    text = host.lower()
    return text.partition("]")[0] + "]" if text.startswith("[") else text.partition(":")[0]


def in_url(name: str) -> str:
    """The name or address as it stands before a port."""
    try:
        return f"[{name}]" if isinstance(ip_address(name), IPv6Address) else name
    except ValueError:
        return name


def reached_at(host: str) -> str:
    """The address by which a client on this machine reaches what listens at `host`."""
    return _ANY.get(host, host)
