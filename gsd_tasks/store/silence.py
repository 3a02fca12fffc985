"""What `transitions.recover` is put together from: who has fallen silent, what becomes of it, and the event of that."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import ARRAY, BigInteger, Uuid, and_, case, column, func, insert, literal, select, true

from gsd_tasks.domain.session import OnLost
from gsd_tasks.domain.state import Status, Wanted
from gsd_tasks.store.tables import attempts, leases, recoveries, sessions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import CTE, ColumnElement, Select

    from gsd_tasks.store.holding import Held

SILENT: Final = "its worker has fallen silent"
#: What can become of a session that is recovered, by its column in `recoveries`.
RECOVERED: Final = {
    "requeued": Status.QUEUED,
    "failed": Status.FAILED,
    "cancelled": Status.CANCELLED,
    "paused": Status.PAUSED,
}
#: The transitions' own: an event stands between them.
HISTORY_IDS: Final = "session_history_id_seq"


def locked(seen: Sequence[Held]) -> CTE:
    """`foreseen`, with everything that a recovery changes locked; without what somebody else has locked just now."""
    # The attempt too: its holder may be about to write that a child begins.
    changed = [sessions, leases, attempts]
    return foreseen(seen).with_for_update(of=changed, skip_locked=True, key_share=True).cte("before")


def foreseen(seen: Sequence[Held]) -> Select[Any]:
    """Those of the sessions whose lease is still as it was seen, with what becomes of each and why."""
    ours = (
        func.unnest(
            literal([lease.session_id for lease in seen], ARRAY(Uuid)),
            literal([lease.holder for lease in seen], ARRAY(Uuid)),
            literal([lease.renewals for lease in seen], ARRAY(BigInteger)),
        )
        .table_valued(column("session_id", Uuid), column("holder", Uuid), column("renewals", BigInteger))
        .render_derived(name="seen")
    )
    count = func.concat(sessions.c.recoveries + 1, " of ", sessions.c.max_recoveries)
    goes_on = and_(sessions.c.on_lost == OnLost.REQUEUE, sessions.c.recoveries < sessions.c.max_recoveries)
    never_launched = attempts.c.launching_at.is_(None)
    # In this order: what was wanted, what cannot have begun, what may run again, the rest.
    kinds: tuple[tuple[ColumnElement[bool], Status, ColumnElement[str] | str, int], ...] = (
        (sessions.c.wanted == Wanted.CANCEL, Status.CANCELLED, SILENT, 0),
        (sessions.c.wanted == Wanted.PAUSE, Status.PAUSED, SILENT, 0),
        (never_launched, Status.QUEUED, f"{SILENT} before its child began", 0),
        (goes_on, Status.QUEUED, func.concat(f"{SILENT}: recovery ", count), 1),
        (sessions.c.on_lost == OnLost.FAIL, Status.FAILED, f"{SILENT}, and it is to fail then (on_lost)", 0),
        (true(), Status.FAILED, func.concat(f"{SILENT}, and its recoveries are used up: ", sessions.c.recoveries), 0),
    )
    return (
        select(
            sessions.c.id,
            sessions.c.status,
            leases.c.last_seq,
            case(*((when, status.value) for when, status, _, _ in kinds)).label("becomes"),
            case(*((when, because) for when, _, because, _ in kinds)).label("because"),
            case(*((when, counts) for when, _, _, counts in kinds)).label("counts"),
        )
        .join_from(ours, leases, leases.c.session_id == ours.c.session_id)
        .join(sessions, sessions.c.id == leases.c.session_id)
        .join(attempts, and_(attempts.c.session_id == leases.c.session_id, attempts.c.attempt == leases.c.attempt))
        .where(
            sessions.c.status == Status.RUNNING,
            leases.c.holder == ours.c.holder,
            leases.c.renewals == ours.c.renewals,
        )
    )


def event(moved: CTE, noted: CTE) -> CTE:
    """The row of `recoveries`, if anything moved; after those of the history, so that it is read after them."""

    def those(status: Status) -> ColumnElement[Any]:
        ids = func.array_agg(moved.c.id).filter(moved.c.status == status.value)
        return func.coalesce(ids, literal([], ARRAY(Uuid)))

    return (
        insert(recoveries)
        .from_select(
            ["id", *RECOVERED],
            select(func.nextval(HISTORY_IDS), *(those(status) for status in RECOVERED.values()))
            .join_from(moved, noted, noted.c.session_id == moved.c.id)
            .having(func.count() > 0),
        )
        .returning(recoveries.c.id, *(recoveries.c[name] for name in RECOVERED))
        .cte("recovery")
    )
