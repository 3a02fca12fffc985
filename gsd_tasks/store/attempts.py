"""Reading the attempts of a session."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import select

from gsd_tasks.domain.record import Attempt
from gsd_tasks.domain.state import Reason
from gsd_tasks.store.rows import maybe_utc, utc
from gsd_tasks.store.tables import attempts, workers

if TYPE_CHECKING:
    from sqlalchemy import Connection, RowMapping

    from gsd_tasks.domain.session import SessionId


def of_session(connection: Connection, session_id: SessionId) -> list[Attempt]:
    """All of them, in order."""
    found = (
        select(attempts, workers.c.name.label("worker"))
        .join(workers, workers.c.id == attempts.c.worker_id, isouter=True)
        .where(attempts.c.session_id == session_id)
        .order_by(attempts.c.attempt)
    )
    return [to_attempt(row) for row in connection.execute(found).mappings()]


def to_attempt(row: RowMapping) -> Attempt:
    """An attempt, and its worker's name."""
    return Attempt(
        attempt=row["attempt"],
        worker=row["worker"],
        slot=row["slot"],
        claimed_at=utc(row["claimed_at"]),
        launching_at=maybe_utc(row["launching_at"]),
        ended_at=maybe_utc(row["ended_at"]),
        reason=None if row["reason"] is None else Reason(row["reason"]),
        detail=row["detail"],
        exit_code=row["exit_code"],
        exit_signal=row["exit_signal"],
        first_seq=row["first_seq"],
        last_seq=row["last_seq"],
    )
