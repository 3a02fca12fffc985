"""Whether the two servers are there, and will do. Nothing is changed by looking."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import urlsplit

import redis

from gsd_tasks.domain.errors import ConfigurationError, DatabaseUnavailable, SchemaMismatch
from gsd_tasks.domain.redis_address import parse_redis_url
from gsd_tasks.service.broker import connect, no_answer
from gsd_tasks.service.findings import Finding, State
from gsd_tasks.store import Database, schema, vitals

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gsd_tasks.store import Connection

#: More than this between two clocks confuses people who compare times.
CLOCKS_DIFFER_S: Final = 1.0
OLDEST_REDIS: Final = 6


def postgres(url: str | None) -> list[Finding]:
    """The server, its schema, and how far its clock is from this host's."""
    if url is None:
        return [_no_address("Postgres", "GSD_DATABASE_URL")]
    try:
        database = Database(url, connections=1)
        try:
            with database.connection() as connection:
                return _examine(connection, _where(url))
        finally:
            database.close()
    except (ConfigurationError, DatabaseUnavailable) as error:
        return [Finding("Postgres", State.PROBLEM, f"{_where(url)}: not reached", str(error))]


def broker(url: str | None) -> Finding:
    """Redis, or Valkey."""
    if url is None:
        return _no_address("Redis", "GSD_REDIS_URL")
    try:
        with connect(url) as client:
            client.ping()
            version = _version(client)
    except ConfigurationError as error:
        return Finding("Redis", State.PROBLEM, "not reached", str(error))
    except (redis.RedisError, OSError) as error:
        return Finding("Redis", State.PROBLEM, f"{parse_redis_url(url)}: not reached", no_answer(error, url))
    where = str(parse_redis_url(url))
    found = where if version is None else f"{where}, {version}"
    if version is not None and version.is_too_old:
        return Finding("Redis", State.PROBLEM, found, "too old: Redis 6 or newer is needed, or Valkey")
    return Finding("Redis", State.OK, found)


def keeping(url: str) -> list[Finding]:
    """Whether a Redis that answers keeps what it is given. It holds no truth: what it loses costs time."""
    try:
        with connect(url) as client:
            told = {**_info(client, "memory"), **_info(client, "persistence")}
            saves = _saves(client)
    except (ConfigurationError, redis.RedisError) as error:
        return [Finding("Redis keeps", State.NOTE, "not known", f"it does not say, so look yourself: {error}")]
    return [_eviction(told.get("maxmemory_policy")), _persistence(told.get("aof_enabled"), saves)]


class _Version(NamedTuple):
    name: str
    number: str
    is_too_old: bool

    def __str__(self) -> str:
        return f"{self.name} {self.number}"


def _version(client: redis.Redis) -> _Version | None:
    """None: it does not say so to this user."""
    told = _info(client, "server")
    # Valkey says for which Redis it can stand, too.
    speaks = str(told.get("redis_version", ""))
    major = speaks.partition(".")[0]
    name, number = ("Valkey", str(told["valkey_version"])) if "valkey_version" in told else ("Redis", speaks)
    return _Version(name, number, int(major) < OLDEST_REDIS) if major.isdigit() else None


def _info(client: redis.Redis, section: str) -> Mapping[str, Any]:
    try:
        told: Mapping[str, Any] = client.info(section)
    except redis.ResponseError:
        return {}  # not allowed to this user
    return told


def _saves(client: redis.Redis) -> bool | None:
    try:
        return bool(client.config_get("save").get("save"))
    except redis.ResponseError:
        return None  # not allowed, as with most that are rented


def _eviction(policy: str | None) -> Finding:
    if policy in {None, "noeviction"}:
        return Finding("Redis eviction", State.OK, policy or "not known")
    advice = "when it is full it drops what waits, instead of saying so: set its maxmemory-policy to noeviction"
    return Finding("Redis eviction", State.NOTE, f"{policy}", advice)


def _persistence(appends: int | None, saves: bool | None) -> Finding:  # noqa: FBT001 - what it says, or does not
    if appends:
        return Finding("Redis persistence", State.OK, "append-only file")
    if saves or None in {appends, saves}:
        return Finding("Redis persistence", State.OK, "snapshots" if saves else "not known")
    advice = "after its restart, what is queued waits until it is published again from Postgres: set appendonly yes"
    return Finding("Redis persistence", State.NOTE, "none", advice)


def _examine(connection: Connection, where: str) -> list[Finding]:
    vitals.ask(connection)  # what the first question takes, being prepared, is no measure
    before_s = time.time()
    told = vitals.ask(connection)
    after_s = time.time()
    clock = _compare(told.now_s - (before_s + after_s) / 2, (after_s - before_s) / 2)
    found = f"{where}, version {told.version}"
    if told.is_too_old:
        return [Finding("Postgres", State.PROBLEM, found, "too old: Postgres 15 or newer is needed"), clock]
    try:
        revision = schema.check(connection)
    except SchemaMismatch as error:
        return [Finding("Postgres", State.PROBLEM, found, str(error)), clock]
    return [Finding("Postgres", State.OK, f"{found}, schema {revision}"), clock]


def _compare(ahead_s: float, unsure_s: float) -> Finding:
    found = f"Postgres is {abs(ahead_s):.3f} s {'ahead' if ahead_s >= 0 else 'behind'}"
    if abs(ahead_s) - unsure_s <= CLOCKS_DIFFER_S:
        return Finding("clock", State.OK, found)
    advice = "no lease depends on it, but rows are stamped here and history there: let NTP set both clocks"
    return Finding("clock", State.NOTE, found, advice)


def _no_address(check: str, variable: str) -> Finding:
    return Finding(check, State.PROBLEM, "no address", f"set {variable}, or start `gsd-tasks up`")


def _where(url: str) -> str:
    """Without user and password, wherever they stand."""
    parts = urlsplit(url)
    return f"{parts.netloc.rpartition('@')[2]}{parts.path}"
