"""Taking over what a former worker of the same host held: another holder, the same attempt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import func, select, update

from gsd_tasks.domain.session import Holder, SessionId, WorkerId
from gsd_tasks.domain.state import Reason, Status
from gsd_tasks.store import history, transcript
from gsd_tasks.store.holding import Claim
from gsd_tasks.store.leases import Progress
from gsd_tasks.store.rows import to_session
from gsd_tasks.store.tables import NOW, attempts, cluster, interval, leases, sessions, workers

if TYPE_CHECKING:
    from collections.abc import Iterable
    from uuid import UUID

    from sqlalchemy import Connection


@dataclass(frozen=True, slots=True, kw_only=True)
class Adopted:
    """A session in new hands, and what Postgres has of its attempt. `may_have_run`: its launch had begun."""

    claim: Claim
    progress: Progress
    transcript_bytes: int
    first_seq: int
    may_have_run: bool


def cluster_id(connection: Connection) -> UUID:
    """Which cluster this database is."""
    found: UUID = connection.execute(select(cluster.c.id)).scalar_one()
    return found


def current_attempts(connection: Connection, session_ids: Iterable[SessionId]) -> dict[SessionId, int]:
    """The attempt that each of these sessions is in; one that nobody holds is not in the answer."""
    held = select(leases.c.session_id, leases.c.attempt).where(leases.c.session_id.in_(list(session_ids)))
    return {SessionId(row.session_id): row.attempt for row in connection.execute(held)}


def adopt(
    connection: Connection,
    session_id: SessionId,
    attempt: int,
    *,
    holder: Holder,
    worker_id: WorkerId,
    slot: int,
    lease_s: float,
) -> Adopted | None:
    """running -> running, in another worker's hands: the former holder can write nothing from here on.

    Whoever calls this owns the attempt's spool, so the former worker's process is gone. Allowed after expiry as long as
    the session was not recovered. None: this attempt is over. Asked again by the same holder, it answers the same.
    """
    locked = (
        select(sessions.c.id, sessions.c.status)
        .join_from(sessions, leases, leases.c.session_id == sessions.c.id)
        .where(
            sessions.c.id == session_id,
            sessions.c.status == Status.RUNNING,
            leases.c.attempt == attempt,
            leases.c.holder != holder,
        )
        .with_for_update(key_share=True)
        .cte("before")
    )
    moved = (
        update(sessions)
        .where(sessions.c.id == locked.c.id)
        .values(worker_id=worker_id, slot=slot, reason=Reason.ADOPTED, detail=None)
        .returning(*sessions.c)
        .cte("moved")
    )
    hands = {"holder": holder, "worker_id": worker_id, "slot": slot}
    leased = (
        update(leases)
        .where(leases.c.session_id == moved.c.id)
        .values(
            renewals=leases.c.renewals + 1,
            expires_at=NOW + interval(lease_s),
            # A worker from before there were transcripts has claimed it, perhaps, and knew of no entries.
            last_entry=func.greatest(leases.c.last_entry, transcript.last_entry(moved.c.id)),
            **hands,
        )
        .returning(leases.c.session_id)
        .cte("leased")
    )
    continued = (
        update(attempts)
        .where(attempts.c.session_id == moved.c.id, attempts.c.attempt == moved.c.attempt)
        .values(**hands)
        .returning(attempts.c.session_id)
        .cte("continued")
    )
    note = history.note(moved, locked).cte("history")
    connection.execute(select(moved.c.id).add_cte(leased, continued, note))
    return _held_by(connection, session_id, holder)


def _held_by(connection: Connection, session_id: SessionId, holder: Holder) -> Adopted | None:
    """Read back, so that an adoption whose answer was lost is found as well."""
    found = (
        select(
            *(column for column in sessions.c if column.name != "last_seq"),
            workers.c.name.label("worker"),
            leases.c.last_seq,
            leases.c.stdout_bytes,
            leases.c.stderr_bytes,
            leases.c.transcript_bytes,
            attempts.c.first_seq,
            attempts.c.launching_at,
        )
        .join_from(sessions, leases, leases.c.session_id == sessions.c.id)
        .join(attempts, (attempts.c.session_id == leases.c.session_id) & (attempts.c.attempt == leases.c.attempt))
        .join(workers, workers.c.id == leases.c.worker_id)
        .where(sessions.c.id == session_id, leases.c.holder == holder)
    )
    row = connection.execute(found).mappings().one_or_none()
    if row is None:
        return None
    session = to_session(row, secrets=True)
    claim = Claim(session=session, attempt=session.attempt, holder=holder, worker_id=row["worker_id"], slot=row["slot"])
    progress = Progress(row["last_seq"], row["stdout_bytes"], row["stderr_bytes"])
    return Adopted(
        claim=claim,
        progress=progress,
        transcript_bytes=row["transcript_bytes"],
        first_seq=row["first_seq"],
        may_have_run=row["launching_at"] is not None,
    )
