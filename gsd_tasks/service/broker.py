"""Connections to Redis, for all that we ask it ourselves; Celery has its own, made from the same address.

With Sentinel, the master is asked for whenever a connection is made, so that nobody waits for one that is gone; and a
server that says that it is a replica now has its connection closed.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import redis
import redis.asyncio
import redis.asyncio.retry
import redis.asyncio.sentinel
import redis.sentinel
from redis.backoff import NoBackoff
from redis.driver_info import DriverInfo
from redis.retry import Retry

from gsd_tasks.domain.redis_address import parse_redis_url
from gsd_tasks.domain.refusals import of_redis

if TYPE_CHECKING:
    from gsd_tasks.domain.redis_address import Login, RedisAddress, Tls

TIMEOUT_S: Final = 2.0
#: Of a Sentinel: there are others, and all of them are near.
SENTINEL_TIMEOUT_S: Final = 1.0
#: What a connection says of itself. Else every client looks its own version up on the disk, which takes 2 ms.
_DRIVER: Final = DriverInfo(lib_version=redis.__version__)
#: By the Sentinels of an address, the one that answered last: who comes next asks it first.
_answered: Final[dict[tuple[tuple[str, int], ...], tuple[str, int]]] = {}


class Sentinels(redis.sentinel.Sentinel):
    """Asks the one first that answered last: one that is cut off costs a process its second once."""

    def __init__(self, hosts: tuple[tuple[str, int], ...], **options: Any) -> None:
        self._hosts = hosts
        super().__init__(hosts, **options)  # type: ignore[no-untyped-call]

    def discover_master(self, service_name: str) -> tuple[str, int]:
        """Where it is.

        Raises:
            MasterNotFoundError: nobody knows, or nobody answers; with what each of those said.
        """
        silent = []
        first = _answered.get(self._hosts)
        for sentinel in sorted(self.sentinels, key=lambda sentinel: _place(sentinel) != first):
            host, port = _place(sentinel)
            try:
                masters: Any = sentinel.sentinel_masters()
            except redis.RedisError as error:
                silent.append(f"{host}:{port}: {error}")
                continue
            state = masters.get(service_name)
            if state and self.check_master_state(state, service_name):  # type: ignore[no-untyped-call]
                _answered[self._hosts] = (host, port)
                return state["ip"], state["port"]
        raise redis.sentinel.MasterNotFoundError("; ".join([f"No master found for {service_name!r}", *silent]))


def _place(sentinel: redis.Redis) -> tuple[str, int]:
    told = sentinel.connection_pool.connection_kwargs
    return told["host"], told["port"]


class Master(redis.Redis):
    """The master that Sentinels told of. Closes the connections to them, too."""

    def close(self) -> None:
        """Close all of them."""
        super().close()
        sentinels(self).close()


class AsyncMaster(redis.asyncio.Redis):
    """The same on an event loop."""

    async def aclose(self, close_connection_pool: bool | None = None) -> None:  # noqa: FBT001  (redis-py's)
        """Close all of them."""
        await super().aclose(close_connection_pool)
        for one in sentinels(self).sentinels:
            await one.aclose()


def connect(redis_url: str) -> redis.Redis:
    """A client that fails within 2 s, and a second more for each Sentinel that does not answer.

    It does not try again: whoever calls has a better plan.

    Raises:
        ConfigurationError: that is no address.
    """
    address = parse_redis_url(redis_url)
    options = client_options(address) | {"socket_timeout": TIMEOUT_S, "retry": Retry(NoBackoff(), 0)}
    if address.master_name is None:
        ((host, port),) = address.hosts
        return redis.Redis(host=host, port=port, **options)
    asked = Sentinels(address.hosts, sentinel_kwargs=sentinel_options(address), **options)
    master: redis.Redis = asked.master_for(address.master_name, redis_class=Master)  # type: ignore[no-untyped-call]
    return master


def connect_async(redis_url: str) -> redis.asyncio.Redis:
    """A client for an event loop. Without a time-out of its own for what it reads, as what it is for is listening."""
    address = parse_redis_url(redis_url)
    options = client_options(address) | {"retry": redis.asyncio.retry.Retry(NoBackoff(), 0)}
    if address.master_name is None:
        ((host, port),) = address.hosts
        return redis.asyncio.Redis(host=host, port=port, **options)
    asked: Any = redis.asyncio.sentinel.Sentinel  # without types
    told = asked(list(address.hosts), sentinel_kwargs=sentinel_options(address), **options)
    master: redis.asyncio.Redis = told.master_for(address.master_name, redis_class=AsyncMaster)
    return master


def sentinels(client: redis.Redis | redis.asyncio.Redis) -> Any:
    """Those that told where this client's master is."""
    return client.connection_pool.sentinel_manager  # type: ignore[union-attr]


def client_options(address: RedisAddress) -> dict[str, Any]:
    """What redis-py needs to know of the server itself."""
    return {
        "db": address.database,
        "decode_responses": True,
        "socket_connect_timeout": TIMEOUT_S,
        "driver_info": _DRIVER,
        **_login_options(address.login),
        **({"ssl": True} | tls_options(address.tls) if address.tls else {}),
    }


def sentinel_options(address: RedisAddress) -> dict[str, Any]:
    """What redis-py, Celery's transport and Flower need to know of its Sentinels. All plain values, no objects."""
    return {
        "socket_timeout": SENTINEL_TIMEOUT_S,
        "socket_connect_timeout": SENTINEL_TIMEOUT_S,
        "decode_responses": True,
        **_login_options(address.sentinel_login),
        **({"ssl": True} | tls_options(address.tls) if address.tls else {}),
    }


def tls_options(tls: Tls) -> dict[str, Any]:
    """In the words that redis-py and Celery's `broker_use_ssl` share."""
    return {
        "ssl_cert_reqs": "required" if tls.is_checked else "none",
        "ssl_check_hostname": tls.checks_host,
        **{name: file for name, file in _files(tls).items() if file is not None},
    }


def no_answer(error: Exception, redis_url: str) -> str:
    """In one line: Redis does not answer, why, and what to do about it where that is known."""
    said = " ".join(str(error).split()) or type(error).__name__
    advice = _about_files(redis_url) or of_redis(said) or _about_closing(said, redis_url)
    return f"Redis does not answer: {said}" if advice is None else f"Redis cannot be used: {said}: {advice}"


def _about_files(redis_url: str) -> str | None:
    """Of a file that is not there, OpenSSL does not say which."""
    tls = parse_redis_url(redis_url).tls
    for name, file in _files(tls).items() if tls else ():
        if file is not None and not Path(file).is_file():
            return f"{name} in GSD_REDIS_URL names {file}, and there is no such file"
    return None


def _about_closing(said: str, redis_url: str) -> str | None:
    """Who asks for a certificate, and gets none, often just hangs up."""
    tls = parse_redis_url(redis_url).tls
    if tls is None or tls.certfile is not None:
        return None
    hung_up = ("eof occurred", "connection reset", "broken pipe", "connection closed by server")
    if not any(words in said.lower() for words in hung_up):
        return None
    return "the server may want a certificate of ours: name one with ssl_certfile and ssl_keyfile in GSD_REDIS_URL"


def _files(tls: Tls) -> dict[str, str | None]:
    return {"ssl_ca_certs": tls.ca_certs, "ssl_certfile": tls.certfile, "ssl_keyfile": tls.keyfile}


def _login_options(login: Login) -> dict[str, str]:
    given = {"username": login.username, "password": login.password}
    return {name: text for name, text in given.items() if text is not None}
