"""A database as it is after a year: ended sessions by the hundred thousand, some that wait, a few that run."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Final, NamedTuple
from uuid import UUID

import psycopg

from gsd_tasks.domain.session import ClaudeOptions, SessionId

QUEUED: Final = 10_000
RUNNING: Final = 100
QUEUES: Final = 4
#: The tables that grow with the number of sessions.
LARGE: Final = {"sessions", "attempts", "session_history", "session_outputs", "transcript", "turns", "dependencies"}

# The id of the n-th session, as `uuid7` makes them: one every 100 ms.
_ID: Final = "(lpad(to_hex(1700000000000 + n * 100), 12, '0') || '70008000' || lpad(to_hex(n), 12, '0'))::uuid"
_BEFORE: Final = _ID.replace("n *", "(n - 1) *").replace("to_hex(n)", "to_hex(n - 1)")
_LONG_AGO: Final = _ID.replace("n *", "(4 * (n / 40) + 4 + n %% 40 / 20 * 2) *").replace(
    "to_hex(n)", "to_hex(4 * (n / 40) + 4 + n %% 40 / 20 * 2)"
)
_AT: Final = "timestamptz 'epoch' + (1700000000 + n / 10) * interval '1 s'"
_WORKER: Final = "('00000000-0000-4000-8000-' || lpad(to_hex(n / 3), 12, '0'))::uuid"
_NUMBERS: Final = "generate_series(%(first)s::int, %(last)s::int) AS n"

# Every hundredth is in a thread, the one after it is its child. Of those that wait, some wait for their time, some have
# waited too long.
_SESSIONS: Final = f"""
INSERT INTO sessions (id, kind, status, reason, name, thread, parent_id, queue, priority, digest, command, working_dir,
                      env, context, claude, timeout_s, idle_timeout_s, max_output_bytes, on_lost, attempt, last_seq,
                      worker_id, slot, run_at, expires_at, created_at, ended_at, waits)
SELECT {_ID}, 'command', (%(statuses)s::text[])[1 + n %% cardinality(%(statuses)s)], 'enqueued',
       CASE WHEN n %% 100 = 50 THEN 'name ' || n %% 100000 END,
       CASE WHEN n %% 100 = 0 THEN 'thread ' || n %% 100000 END, CASE WHEN n %% 100 = 1 AND n > 1 THEN {_BEFORE} END,
       'queue ' || n %% {QUEUES}, n %% 10, '', '{{true}}', '/', '{{}}', '{{}}', %(claude)s, 60, 60, 1000, 'requeue',
       %(begun)s, %(begun)s, CASE WHEN %(begun)s = 1 THEN {_WORKER} END, CASE WHEN %(begun)s = 1 THEN 1 + n %% 3 END,
       CASE WHEN n %% 20 = 7 THEN timestamptz '2999-01-01' END,
       CASE WHEN n %% 50 = 9 THEN timestamptz '2000-01-01' WHEN n %% 5 = 1 THEN timestamptz '2999-01-01' END,
       {_AT}, CASE WHEN %(ended)s THEN {_AT} END, %(begun)s = 0 AND n %% 10 = 3
  FROM {_NUMBERS}
"""
# Every tenth follows another one: what has begun the one before it, and so does every other one of what waits. Of the
# rest one follows what has completed, the next what has failed.
_DEPENDENCIES: Final = f"""
INSERT INTO dependencies (session_id, before_id, kind)
SELECT {_ID}, CASE WHEN %(begun)s = 1 OR n %% 20 = 13 THEN {_BEFORE} ELSE {_LONG_AGO} END, 'completed'
  FROM {_NUMBERS} WHERE n %% 10 = 3
"""
_ATTEMPTS: Final = f"""
INSERT INTO attempts (session_id, attempt, holder, worker_id, slot, claimed_at, launching_at, first_seq, ended_at,
                      reason)
SELECT {_ID}, 1, {_ID}, {_WORKER}, 1 + n %% 3, {_AT}, {_AT}, 1, CASE WHEN %(ended)s THEN {_AT} END,
       CASE WHEN %(ended)s THEN 'finished' END
  FROM {_NUMBERS}
"""
# Each in a transaction of its own, one of those that were used up before (`_PAST`).
_HISTORY: Final = f"""
INSERT INTO session_history (xid, session_id, from_status, to_status, attempt, worker_id, reason, at)
SELECT (%(first_xid)s::bigint + n)::text::xid8, {_ID}, 'queued', 'running', 1, {_WORKER}, 'claimed', {_AT}
  FROM {_NUMBERS}
"""
_PAST: Final = """
DO $$ BEGIN FOR number IN 1..{} LOOP PERFORM pg_current_xact_id(); COMMIT; END LOOP; END $$
"""
_OUTPUTS: Final = f"""
INSERT INTO session_outputs (session_id, seq, attempt, stream, written_at, data, eol)
SELECT {_ID}, 1, 1, 'stdout', {_AT}, 'line ' || n, true FROM {_NUMBERS}
"""
_TURNS: Final = f"""
INSERT INTO turns (session_id, seq, attempt, model, subtype, is_error, turns, duration_s, input_tokens, output_tokens,
                   cache_read_tokens, cache_write_tokens, cost_usd, models, at)
