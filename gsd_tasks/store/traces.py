"""What a trace is made of."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import select

from gsd_tasks.domain.session import Kind, SessionId
from gsd_tasks.domain.state import Reason
from gsd_tasks.domain.tracing import Story, Tried
from gsd_tasks.store import history, turns
from gsd_tasks.store.rows import maybe_utc, utc
from gsd_tasks.store.tables import attempts, sessions, workers

if TYPE_CHECKING:
    from sqlalchemy import Connection


def story(connection: Connection, session_id: SessionId) -> Story | None:
    """All that the record has of this session but what was said. None: it is not there."""
    named = ("kind", "queue", "priority", "traceparent", "run_at")
    wanted = (*(sessions.c[name] for name in named), sessions.c.claude["model"].label("model"))
    row = connection.execute(select(*wanted).where(sessions.c.id == session_id)).one_or_none()
    if row is None:
        return None
    return Story(
        id=session_id,
        kind=Kind(row.kind),
        queue=row.queue,
        priority=row.priority,
        traceparent=row.traceparent,
        run_at=maybe_utc(row.run_at),
        model=row.model,
        moves=history.of_session(connection, session_id),
        attempts=_attempts(connection, session_id),
        turns=turns.of_session(connection, session_id) if row.kind == Kind.CLAUDE else (),
    )


def _attempts(connection: Connection, session_id: SessionId) -> list[Tried]:
    found = (
        select(attempts, workers.c.name.label("worker"))
        .join(workers, workers.c.id == attempts.c.worker_id, isouter=True)
        .where(attempts.c.session_id == session_id)
        .order_by(attempts.c.attempt)
    )
    return [
        Tried(
            attempt=row.attempt,
            worker=row.worker,
            slot=row.slot,
            claimed_at=utc(row.claimed_at),
            launching_at=maybe_utc(row.launching_at),
            began_at=maybe_utc(row.began_at),
            exited_at=maybe_utc(row.exited_at),
            ended_at=maybe_utc(row.ended_at),
            reason=None if row.reason is None else Reason(row.reason),
            exit_code=row.exit_code,
        )
        for row in connection.execute(found)
    ]
