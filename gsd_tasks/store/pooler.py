"""What a pooler between us and Postgres (PgBouncer in transaction mode) does not keep, done in another way.

Behind one, each statement may run on another of the server's connections, which others use, too. So nothing is set for
a session there, nothing is prepared, and no lock is held by one; what a statement needs, it brings along.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from psycopg import Cursor
from psycopg.pq import TransactionStatus

if TYPE_CHECKING:
    from collections.abc import Mapping

    from psycopg import Pipeline
    from sqlalchemy import Connection

#: In a connection's `info`.
_POOLED: Final = "gsd_pooled"
#: For the rest of the transaction.
_SET: Final = "SELECT pg_catalog.set_config('lock_timeout', %s, true)"


def arrange(dbapi_connection: Any, record: Any, *, session: Mapping[str, int], prepare_after: int) -> None:
    """Set up a new connection: for as long as it lasts, where it is one with the server; else for nothing.

    A pooler gives its clients a number of its own for a connection, not that of the server's process which happens to
    be behind it. To ask for both is one question, and sets the `session` only where they are the same.
    """
    own = dbapi_connection.info.backend_pid
    each = "".join(
        f", CASE WHEN pg_backend_pid() = {own} THEN set_config('{name}', '{value}', false) END"
        for name, value in session.items()
    )
    is_pooled = not dbapi_connection.execute(f"SELECT pg_backend_pid() = {own}{each}").fetchone()[0]
    record.info[_POOLED] = is_pooled
    # Statements repeat for as long as a worker lives: let the server keep their plans.
    dbapi_connection.prepare_threshold = None if is_pooled else prepare_after


def bound_locks(dbapi_connection: Any, record: Any, *, milliseconds: int) -> None:
    """Let a statement of this connection wait so long for somebody's lock, and no longer. Comes after `arrange`."""
    if record.info[_POOLED]:
        dbapi_connection.cursor_factory = type("Bounded", (BoundedCursor,), {"milliseconds": milliseconds})
    else:
        dbapi_connection.execute(f"SET lock_timeout = {milliseconds}")


def is_pooled(connection: Connection) -> bool:
    """Whether there is one between this connection and the server."""
    return bool(connection.info[_POOLED])


class BoundedCursor(Cursor[Any]):
    """Sends each statement with its bound before it, both at once: to the server they are one transaction.

    The bound holds until the end of that. Nothing is awaited in between, so that no lock is held for longer than by the
    statement alone.
    """

    milliseconds: int

    def execute(self, query: Any, *given: Any, **options: Any) -> Any:
        """As a cursor does."""
        # In a transaction it has been set by what began it; and one that has failed takes nothing but its end.
        if self.connection.info.transaction_status is not TransactionStatus.IDLE:
            return super().execute(query, *given, **options)
        begins = str(query).startswith("BEGIN")
        with self.connection.pipeline() as pipeline:
            _end_with_sync(pipeline)
            if not begins:
                self._bound()
            super().execute(query, *given, **options)
            if begins:
                # Whoever wants another isolation has to say so first.
                self._bound()
        return self

    def _bound(self) -> None:
        Cursor(self.connection).execute(_SET, [f"{self.milliseconds}ms"])


def _end_with_sync(pipeline: Pipeline) -> None:
    """Let a pipeline whose results are awaited at its end alone say nothing more after its Sync.

    psycopg (3.3.9) asks for a Flush then, which changes nothing for a server. A pooler that has had the server's last
    word by then takes it for the beginning of something, and keeps one of its few servers for whoever sent it.
    """
    fetch = pipeline._fetch_gen  # noqa: SLF001 - there is no other way to it
    pipeline._fetch_gen = lambda *, flush: fetch(flush=False)  # type: ignore[method-assign]  # noqa: ARG005, SLF001
