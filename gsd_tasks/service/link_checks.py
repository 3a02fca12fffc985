"""How the two servers are reached: whether what is said to them is encrypted, and who stands in between."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import redis

from gsd_tasks.domain.errors import DatabaseUnavailable
from gsd_tasks.domain.redis_address import parse_redis_url
from gsd_tasks.service.broker import connect, sentinels
from gsd_tasks.service.findings import Finding, State
from gsd_tasks.store import Database, vitals

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gsd_tasks.domain.redis_address import RedisAddress

_HERE: Final = ("localhost", "::1", "")
_UNCHECKED: Final = "whoever is in the way can pose as the server: "


def postgres(url: str) -> list[Finding]:
    """Of a server that answers."""
    database = Database(url, connections=1)
    try:
        with database.connection() as connection:
            link = vitals.look_at_link(connection)
    except DatabaseUnavailable as error:
        return [Finding("Postgres TLS", State.NOTE, "not known", str(error))]
    finally:
        database.close()
    return [_postgres_tls(link), *([_POOLER] if link.is_pooled else [])]


def broker(url: str) -> list[Finding]:
    """The same of Redis."""
    address = parse_redis_url(url)
    return [_redis_tls(address), *([_sentinel(address, url)] if address.master_name else [])]


_POOLER: Final = Finding(
    "Postgres pooler",
    State.OK,
    "one stands in between: nothing is prepared, and each statement brings its time-out along",
)


def _postgres_tls(link: vitals.Link) -> Finding:
    if link.is_encrypted:
        if link.is_checked:
            return Finding("Postgres TLS", State.OK, "the server's certificate is checked")
        advice = f"{_UNCHECKED}add sslmode=verify-full and sslrootcert=FILE to GSD_DATABASE_URL"
        return Finding("Postgres TLS", State.NOTE, "the server's certificate is not checked", advice)
    if _is_here(link.host):
        return Finding("Postgres TLS", State.OK, "none, and it is on this host")
    advice = "passwords of sessions and all that they print can be read on the way: use sslmode=verify-full"
    return Finding("Postgres TLS", State.NOTE, "none", advice)


def _redis_tls(address: RedisAddress) -> Finding:
    if address.tls is not None:
        if address.tls.checks_host:
            return Finding("Redis TLS", State.OK, "the server's certificate is checked")
        advice = f"{_UNCHECKED}leave ssl_cert_reqs and ssl_check_hostname out of GSD_REDIS_URL, and name ssl_ca_certs"
        return Finding("Redis TLS", State.NOTE, "the server's certificate is not checked", advice)
    if all(_is_here(host) for host, _ in address.hosts):
        return Finding("Redis TLS", State.OK, "none, and it is on this host")
    return Finding("Redis TLS", State.NOTE, "none", "its password can be read on the way: use rediss://")


def _sentinel(address: RedisAddress, url: str) -> Finding:
    """Whether a failover would come about, and be heard of, if it had to be now."""
    silent, told = [], None
    with connect(url) as client:
        for sentinel in list(sentinels(client).sentinels):
            try:
                told = sentinel.sentinel_masters().get(address.master_name) or told
            except redis.RedisError:
                silent.append("{host}:{port}".format(**sentinel.connection_pool.connection_kwargs))
    if told is None:
        return Finding("Redis Sentinel", State.NOTE, "not known", "none of them answers just now")
    found = (
        f"{address.master_name} is at {told['ip']}:{told['port']}, with {told['num-slaves']} replicas; "
        f"{len(address.hosts) - len(silent)} of {len(address.hosts)} Sentinels answer"
    )
    advice = _caution(silent, told)
    return Finding("Redis Sentinel", State.OK if advice is None else State.NOTE, found, advice)


def _caution(silent: list[str], told: Mapping[str, Any]) -> str | None:
    if silent:
        return f"these do not answer: {', '.join(silent)}: look there, before another one fails"
    if told["num-slaves"] == 0:
        return "nothing could take over from the master: give it a replica"
    if told["num-other-sentinels"] < 2:
        return "with less than three Sentinels no majority is left when a host is lost"
    return None


def _is_here(host: str) -> bool:
    return host in _HERE or host.startswith(("127.", "/"))
