"""What is left of a run, as plain values: what the database says, what the children say, and what was done to them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import psycopg

from tests.chaos.records import Life


class Row(NamedTuple):
    """An output row; `body` has the newline if there was one."""

    session: str
    seq: int
    attempt: int
    stream: str
    body: bytes


class SessionFacts(NamedTuple):
    id: str
    status: str
    reason: str
    attempt: int
    last_seq: int
    on_lost: str
    detail: str | None = None


class AttemptFacts(NamedTuple):
    """`ended_boot_ns` is on the children's clock; None while it runs."""

    session: str
    attempt: int
    first_seq: int
    last_seq: int | None
    reason: str | None
    ended_boot_ns: int | None
    detail: str | None = None


class Transition(NamedTuple):
    session: str
    from_status: str | None
    to_status: str
    attempt: int
    reason: str
    at_boot_ns: int
    detail: str | None = None


class Grant(NamedTuple):
    """A lease between two renewals, as it was watched: in force from `from_ns`, and still the same at `seen_ns`."""

    session: str
    attempt: int
    holder: str
    renewals: int
    until_ns: int
    seen_ns: int


class Taken(NamedTuple):
    """A claim, by the worker with this pid."""

    pid: int
    at_ns: int


@dataclass(slots=True)
class Evidence:
    """All that the checkers are given.

    `struck` are the (session, attempt) whose processes were killed on purpose, `killed_ns` when workers were.
    """

    sessions: list[SessionFacts]
    attempts: list[AttemptFacts]
    history: list[Transition]
    rows: Iterable[Row]
    lives: list[Life]
    grants: list[Grant] = field(default_factory=list)
    struck: set[tuple[str, int]] = field(default_factory=set)
    killed_ns: list[int] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    locks: list[str] = field(default_factory=list)


def read_sessions(connection: psycopg.Connection) -> list[SessionFacts]:
    query = "SELECT id::text, status, reason, attempt, last_seq, on_lost, detail FROM sessions ORDER BY id"
    return [SessionFacts(*row) for row in connection.execute(query)]


def read_attempts(connection: psycopg.Connection, boot_minus_wall_ns: int) -> list[AttemptFacts]:
    query = """SELECT session_id::text, attempt, first_seq, last_seq, reason,
                      (extract(epoch FROM ended_at) * 1000000)::bigint, detail
                 FROM attempts ORDER BY session_id, attempt"""
    found = [AttemptFacts(*row) for row in connection.execute(query)]
    return [
        one._replace(ended_boot_ns=one.ended_boot_ns and one.ended_boot_ns * 1000 + boot_minus_wall_ns) for one in found
    ]


def read_history(connection: psycopg.Connection, boot_minus_wall_ns: int) -> list[Transition]:
    query = """SELECT session_id::text, from_status, to_status, attempt, reason,
                      (extract(epoch FROM at) * 1000000)::bigint, detail
                 FROM session_history ORDER BY session_id, id"""
    found = [Transition(*row) for row in connection.execute(query)]
    return [one._replace(at_boot_ns=one.at_boot_ns * 1000 + boot_minus_wall_ns) for one in found]


def read_taken(connection: psycopg.Connection, boot_minus_wall_ns: int) -> list[Taken]:
    query = """SELECT pid, (extract(epoch FROM at) * 1000000)::bigint
                 FROM session_history JOIN workers ON workers.id = worker_id WHERE reason = 'claimed'"""
    return [Taken(pid, at_us * 1000 + boot_minus_wall_ns) for pid, at_us in connection.execute(query)]


def read_rows(connection: psycopg.Connection) -> Iterator[Row]:
    """All of them, by session and seq, without holding them all."""
    query = """SELECT session_id::text, seq, attempt, stream, coalesce(raw, convert_to(data, 'UTF8')), eol
                 FROM session_outputs ORDER BY session_id, seq"""
    with connection.transaction(), connection.cursor("rows") as cursor:
        cursor.itersize = 2000
        for session, seq, attempt, stream, body, eol in cursor.execute(query):
            yield Row(session, seq, attempt, stream, bytes(body) + (b"\n" if eol else b""))
