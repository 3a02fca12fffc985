"""Out of running, from holders that have fallen silent."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import case, null, select, update

from gsd_tasks.domain.state import Reason, Status
from gsd_tasks.store import history, silence
from gsd_tasks.store.holding import Held, Recovered
from gsd_tasks.store.tables import NOW, session_history, sessions
from gsd_tasks.store.transitions.settling import left_running

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection

LOST = Reason.LEASE_LOST.value


def recover(connection: Connection, silent: Sequence[Held]) -> Recovered:
    """running -> queued, failed, cancelled or paused: taken from holders that have not renewed since they were seen.

    Cancelled or paused where that was asked for; queued again where no child can have begun, which counts nothing, or
    where the producer allows it and `max_recoveries` is not used up; else failed. What somebody else has in hand just
    now, and whose holder has come back, is left out. Whether a lease has expired is for the caller to say: on a clock
    that was set back it does not, for as long as it was set back.
    """
    if not silent:
        return Recovered()
    locked = silence.locked(silent)
    ended = {Status.FAILED.value, Status.CANCELLED.value}
    moved = (
        update(sessions)
        .where(sessions.c.id == locked.c.id)
        .values(
            status=locked.c.becomes,
            reason=case(
                (locked.c.becomes == Status.CANCELLED.value, Reason.CANCELLED.value),
                (locked.c.becomes == Status.PAUSED.value, Reason.PAUSED.value),
                else_=LOST,
            ),
            detail=locked.c.because,
            wanted=null(),
            recoveries=sessions.c.recoveries + locked.c.counts,
            last_seq=locked.c.last_seq,
            ended_at=case((locked.c.becomes.in_(ended), NOW), else_=null()),
        )
        .returning(*sessions.c)
        .cte("moved")
    )
    noted = history.note(moved, locked).returning(session_history.c.session_id).cte("history")
    event = silence.event(moved, noted)
    statement = select(event).add_cte(*left_running(moved, {"reason": LOST}))
    row = connection.execute(statement).mappings().one_or_none()
    if row is None:
        return Recovered()
    return Recovered(id=row["id"], **{name: tuple(row[name]) for name in silence.RECOVERED})
