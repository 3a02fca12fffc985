"""The holder's right to run: renewing it, and what has been committed under it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from sqlalchemy import (
    ARRAY,
    BigInteger,
    BindParameter,
    ColumnElement,
    Double,
    Integer,
    Uuid,
    and_,
    bindparam,
    column,
    func,
    select,
    update,
)

from gsd_tasks.domain.session import Holder
from gsd_tasks.domain.state import Wanted
from gsd_tasks.store import words
from gsd_tasks.store.holding import Claim, Held
from gsd_tasks.store.tables import NOW, attempts, interval, leases, recoveries, session_history, sessions

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from sqlalchemy import Connection, Row, Select
    from sqlalchemy.sql.dml import ReturningUpdate


class HeldBy(NamedTuple):
    """A claim, in a statement that is built once; `claim_values` has the values to send with it."""

    session_id: BindParameter[UUID]
    attempt: BindParameter[int]
    holder: BindParameter[UUID]


HELD_BY: Final = HeldBy(
    bindparam("of_session", type_=Uuid()),
    bindparam("of_attempt", type_=Integer()),
    bindparam("of_holder", type_=Uuid()),
)

_STATE: Final = words.word(leases.c.holder, leases.c.renewals)
# Built once: every reaper asks it at every sweep.
_STATES: Final = words.listing(_STATE)


@dataclass(frozen=True, slots=True)
class Renewed:
    """The lease is ours for another term; `wanted` is what people want of the session, and say to it (`messages`)."""

    wanted: Wanted | None
    messages: int = 0


@dataclass(frozen=True, slots=True)
class Progress:
    """What Postgres has of an attempt: rows up to `last_seq`, and how many bytes of each stream they stand for."""

    last_seq: int
    stdout_bytes: int = 0
    stderr_bytes: int = 0


def states(connection: Connection) -> list[str]:
    """Every lease there is, as a word for who has it and how often it was renewed: two alike are one unrenewed."""
    return words.read(connection, _STATES)


def all_held(connection: Connection) -> list[Held]:
    """Every lease there is: one for each running session."""
    return _to_held(connection, _holding())


def held_still(connection: Connection, states: Sequence[str]) -> list[Held]:
    """Those that are as they were then."""
    if not states:
        return []
    return _to_held(connection, _holding().where(words.is_among(_STATE, states)))


def _holding() -> Select[Any]:
    expired = (leases.c.expires_at < NOW).label("is_expired")
    return select(leases.c.session_id, leases.c.holder, leases.c.renewals, expired)


def _to_held(connection: Connection, statement: Select[Any]) -> list[Held]:
    return [
        Held(session_id=session_id, holder=holder, renewals=renewals, is_expired=is_expired)
        for session_id, holder, renewals, is_expired in connection.execute(statement)
    ]


def renew(connection: Connection, claim: Claim, *, lease_s: float, spooled_bytes: int | None = None) -> Renewed | None:
    """Another term from now on; allowed after expiry as long as nobody has taken the lease. None: it is not ours.

    `spooled_bytes`: what the spool has that is not committed; None: as it was.
    """
    statement = _renewing(lease_s).where(holds(claim))
    if spooled_bytes is not None:
        statement = statement.values(spooled_bytes=spooled_bytes)
    row = connection.execute(statement).one_or_none()
    return None if row is None else _to_renewed(row)


def renew_several(
    connection: Connection, claims: Sequence[Claim], *, lease_s: float, spooled_bytes: Sequence[int]
) -> dict[Holder, Renewed]:
    """`renew` for all that one worker holds, in one statement: a third of the work, for a worker of three slots.

    Left out are those that are not ours, and those whose lease somebody has locked just now: for that one nobody else's
    has to wait.
    """
    values = {
        "ids": [claim.session.id for claim in claims],
        "attempts": [claim.attempt for claim in claims],
        "holders": [claim.holder for claim in claims],
        "spooled": list(spooled_bytes),
        "for_s": lease_s,
    }
    return {Holder(row.holder): _to_renewed(row) for row in connection.execute(_renewing_several(), values)}


@cache
def _renewing_several() -> ReturningUpdate[Any]:
    """Built once: every worker asks it at every heartbeat."""
    of_each = (
        bindparam("ids", type_=ARRAY(Uuid)),
        bindparam("attempts", type_=ARRAY(Integer)),
        bindparam("holders", type_=ARRAY(Uuid)),
        bindparam("spooled", type_=ARRAY(BigInteger)),
    )
    names = column("session_id", Uuid), column("attempt", Integer), column("holder", Uuid)
    spooled = column("spooled_bytes", BigInteger)
    ours = func.unnest(*of_each).table_valued(*names, spooled).render_derived(name="ours")
    same = is_held_by(ours.c.session_id, ours.c.attempt, ours.c.holder)
    free = (
        select(leases.c.session_id, ours.c.spooled_bytes)
        .join_from(ours, leases, same)
        .with_for_update(of=leases, skip_locked=True, key_share=True)
        .cte("free")
    )
    return (
        _renewing(bindparam("for_s", type_=Double))
        .values(spooled_bytes=free.c.spooled_bytes)
        .where(leases.c.session_id == free.c.session_id)
        .returning(leases.c.holder)
    )


def _renewing(lease_s: float | BindParameter[float]) -> ReturningUpdate[Any]:
    ours = sessions.c.id == leases.c.session_id
    wanted = select(sessions.c.wanted).where(ours).correlate(leases).scalar_subquery()
    number = select(sessions.c.last_message).where(ours).correlate(leases).scalar_subquery()
    return (
        update(leases)
        .values(renewals=leases.c.renewals + 1, expires_at=NOW + interval(lease_s))
        .returning(wanted.label("wanted"), number.label("messages"))
    )


def _to_renewed(row: Row[Any]) -> Renewed:
    return Renewed(Wanted(row.wanted) if row.wanted else None, row.messages)


def progress(connection: Connection, claim: Claim) -> Progress | None:
    """What is committed. None: the lease is not ours."""
    columns = (leases.c.last_seq, leases.c.stdout_bytes, leases.c.stderr_bytes)
    row = connection.execute(select(*columns).where(holds(claim))).one_or_none()
    return None if row is None else Progress(*row)


def mark_launching(connection: Connection, claim: Claim) -> bool:
    """From here on a child may exist. False: the lease is not ours, launch nothing."""
    return connection.execute(_marking_launching(), claim_values(claim)).first() is not None


@cache
def _marking_launching() -> ReturningUpdate[Any]:
    return (
        update(attempts)
        .where(
            attempts.c.session_id == HELD_BY.session_id,
            attempts.c.attempt == HELD_BY.attempt,
            # After a wait for this row this is looked at again, the lease is not: who took the one has ended the other.
            attempts.c.ended_at.is_(None),
            select(leases.c.session_id).where(is_held_by(*HELD_BY)).exists(),
        )
        .values(launching_at=NOW)
        .returning(attempts.c.attempt)
    )


def was_settled_by(connection: Connection, claim: Claim) -> bool:
    """Whether this very claim was settled: the answer to a settlement whose outcome stayed unknown."""
    of_attempt = session_history.c.session_id == claim.session.id, session_history.c.attempt == claim.attempt
    was_recovered = select(recoveries.c.id).join(session_history, session_history.c.xid == recoveries.c.xid)
    statement = select(attempts.c.ended_at).where(
        attempts.c.session_id == claim.session.id,
        attempts.c.attempt == claim.attempt,
        attempts.c.holder == claim.holder,
        attempts.c.ended_at.is_not(None),
        ~was_recovered.where(*of_attempt).exists(),
    )
    return connection.execute(statement).first() is not None


def claim_values(claim: Claim) -> dict[str, Any]:
    """For a statement with `HELD_BY`."""
    return {"of_session": claim.session.id, "of_attempt": claim.attempt, "of_holder": claim.holder}


def holds(claim: Claim) -> ColumnElement[bool]:
    """The guard of every write: this attempt, this holder."""
    return is_held_by(claim.session.id, claim.attempt, claim.holder)


def is_held_by(
    session_id: UUID | ColumnElement[UUID], attempt: int | ColumnElement[int], holder: UUID | ColumnElement[UUID]
) -> ColumnElement[bool]:
    """`holds`, for what the statement itself says: `HELD_BY`, or columns."""
    return and_(leases.c.session_id == session_id, leases.c.attempt == attempt, leases.c.holder == holder)
