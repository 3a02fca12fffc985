"""queued -> running."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from sqlalchemy import Double, SmallInteger, Uuid, bindparam, func, insert, null, select, update

from gsd_tasks.domain.session import Holder, SessionId, WorkerId
from gsd_tasks.domain.state import Reason, Status
from gsd_tasks.store import history, transcript
from gsd_tasks.store.holding import Claim
from gsd_tasks.store.rows import to_session
from gsd_tasks.store.tables import NOW, attempts, interval, leases, sessions, workers
from gsd_tasks.store.transitions.claimable import CLAIMABLE

if TYPE_CHECKING:
    from sqlalchemy import Connection, RowMapping, Select


def claim(
    connection: Connection, session_id: SessionId, *, holder: Holder, worker_id: WorkerId, slot: int, lease_s: float
) -> Claim | None:
    """queued -> running, if it is claimable: a new attempt with this holder. None: it is not ours to run."""
    asked = {"claimed_id": session_id, "by_holder": holder, "by_worker": worker_id, "in_slot": slot, "for_s": lease_s}
    row = connection.execute(_claiming(), asked).mappings().one_or_none()
    return None if row is None else _to_claim(row, holder)


@cache
def _claiming() -> Select[Any]:
    """Built once: that takes longer than Postgres takes over it."""
    session_id, holder = bindparam("claimed_id", type_=Uuid), bindparam("by_holder", type_=Uuid)
    worker_id, slot = bindparam("by_worker", type_=Uuid), bindparam("in_slot", type_=SmallInteger)
    # The row is locked as it is by now, the transcript read as it was when the statement began: both of one attempt.
    begun_with = sessions.alias()
    attempt = select(begun_with.c.attempt).where(begun_with.c.id == session_id).scalar_subquery()
    guard = sessions.c.id == session_id, CLAIMABLE, sessions.c.attempt == attempt
    before = select(sessions.c.id, sessions.c.status).where(*guard)
    locked = before.with_for_update(skip_locked=True, key_share=True).cte("before")
    moved = (
        update(sessions)
        .where(sessions.c.id == locked.c.id)
        .values(
            status=Status.RUNNING,
            reason=Reason.CLAIMED,
            detail=null(),
            wanted=null(),
            attempt=sessions.c.attempt + 1,
            worker_id=worker_id,
            slot=slot,
            exit_code=null(),
            exit_signal=null(),
            result=null(),
            started_at=func.coalesce(sessions.c.started_at, NOW),
        )
        .returning(*sessions.c)
        .cte("moved")
    )
    held = insert(leases).from_select(
        ["session_id", "attempt", "holder", "worker_id", "slot", "last_seq", "last_entry", "expires_at"],
        select(
            moved.c.id,
            moved.c.attempt,
            holder,
            worker_id,
            slot,
            moved.c.last_seq,
            transcript.last_entry(moved.c.id),
            NOW + interval(bindparam("for_s", type_=Double)),
        ),
    )
    begun = insert(attempts).from_select(
        ["session_id", "attempt", "holder", "worker_id", "slot", "first_seq"],
        select(moved.c.id, moved.c.attempt, holder, worker_id, slot, moved.c.last_seq + 1),
    )
    name = select(workers.c.name).where(workers.c.id == worker_id).scalar_subquery().label("worker")
    return select(*moved.c, name).add_cte(
        held.cte("held"), begun.cte("begun"), history.note(moved, locked).cte("history")
    )


def find_claim(connection: Connection, session_id: SessionId, holder: Holder) -> Claim | None:
    """The claim that this holder has: the answer to a claim whose outcome stayed unknown."""
    row = (
        connection.execute(
            select(*sessions.c, workers.c.name.label("worker"), leases.c.holder)
            .join_from(sessions, leases, leases.c.session_id == sessions.c.id)
            .join(workers, workers.c.id == leases.c.worker_id)
            .where(sessions.c.id == session_id, leases.c.holder == holder)
        )
        .mappings()
        .one_or_none()
    )
    return None if row is None else _to_claim(row, holder)


def _to_claim(row: RowMapping, holder: Holder) -> Claim:
    session = to_session(row, secrets=True)
    return Claim(
        session=session,
        attempt=session.attempt,
        holder=holder,
        worker_id=row["worker_id"],
        slot=row["slot"],
        traceparent=row["traceparent"],
    )
