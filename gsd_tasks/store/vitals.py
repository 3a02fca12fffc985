"""What a server says of itself, for somebody who wants to know whether it will do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import func, select

from gsd_tasks.store.pooler import is_pooled
from gsd_tasks.store.schema import OLDEST_SERVER

if TYPE_CHECKING:
    from sqlalchemy import Connection


class Vitals(NamedTuple):
    """`now_s` is the server's clock, in seconds since 1970, at some moment during the question."""

    version: str
    is_too_old: bool
    now_s: float


def ask(connection: Connection) -> Vitals:
    """One question, which needs no table and no right."""
    version, number, now_s = connection.execute(
        select(
            func.current_setting("server_version"),
            func.current_setting("server_version_num"),
            func.extract("epoch", func.clock_timestamp()),
        )
    ).one()
    return Vitals(str(version).split()[0], int(number) < OLDEST_SERVER, float(now_s))


class Link(NamedTuple):
    """How the server is reached. `host` begins with `/` for a socket of this host."""

    host: str
    is_encrypted: bool
    is_checked: bool
    is_pooled: bool


def look_at_link(connection: Connection) -> Link:
    """What our own end of the connection knows: behind a pooler, the server's is that of another one."""
    driver: Any = connection.connection.driver_connection
    return Link(
        host=driver.info.host,
        is_encrypted=bool(driver.pgconn.ssl_in_use),
        is_checked=driver.info.get_parameters().get("sslmode") == "verify-full",
        is_pooled=is_pooled(connection),
    )