SELECT {_ID}, 1, 1, 'model ' || n %% 3, 'success', false, 1, 1, 1, 1, 1, 1, 1,
       jsonb_build_object('model ' || n %% 3,
                          '{{"input": 1, "output": 1, "cache_read": 1, "cache_write": 1, "cost_usd": 1}}'::jsonb), {_AT}
  FROM {_NUMBERS}
"""
_TRANSCRIPT: Final = f"""
INSERT INTO transcript (session_id, seq, attempt, position, kind, entry, sha256, at)
SELECT {_ID}, 1, 1, 0, 'user', '{{}}', sha256(''), {_AT} FROM {_NUMBERS}
"""
_LEASES: Final = f"""
INSERT INTO leases (session_id, attempt, holder, worker_id, slot, last_seq, expires_at)
SELECT {_ID}, 1, {_ID}, {_WORKER}, 1 + n %% 3, 1, now() FROM {_NUMBERS}
"""
_WORKERS: Final = f"""
INSERT INTO workers (id, name, host_id, boot_id, pid, version, status, queues, slots, containment)
SELECT DISTINCT {_WORKER}, 'gsd@here', 'h', 'b', 1, '0', 'alive', '{{sessions}}'::text[], 3, 'subreaper' FROM {_NUMBERS}
"""


class Filled(NamedTuple):
    """The numbers of the sessions of each kind."""

    ended: range
    queued: range
    running: range


def numbers(ended: int) -> Filled:
    """So many ended ones first, then those that wait, then those that run."""
    return Filled(
        range(1, ended + 1),
        range(ended + 1, ended + QUEUED + 1),
        range(ended + QUEUED + 1, ended + QUEUED + RUNNING + 1),
    )


def fill(database_url: str, filled: Filled) -> None:
    """Write these sessions; those that have begun with an attempt, a row and a transition.

    The statistics are those of a quiet hour, when nothing waited and nothing ran, and stay so until `analyze`.
    """
    with psycopg.connect(database_url, autocommit=True) as connection:
        for table in LARGE:
            connection.execute(f"ALTER TABLE {table} SET (autovacuum_enabled = off)")
        # Past all triggers: that of the transitions, and those of the foreign keys.
        connection.execute("SET session_replication_role = replica")
        first_xid = _use_up_transactions(connection, filled.running[-1])
        # Whoever looks for the last that failed has to look far back.
        mixed = ["completed", "completed", "failed", "cancelled"]
        _write(connection, filled.ended[: len(filled.ended) // 2], mixed, first_xid)
        _write(connection, filled.ended[len(filled.ended) // 2 :], ["completed"], first_xid)
        connection.execute("VACUUM (ANALYZE)")
        _write(connection, filled.queued, ["queued"], first_xid)
        _write(connection, filled.running, ["running"], first_xid)


def analyze(database_url: str) -> None:
    """Let the statistics say what there is."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("ANALYZE")


def session_id(number: int) -> SessionId:
    """The id of the n-th session."""
    return SessionId(UUID(f"{1700000000000 + number * 100:012x}70008000{number:012x}"))


def moment(number: int) -> datetime:
    """When the n-th session was made, and ended if it has."""
    return datetime.fromtimestamp(1700000000 + number // 10, UTC)


def _use_up_transactions(connection: psycopg.Connection, number: int) -> int:
    """As many as the history will have entries at most; the id of the first."""
    row = connection.execute("SELECT pg_current_xact_id()::text::bigint").fetchone()
    assert row is not None
    connection.execute("SET synchronous_commit = off")
    connection.execute(_PAST.format(number).encode())
    connection.execute("RESET synchronous_commit")
    return int(row[0])


def _write(connection: psycopg.Connection, numbers: range, statuses: list[str], first_xid: int) -> None:
    has_begun, is_running = statuses != ["queued"], statuses == ["running"]
    values = {
        "first": numbers[0],
        "last": numbers[-1],
        "statuses": statuses,
        "first_xid": first_xid,
        "begun": int(has_begun),
        "ended": has_begun and not is_running,
        "claude": json.dumps(asdict(ClaudeOptions())),
    }
    connection.execute(_SESSIONS, values)
    connection.execute(_DEPENDENCIES, values)
    if has_begun:
        for statement in (_ATTEMPTS, _HISTORY, _OUTPUTS):
            connection.execute(statement, values)
    if values["ended"]:
        connection.execute(_TURNS, values)
        connection.execute(_TRANSCRIPT, values)
    if is_running:
        for statement in (_LEASES, _WORKERS):
            connection.execute(statement, values)
