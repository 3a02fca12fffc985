"""What a cluster has to do at this moment, for who asks every few seconds.

Each statement reads what is queued, what is held or what is a worker, by index, and nothing of what has ended; but for
`ended`, which reads an index of that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from sqlalchemy import ARRAY, JSON, BigInteger, Text, and_, case, cast, column, func, literal, select, true
from sqlalchemy.dialects.postgresql import REGCLASS

from gsd_tasks.domain.session import WorkerStatus
from gsd_tasks.domain.state import FINAL, Reason, Status
from gsd_tasks.store.nodes import EXPECTED
from gsd_tasks.store.tables import (
    NOW,
    dependencies,
    in_seconds,
    interval,
    leases,
    session_history,
    session_outputs,
    sessions,
)
from gsd_tasks.store.tables import workers as lives
from gsd_tasks.store.transitions.claimable import CLAIMABLE, DUE, FREE, QUEUED

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from sqlalchemy import CTE, ColumnElement, Connection

#: Of so many sessions of each queue, those that were enqueued first, the one that has been claimable for longest is
#: looked for: what runs next is hardly ever behind them, and each has its history to be looked into.
OLDEST: Final = 100


class Queued(NamedTuple):
    """What waits in one queue: all of it, what could be claimed now, what waits for others, what for its time.

    `oldest_s`: for how long the first of the claimable ones has been so; 0 where there is none.
    """

    queued: int
    claimable: int
    for_others: int
    for_time: int
    oldest_s: float


class Leases(NamedTuple):
    """Of those of one queue: how many, how many have expired, and what was committed under them.

    `oldest_s`: for how long the one that was renewed longest ago has not been.
    """

    held: int
    expired: int
    oldest_s: float
    stdout_bytes: int
    stderr_bytes: int


class Crew(NamedTuple):
    """Lives of workers of one status: how many, and their slots, and those with a session in it."""

    workers: int
    slots: int
    busy: int


class Outputs(NamedTuple):
    """Rows written since Postgres counts them, and the bytes that all of them have on its disk."""

    rows: int
    stored_bytes: int


class Load(NamedTuple):
    """All of it at one moment, or nearly."""

    sessions: Mapping[Status, int]
    queued: Mapping[str, Queued]
    leases: Mapping[str, Leases]
    workers: Mapping[WorkerStatus, Crew]
    outputs: Outputs
    spooled: Mapping[str, int]


def now(connection: Connection, *, lease_s: float, silent_after_s: float) -> Load:
    """As it is."""
    waiting, leased = queued(connection), held(connection, lease_s=lease_s)
    crews, spooled = workers(connection, silent_after_s=silent_after_s)
    of_status = standing(connection)
    of_status[Status.QUEUED] = sum(of.queued for of in waiting.values())
    # What runs has a lease, and nothing else has one.
    of_status[Status.RUNNING] = sum(of.held for of in leased.values())
    return Load(of_status, waiting, leased, crews, outputs(connection), spooled)


def standing(connection: Connection) -> dict[Status, int]:
    """How many sessions there are of each status that is none of an end, and neither waits in a queue nor runs."""
    return _of_statuses(connection, set(Status) - FINAL - {Status.QUEUED, Status.RUNNING})


def ended(connection: Connection) -> dict[Status, int]:
    """And of each that is. Reads an index of them all: not to be asked for every second."""
    return _of_statuses(connection, FINAL)


def queued(connection: Connection) -> dict[str, Queued]:
    """Of each queue that anything waits in."""
    # By the two indices of what is queued alone: a hundred thousand rows would have to be read else.
    free = {
        row.queue: row
        for row in connection.execute(
            select(
                sessions.c.queue,
                func.count().label("number"),
                func.count().filter(DUE).label("claimable"),
                func.count().filter(sessions.c.run_at > NOW).label("for_time"),
            )
            .where(FREE)
            .group_by(sessions.c.queue)
        )
    }
    for_others = {
        row.queue: row.number
        for row in connection.execute(
            select(sessions.c.queue, func.count().label("number"))
            .where(QUEUED, sessions.c.waits)
            .group_by(sessions.c.queue)
        )
    }
    oldest = _oldest(connection, [queue for queue, row in free.items() if row.claimable])
    found = {queue: Queued(n, 0, n, 0, 0.0) for queue, n in for_others.items()}
    for queue, row in free.items():
        waits = for_others.get(queue, 0)
        found[queue] = Queued(row.number + waits, row.claimable, waits, row.for_time, oldest.get(queue, 0.0))
    return found


def _oldest(connection: Connection, queues: Sequence[str]) -> dict[str, float]:
    """For how long that of each of these queues has been claimable that has been so for longest, of its `OLDEST`."""
    if not queues:
        return {}
    asked = func.unnest(literal(list(queues), ARRAY(Text))).table_valued(column("queue", Text)).render_derived("asked")
    first = (
        select(_claimable_since().label("since"))
        .where(sessions.c.queue == asked.c.queue, CLAIMABLE)
        .order_by(sessions.c.id)
        .limit(OLDEST)
        .lateral("first")
    )
    waited = func.greatest(0, in_seconds(NOW - func.min(first.c.since)))
    statement = select(asked.c.queue, waited).join_from(asked, first, true()).group_by(asked.c.queue)
    return {queue: float(seconds) for queue, seconds in connection.execute(statement)}


def held(connection: Connection, *, lease_s: float) -> dict[str, Leases]:
    """Of each queue that anything runs of. When a lease was renewed it does not say: its end less `lease_s`."""
    unrenewed = lease_s - in_seconds(func.min(leases.c.expires_at) - NOW)
    statement = (
        select(
            sessions.c.queue,
            func.count(),
            func.count().filter(leases.c.expires_at < NOW),
            func.greatest(0.0, unrenewed),
            cast(func.sum(leases.c.stdout_bytes), BigInteger),
            cast(func.sum(leases.c.stderr_bytes), BigInteger),
        )
        .join_from(leases, sessions, sessions.c.id == leases.c.session_id)
        # All of them do. So an index has their queues: thousands of rows would have to be found one by one else.
        .where(sessions.c.status == literal(Status.RUNNING.value, literal_execute=True))
        .group_by(sessions.c.queue)
    )
    return {queue: Leases(*figures) for queue, *figures in connection.execute(statement)}


def workers(connection: Connection, *, silent_after_s: float) -> tuple[dict[WorkerStatus, Crew], dict[str, int]]:
    """Of each status; a worker that is silent for so long counts as gone. And, of each that should be heard of, the
    bytes that its spools had and Postgres had not, when its leases were renewed.
    """
    each = _workers(silent_after_s)
    figures = each.c.status, func.count(), func.sum(each.c.slots), func.sum(each.c.busy)
    crew = select(func.json_build_array(*figures).label("crew")).group_by(each.c.status).subquery()
    spool = (
        select(each.c.name, func.sum(each.c.spooled).label("bytes"))
        .where(each.c.is_expected)
        .group_by(each.c.name)
        .subquery()
    )
    # As one value each, for the reason that `words` gives; but a name may be any text.
    crews = select(func.json_agg(crew.c.crew, type_=JSON)).scalar_subquery()
    spooled = select(func.json_object_agg(spool.c.name, spool.c.bytes, type_=JSON)).scalar_subquery()
    of_status, of_name = connection.execute(select(crews, spooled)).one()
    return {WorkerStatus(status): Crew(*rest) for status, *rest in of_status or ()}, of_name or {}


def _workers(silent_after_s: float) -> CTE:
    """Every life, with what its leases say."""
    is_expected = lives.c.status.in_(EXPECTED)
    silent = and_(lives.c.seen_at < NOW - interval(silent_after_s), is_expected)
    busy, spooled = func.count().label("busy"), func.sum(leases.c.spooled_bytes).label("spooled")
    held = select(leases.c.worker_id, busy, spooled).group_by(leases.c.worker_id).subquery()
    return (
        select(
            lives.c.name,
            lives.c.slots,
            is_expected.label("is_expected"),
            case((silent, WorkerStatus.GONE.value), else_=lives.c.status).label("status"),
            func.coalesce(held.c.busy, 0).label("busy"),
            func.coalesce(held.c.spooled, 0).label("spooled"),
        )
        .join_from(lives, held, held.c.worker_id == lives.c.id, isouter=True)
        .cte("each")
    )


def outputs(connection: Connection) -> Outputs:
    """From Postgres's own counters: none of the rows is read."""
    table = cast(literal(session_outputs.name), REGCLASS)
    statement = select(func.pg_stat_get_tuples_inserted(table), func.pg_total_relation_size(table))
    return Outputs(*connection.execute(statement).one())


def _of_statuses(connection: Connection, statuses: Iterable[Status]) -> dict[Status, int]:
    # Written out, not sent as values: a plan for all values could not know how few are meant.
    among = sessions.c.status.in_([literal(status.value, literal_execute=True) for status in sorted(statuses)])
    counted = select(sessions.c.status, func.count()).where(among).group_by(sessions.c.status)
    return {Status(status): number for status, number in connection.execute(counted)}


def _claimable_since() -> ColumnElement[object]:
    """Since it was queued, its time came, and the last one that it was to follow ended: the latest of them."""
    last_move = (
        select(session_history.c.at)
        .where(session_history.c.session_id == sessions.c.id)
        .order_by(session_history.c.id.desc())
        .limit(1)
        .scalar_subquery()
    )
    before = sessions.alias()
    let_go = (
        select(func.max(before.c.ended_at))
        .join_from(dependencies, before, before.c.id == dependencies.c.before_id)
        .where(dependencies.c.session_id == sessions.c.id)
        .scalar_subquery()
    )
    # The first is no row of another table, and is so for most.
    came = case((sessions.c.reason == Reason.ENQUEUED, sessions.c.created_at), else_=last_move)
    return func.greatest(came, sessions.c.run_at, let_go)
