"""Leases that have expired, for people: since when, whose they are, and what would become of their sessions."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from gsd_tasks.domain.session import SessionId
from gsd_tasks.domain.state import Status
from gsd_tasks.store import leases as held_leases
from gsd_tasks.store import silence
from gsd_tasks.store.holding import Held
from gsd_tasks.store.rows import utc
from gsd_tasks.store.tables import leases, workers

if TYPE_CHECKING:
    from sqlalchemy import Connection


@dataclass(frozen=True, slots=True, kw_only=True)
class Expired:
    """An expired lease. `becomes` is the status that its session would have, `because` the sentence beside it."""

    lease: Held
    session_id: SessionId
    worker: str | None
    slot: int
    expired_at: datetime
    becomes: Status
    because: str


def expired(connection: Connection) -> list[Expired]:
    """All of them, the oldest first. Reads alone, and waits for nothing."""
    found = {lease.session_id: lease for lease in held_leases.all_held(connection) if lease.is_expired}
    if not found:
        return []
    view = (
        silence.foreseen(list(found.values()))
        .add_columns(workers.c.name.label("worker"), leases.c.slot, leases.c.expires_at)
        .join(workers, workers.c.id == leases.c.worker_id, isouter=True)
        .order_by(leases.c.expires_at)
    )
    return [
        Expired(
            lease=found[row["id"]],
            session_id=row["id"],
            worker=row["worker"],
            slot=row["slot"],
            expired_at=utc(row["expires_at"]),
            becomes=Status(row["becomes"]),
            because=row["because"],
        )
        for row in connection.execute(view).mappings()
    ]
