"""What is asked about what has happened since the last time somebody asked, and no further back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple, NewType, Self, cast
from uuid import UUID

from sqlalchemy import ARRAY, BigInteger, Integer, any_, case, func, literal, select, true

from gsd_tasks.domain.costs import Use
from gsd_tasks.domain.session import SessionId
from gsd_tasks.store import words
from gsd_tasks.store.ids import any_id
from gsd_tasks.store.tables import (
    NOW,
    attempts,
    dependencies,
    in_seconds,
    interval,
    leases,
    session_history,
    sessions,
    turns,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable
    from datetime import datetime

    from sqlalchemy import ColumnElement, Connection, Select, Table

#: The history is behind by as long as the longest transaction on the server; nobody waits longer for what it tells.
LATEST_S: Final = 3600.0


class Launch(NamedTuple):
    """How far an attempt is: how long after its claim its child was about to begin (None: not yet), and its end."""

    after_s: float | None
    has_ended: bool


class Turned(NamedTuple):
    """One turn, by its session and the row of its result."""

    session_id: SessionId
    seq: int
    at: datetime
    use: Use


def clock(connection: Connection) -> datetime:
    """The database's."""
    moment: datetime = connection.execute(select(NOW)).scalar_one()
    return moment


def waited(connection: Connection, claims: Collection[int]) -> list[float]:
    """How long each of these claims (entries of the history) was after the session could be claimed, in seconds.

    That is since it was queued, its time came, and the last one that it was to follow ended: the latest of them.
    """
    claimed, queued, before = session_history.alias(), session_history.alias(), sessions.alias()
    came = (
        select(queued.c.at)
        .where(queued.c.session_id == claimed.c.session_id, queued.c.id < claimed.c.id)
        .order_by(queued.c.id.desc())
        .limit(1)
        .lateral()
    )
    let_go = (
        select(func.max(before.c.ended_at))
        .join_from(dependencies, before, before.c.id == dependencies.c.before_id)
        .where(dependencies.c.session_id == claimed.c.session_id, before.c.ended_at <= claimed.c.at)
        .scalar_subquery()
    )
    # It may wait for another time by now.
    due = case((sessions.c.run_at <= claimed.c.at, sessions.c.run_at))
    statement = (
        select(in_seconds(claimed.c.at - func.greatest(came.c.at, due, let_go)))
        .select_from(claimed)
        .join(sessions, sessions.c.id == claimed.c.session_id)
        .join(came, true())
        .where(claimed.c.id == any_(literal(list(claims), ARRAY(BigInteger))))
    )
    return [max(0.0, seconds) for seconds in connection.execute(statement).scalars()]


def launches(connection: Connection, claims: Collection[tuple[SessionId, int]]) -> dict[tuple[SessionId, int], Launch]:
    """How far these attempts are; one that is not there any more is left out."""
    found = connection.execute(
        select(
            attempts.c.session_id,
            attempts.c.attempt,
            in_seconds(attempts.c.launching_at - attempts.c.claimed_at).label("after_s"),
            attempts.c.ended_at.is_not(None).label("has_ended"),
        ).where(*_among(claims))
    )
    rows = {(SessionId(row.session_id), row.attempt): Launch(row.after_s, row.has_ended) for row in found}
    return {claim: rows[claim] for claim in claims if claim in rows}


def turned(connection: Connection, since: datetime, *, limit: int) -> list[Turned]:
    """At most `limit` turns from that moment on, the earliest first."""
    tokens = (turns.c[f"{name}_tokens"] for name in ("input", "output", "cache_read", "cache_write"))
    statement = (
        select(turns.c.session_id, turns.c.seq, turns.c.at, *tokens, turns.c.cost_usd)
        .where(turns.c.at >= since)
        .order_by(turns.c.at)
        .limit(limit)
    )
    return [
        Turned(SessionId(session_id), seq, at, Use(*used))
        for session_id, seq, at, *used in connection.execute(statement)
    ]


class Written(NamedTuple):
    """Bytes of an attempt that are committed, of each stream."""

    stdout: int
    stderr: int

    @classmethod
    def parse(cls, counted: Counted) -> Self:
        """From the word for it."""
        stdout, stderr = counted.split()
        return cls(int(stdout), int(stderr))


#: An attempt's name: a word, as thousands of them are read together.
Named = NewType("Named", str)
#: A `Written`, for the same reason: of thousands, those are taken apart that are others than before.
Counted = NewType("Counted", str)
NONE_YET: Final = Counted("0 0")


def name(session_id: SessionId, attempt: int) -> Named:
    """Of this attempt."""
    return Named(words.of(session_id, attempt))


def written(connection: Connection) -> dict[Named, Counted]:
    """Of each attempt that runs, so far."""
    return _read_written(connection, _written_of(leases))


def written_at_end(connection: Connection, ended: Collection[Named]) -> dict[Named, Counted]:
    """Of these attempts in all; one that is not there any more, or was ended by an older version, is left out."""
    known = attempts.c.stdout_bytes.is_not(None), attempts.c.stderr_bytes.is_not(None)
    found = _read_written(connection, _written_of(attempts).where(*_among(map(_parse, ended)), *known))
    return {named: found[named] for named in ended if named in found}


def _written_of(table: Table) -> Select[Any]:
    named = words.word(table.c.session_id, table.c.attempt)
    return words.listing(words.pair(named, words.word(table.c.stdout_bytes, table.c.stderr_bytes)))


def _read_written(connection: Connection, which: Select[Any]) -> dict[Named, Counted]:
    return cast("dict[Named, Counted]", words.read_pairs(connection, which))


def unended(connection: Connection, those: Collection[Named]) -> set[Named]:
    """Which of these attempts may have an end that the history has not told yet."""
    late = func.coalesce(attempts.c.ended_at, NOW) > NOW - interval(LATEST_S)
    among = _among(map(_parse, those))
    found = connection.execute(select(attempts.c.session_id, attempts.c.attempt).where(*among, late))
    return {name(row.session_id, row.attempt) for row in found}.intersection(those)


def _parse(named: Named) -> tuple[SessionId, int]:
    session_id, attempt = named.split()
    return SessionId(UUID(session_id)), int(attempt)


def _among(those: Iterable[tuple[SessionId, int]]) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    """By index; and some more, which the caller passes over."""
    listed = list(those)
    return (
        attempts.c.session_id == any_id(session_id for session_id, _ in listed),
        attempts.c.attempt == any_(literal([attempt for _, attempt in listed], ARRAY(Integer))),
    )
