"""Whether a connection of the pool still leads to the server.

That is asked of the server before each use, unless it has answered a moment ago and has not hung up since: then it is
seen by the socket alone. A server that ends, and whatever stands in between, closes its connections; one that is gone
without a word is not told from a slow one by asking either.
"""

from __future__ import annotations

import select
import time
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from psycopg import Error
from sqlalchemy import event
from sqlalchemy.exc import InvalidatePoolError

if TYPE_CHECKING:
    from sqlalchemy import Engine

#: An answer is good for so long.
GOOD_FOR_S: Final = 1.0
_USED_AT: Final = "gsd_used_at"


def watch(engine: Engine) -> None:
    """See to it for all connections of this engine; a new one has just answered."""
    for moment in ("connect", "checkin"):
        event.listen(engine, moment, _note)
    event.listen(engine, "checkout", partial(_look, engine))


def _note(_dbapi_connection: Any, record: Any) -> None:
    record.info[_USED_AT] = time.monotonic()


def _look(engine: Engine, dbapi_connection: Any, record: Any, _proxy: object) -> None:
    """Raises `InvalidatePoolError`, upon which the pool makes new ones: what ended it has ended the others, too."""
    if time.monotonic() - record.info[_USED_AT] < GOOD_FOR_S and _is_silent(dbapi_connection):
        return
    try:
        engine.dialect.do_ping(dbapi_connection)
    except Error as error:
        if engine.dialect.is_disconnect(error, dbapi_connection, None):  # type: ignore[arg-type]
            raise InvalidatePoolError from error
        raise


def _is_silent(dbapi_connection: Any) -> bool:
    """Whether it is open, and nothing has come that nobody asked for: a farewell, or the end."""
    if dbapi_connection.closed:
        return False
    poll = select.poll()
    poll.register(dbapi_connection.fileno(), select.POLLIN)
    return not poll.poll(0)
