"""The broker's address as Celery takes it: an URL without options, and the options beside it.

Celery's transport reads options of an URL, too, and differently: for TLS without any it checks no certificate.
"""

from __future__ import annotations

import ssl
from typing import Any, Final
from urllib.parse import quote

from gsd_tasks.domain.redis_address import RedisAddress, Tls, parse_redis_url
from gsd_tasks.service.broker import sentinel_options, tls_options
from gsd_tasks.service.messages import PRIORITY_STEPS

_TRANSPORT: Final[dict[str, Any]] = {
    "visibility_timeout": 60,
    "unacked_restore_interval": 10,
    "unacked_restore_throttle": 1,
    "socket_timeout": 15,
    "socket_connect_timeout": 5,
    "socket_keepalive": True,
    "health_check_interval": 10,
    "queue_order_strategy": "priority",
    "priority_steps": PRIORITY_STEPS,
}


def broker_url(redis_url: str) -> str:
    """With the login in each place: Celery takes that of the place that it happens to be at."""
    address = parse_redis_url(redis_url)
    scheme = "sentinel" if address.master_name else "rediss" if address.tls else "redis"
    return ";".join(
        f"{scheme}://{_login(address)}{_host(host)}:{port}/{address.database}" for host, port in address.hosts
    )


def broker_use_ssl(redis_url: str) -> dict[str, Any] | None:
    """How the server proves who it is; None without TLS."""
    tls = parse_redis_url(redis_url).tls
    return None if tls is None else tls_options(tls) | {"ssl_cert_reqs": _checking(tls)}


def transport_options(redis_url: str, **more: Any) -> dict[str, Any]:
    """What every process of a cluster must have alike, and where its Sentinels are asked for what."""
    address = parse_redis_url(redis_url)
    if address.master_name is None:
        return _TRANSPORT | more
    return _TRANSPORT | {"master_name": address.master_name, "sentinel_kwargs": sentinel_options(address)} | more


def _login(address: RedisAddress) -> str:
    user, password = address.login.username, address.login.password
    if user is None and password is None:
        return ""
    return f"{quote(user or '', safe='')}:{quote(password or '', safe='')}@"


def _host(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _checking(tls: Tls) -> ssl.VerifyMode:
    return ssl.CERT_REQUIRED if tls.is_checked else ssl.CERT_NONE
