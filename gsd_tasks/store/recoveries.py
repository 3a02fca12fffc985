"""What reapers recovered: read back, and noted as told.

`transitions.recover` writes the rows, each with the sessions that it moved. What nobody was told of yet has no
`told_at`; `tells` counts how often that was begun.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from sqlalchemy import select, update

from gsd_tasks.domain.recovery import Recovery
from gsd_tasks.store.rows import utc
from gsd_tasks.store.tables import NOW, recoveries

if TYPE_CHECKING:
    from sqlalchemy import Connection, RowMapping

#: After so many it is given up, and stays untold.
MOST_TELLS: Final = 20


@dataclass(frozen=True, slots=True)
class Untold:
    """A recovery that nobody was told of, as far as is known, and how often that was tried."""

    recovery: Recovery
    tells: int


def untold(connection: Connection, *, limit: int) -> list[Untold]:
    """The oldest first; without those that are given up."""
    waiting = select(recoveries).where(recoveries.c.told_at.is_(None), recoveries.c.tells < MOST_TELLS)
    rows = connection.execute(waiting.order_by(recoveries.c.id).limit(limit)).mappings()
    return [Untold(to_recovery(row), row["tells"]) for row in rows]


def begin_telling(connection: Connection, seen: Untold) -> bool:
    """Count one more. False: somebody else has begun since it was seen, or has told it."""
    statement = (
        update(recoveries)
        .where(recoveries.c.id == seen.recovery.id, recoveries.c.tells == seen.tells, recoveries.c.told_at.is_(None))
        .values(tells=recoveries.c.tells + 1)
        .returning(recoveries.c.id)
    )
    return connection.execute(statement).first() is not None


def mark_told(connection: Connection, recovery_id: int) -> None:
    """It was told."""
    connection.execute(update(recoveries).where(recoveries.c.id == recovery_id).values(told_at=NOW))


def to_recovery(row: RowMapping) -> Recovery:
    """A row as a value."""
    return Recovery(
        id=row["id"],
        requeued=tuple(row["requeued"]),
        failed=tuple(row["failed"]),
        cancelled=tuple(row["cancelled"]),
        paused=tuple(row["paused"]),
        at=utc(row["at"]),
    )
