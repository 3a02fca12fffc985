"""A database as it is after a quarter of a year of work, written by Postgres itself: for `large_database.py`.

Sessions in the order of their time, each with its attempts, its history (a transaction id of its own for each entry),
its output; a quarter of them Claude sessions, with transcript, turns and snapshots. How many rows of output a session
has is skewed as it is in life: most have a few, one in twenty a hundred or more, one in a thousand 2,000, some 100,000.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Final

import psycopg

from gsd_tasks.domain.session import SLOTS, ClaudeOptions
from gsd_tasks.store import migrate

LONG_ROWS: Final = 100_000
DAYS: Final = 90
QUEUES: Final = ("sessions", "batch", "gpu", "rare")
#: So many different lines of each kind, told from each other by `k`.
KINDS_OF_LINE: Final = 1000
_WORKER: Final = "('00000000-0000-4000-8000-' || lpad(to_hex({}), 12, '0'))::uuid"

# What everything else is made from: a row a session. `h` stands for chance.
_PLAN: Final = """
CREATE UNLOGGED TABLE plan AS
WITH numbered AS (
    SELECT n, abs(hashint4(n)) AS h,
           now() - interval '1 day' * %(days)s * (1 - n::float8 / (%(ended)s + %(queued)s + %(running)s)) AS at,
           CASE WHEN n <= %(ended)s THEN 'ended' WHEN n <= %(ended)s + %(queued)s THEN 'queued' ELSE 'running' END
               AS part
      FROM generate_series(1, %(ended)s + %(queued)s + %(running)s) AS n
)
SELECT n, h, at, part,
       (lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || '7' || lpad(to_hex(h %% 4096), 3, '0')
        || '8000' || lpad(to_hex(n), 12, '0'))::uuid AS id,
       CASE WHEN h %% 4 = 0 THEN 'claude' ELSE 'command' END AS kind,
       CASE WHEN part <> 'ended' THEN part
            WHEN h %% 100 < 85 THEN 'completed' WHEN h %% 100 < 95 THEN 'failed' ELSE 'cancelled' END AS status,
       CASE WHEN n %% 10000 = 99 THEN 'rare'
            WHEN h %% 10 < 6 THEN 'sessions' WHEN h %% 10 < 9 THEN 'batch' ELSE 'gpu' END AS queue,
       CASE WHEN part = 'queued' THEN (h %% 20 = 1)::int WHEN h %% 10 = 1 THEN 2 ELSE 1 END AS attempts,
       CASE WHEN part = 'queued' THEN 0 WHEN part = 'running' THEN 50
            WHEN n %% (%(ended)s / %(long)s) = %(ended)s / %(long)s / 2 THEN %(long_rows)s
            WHEN n %% 1000 = 5 THEN 2000 WHEN n %% 20 = 3 THEN 100 + h %% 41 WHEN n %% 4 = 1 THEN 15 + h %% 11
            ELSE 1 + h %% 13 END AS rows,
       part = 'queued' AND n %% 12 = 5 AS waits
  FROM numbered
"""
_INDEX: Final = "CREATE UNIQUE INDEX ON plan (n)"
# What programs print: lines of 20 to 160 bytes, JSON of 100 to 700, and a tool's result of 20 kB now and then.
_LINES: Final = """
CREATE UNLOGGED TABLE line AS
SELECT k, left(said, 20 + k * 7919 % 140) AS of_command, left(said, 400) AS of_person,
       CASE WHEN k % 1000 = 11 THEN left(repeat(said, 30), 20000)
            ELSE '{{"type":"assistant","message":{{"content":[{{"type":"text","text":"'
                 || left(said, 40 + k * 7919 % 600) || '"}}]}}}}' END AS of_claude
  FROM generate_series(0, {} - 1) AS k, LATERAL (
      SELECT string_agg(format('%s src/module_%s.py: line %s, %s s;',
                               (ARRAY['compiling', 'warning in', 'ok'])[1 + i % 3], k * 37 % 911, i * 53 % 977,
                               (k + i) % 89), ' ') AS said FROM generate_series(1, 20) AS i
  ) AS says
"""
_SESSIONS: Final = f"""
INSERT INTO sessions (id, kind, status, reason, name, thread, parent_id, queue, priority, key, digest, prompt, command,
                      working_dir, env, context, claude, timeout_s, idle_timeout_s, max_output_bytes, on_lost, attempt,
                      last_seq, worker_id, slot, exit_code, result, created_at, run_at, expires_at, started_at,
                      ended_at, waits)
SELECT id, kind, status,
       CASE status WHEN 'completed' THEN 'finished' WHEN 'cancelled' THEN 'cancelled' WHEN 'running' THEN 'claimed'
            WHEN 'failed' THEN CASE kind WHEN 'claude' THEN 'claude_error' ELSE 'exit_code' END
            ELSE CASE attempts WHEN 0 THEN 'enqueued' ELSE 'exit_code' END END,
       CASE WHEN h %% 5 = 2 THEN 'nightly build ' || h %% 3000 END,
       CASE WHEN h %% 3 = 0 THEN 'thread ' || h %% 20000 END,
       CASE WHEN h %% 20 = 4 THEN (SELECT before.id FROM plan AS before WHERE before.n = plan.n - 1) END,
       queue, CASE WHEN h %% 5 = 0 THEN h %% 10 ELSE 5 END, CASE WHEN h %% 10 = 3 THEN 'order ' || n END,
       sha256(id::text::bytea),
       CASE kind WHEN 'claude' THEN of_person END,
       CASE kind WHEN 'command' THEN ARRAY['make', '-C', 'project', 'test', 'SHARD=' || n %% 64] END,
       '/srv/work/project-' || h %% 50, '{{"CI": "true", "STAGE": "nightly"}}',
       jsonb_build_object('ticket', 'T-' || n, 'requested_by', 'user ' || h %% 40), %(claude)s, 7200, 1800, 2147483648,
       CASE kind WHEN 'claude' THEN 'requeue' ELSE 'fail' END, attempts, rows,
       CASE part WHEN 'running' THEN {_WORKER.format("(n - %(ended)s - %(queued)s - 1) / 3")}
                 WHEN 'ended' THEN {_WORKER.format("1000000 + n::bigint * %(past)s / %(ended)s")} END,
       CASE WHEN part <> 'queued' THEN 1 + n %% 3 END,
       CASE status WHEN 'completed' THEN 0 WHEN 'failed' THEN 1 END,
       CASE WHEN kind = 'claude' AND status = 'completed'
            THEN jsonb_build_object('text', of_person, 'num_turns', 3) END,
       at, CASE WHEN part = 'queued' AND h %% 100 < 3 THEN at + interval '100 days' WHEN h %% 50 = 9 THEN at END,
       CASE WHEN part = 'queued' AND h %% 20 = 6 THEN at + interval '200 days' END,
       CASE WHEN attempts > 0 THEN at + interval '2 s' END,
       CASE part WHEN 'ended' THEN at + interval '30 s' + interval '1 s' * (h %% 600) END, waits
  FROM plan JOIN line ON k = h %% %(lines)s ORDER BY n
"""
_ATTEMPTS: Final = f"""
INSERT INTO attempts (session_id, attempt, holder, worker_id, slot, claimed_at, launching_at, first_seq, last_seq,
                      ended_at, reason, exit_code)
SELECT id, attempt, id, CASE part WHEN 'running' THEN {_WORKER.format("(n - %(ended)s - %(queued)s - 1) / 3")}
                                  ELSE {_WORKER.format("1000000 + n::bigint * %(past)s / %(ended)s")} END,
       1 + n %% 3, at + interval '2 s', at + interval '2 s', CASE attempt WHEN 1 THEN 1 ELSE rows / 2 + 1 END,
       CASE WHEN is_over THEN CASE WHEN attempt < attempts THEN rows / 2 ELSE rows END END,
       CASE WHEN is_over THEN at + interval '20 s' END,
       CASE WHEN is_over THEN CASE WHEN attempt < attempts OR part = 'queued' THEN 'exit_code' ELSE 'finished' END END,
       CASE WHEN is_over THEN (attempt < attempts)::int END
  FROM plan, generate_series(1, attempts) AS attempt,
       LATERAL (SELECT part <> 'running' OR attempt < attempts AS is_over) AS o
 ORDER BY n
"""
_HISTORY: Final = f"""
INSERT INTO session_history (xid, session_id, from_status, to_status, attempt, worker_id, reason, at)
SELECT (%(first_xid)s::bigint + row_number() OVER (ORDER BY n, step))::text::xid8, id, from_status, to_status, attempt,
       CASE WHEN step > 0 THEN {_WORKER.format("1000000 + n::bigint * %(past)s / %(ended)s")} END, reason,
       at + interval '2 s' * step
  FROM plan, LATERAL (
      SELECT 0 AS step, NULL AS from_status, 'queued' AS to_status, 0 AS attempt, 'enqueued' AS reason
      UNION ALL SELECT 2 * a - 1, 'queued', 'running', a, 'claimed' FROM generate_series(1, attempts) AS a
      UNION ALL SELECT 2 * a, 'running', 'queued', a, 'exit_code' FROM generate_series(1, attempts) AS a
                 WHERE a < attempts OR part = 'queued'
      UNION ALL SELECT 2 * attempts, 'running', status, attempts,
                       CASE status WHEN 'completed' THEN 'finished' WHEN 'failed' THEN 'exit_code' ELSE status END
                 WHERE part = 'ended'
  ) AS steps
"""
_OUTPUTS: Final = """
INSERT INTO session_outputs (session_id, seq, attempt, stream, written_at, data, eol)
SELECT id, seq, CASE WHEN attempts = 2 AND seq > rows / 2 THEN 2 ELSE 1 END,
       CASE WHEN seq %% 10 = 7 THEN 'stderr' ELSE 'stdout' END, at + interval '2 s' + interval '10 ms' * seq,
       CASE kind WHEN 'claude' THEN of_claude ELSE of_command END, true
  FROM plan, generate_series(1, rows::bigint) AS seq, line WHERE k = (h + seq * 37) %% %(lines)s
"""
_TRANSCRIPT: Final = """
INSERT INTO transcript (session_id, seq, attempt, position, kind, uuid, entry, sha256, at)
SELECT id, seq, 1, seq * 600, CASE WHEN seq = 1 THEN 'user' ELSE 'assistant' END, gen_random_uuid()::text, of_claude,
       sha256(of_claude::bytea), at
  FROM plan, generate_series(1, 6) AS seq, line
 WHERE kind = 'claude' AND part <> 'queued' AND k = (h + seq * 37) %% %(lines)s
"""
_TURNS: Final = """
INSERT INTO turns (session_id, seq, attempt, model, subtype, is_error, turns, duration_s, input_tokens, output_tokens,
                   cache_read_tokens, cache_write_tokens, cost_usd, models, at)
SELECT id, seq, 1, 'model ' || h %% 3, 'success', false, 3, 40, 12, 900, 41000, 5200, 0.04,
       jsonb_build_object('model ' || h %% 3, jsonb_build_object('input', 12, 'output', 900, 'cache_read', 41000,
                                                               'cache_write', 5200, 'cost_usd', 0.04)), at
  FROM plan, generate_series(1, least(rows, 1 + h %% 2)) AS seq WHERE kind = 'claude' AND part = 'ended' ORDER BY n
"""
_SNAPSHOTS: Final = """
INSERT INTO snapshots (id, session_id, reason, format, attempt, last_seq, last_entry, entries, context, sha256,
                       size_bytes, at)
SELECT (left(id::text, 18) || '-8' || lpad(to_hex(entry), 3, '0') || right(id::text, 13))::uuid, id, 'turn', 1, 1, rows,
       entry, int8multirange(int8range(1, entry + 1)), '{}', sha256(''), 2400, at
  FROM plan, generate_series(2, 6, 2) AS entry WHERE kind = 'claude' AND part <> 'queued' AND h %% 8 = 0 ORDER BY n
"""
_DEPENDENCIES: Final = """
INSERT INTO dependencies (session_id, before_id, kind)
SELECT plan.id, before.id, CASE WHEN plan.h %% 3 = 0 THEN 'ended' ELSE 'completed' END
  FROM plan JOIN plan AS before ON before.n = CASE
       WHEN plan.waits AND plan.n %% 2 = 1 THEN %(ended)s + %(queued)s + 1 + plan.h %% %(running)s
       WHEN plan.waits THEN plan.n - 1 ELSE plan.n - 1 - plan.h %% 50 END
 WHERE plan.waits OR (plan.part = 'ended' AND plan.h %% 20 = 7 AND before.status = 'completed')
"""
_LEASES: Final = f"""
INSERT INTO leases (session_id, attempt, holder, worker_id, slot, last_seq, stdout_bytes, stderr_bytes, expires_at)
SELECT id, attempts, id, {_WORKER.format("(n - %(ended)s - %(queued)s - 1) / 3")}, 1 + n %% 3, rows, rows * 90, 0,
       now() + interval '1 day'
  FROM plan WHERE part = 'running'
"""
_WORKERS: Final = f"""
INSERT INTO workers (id, name, host_id, boot_id, pid, version, status, queues, slots, containment, started_at, seen_at)
SELECT {_WORKER.format("n")}, 'gsd@host-' || n %% 1000000, 'host ' || n %% 1000, 'boot', 1, '0', status, %(queues)s, 3,
       'subreaper', began, CASE status WHEN 'alive' THEN now() + interval '1 day' ELSE began + interval '2 days' END
  FROM (SELECT n, 'alive' AS status, now() - interval '1 hour' AS began
          FROM generate_series(0, (%(running)s - 1) / 3) AS n
        UNION ALL
        SELECT 1000000 + n, CASE WHEN n %% 5 = 0 THEN 'gone' ELSE 'stopped' END,
               now() - interval '1 day' * %(days)s * (1 - n::float8 / %(past)s)
          FROM generate_series(0, %(past)s) AS n) AS lives
"""
_RECOVERIES: Final = """
INSERT INTO recoveries (id, xid, requeued, failed, cancelled, paused, at, told_at)
SELECT nextval('session_history_id_seq'), (%(first_xid)s::bigint + n)::text::xid8, ARRAY[id], '{}', '{}', '{}', at, at
  FROM plan WHERE n %% 2000 = 7 AND part = 'ended'
"""
#: The ids of the n-th transaction are to be those of long ago: as many are used up as the history has entries.
_PAST: Final = """
DO $$ BEGIN FOR number IN 1..{} LOOP PERFORM pg_current_xact_id(); COMMIT; END LOOP; END $$
"""
_STATEMENTS: Final = {
    "sessions": _SESSIONS,
    "attempts": _ATTEMPTS,
    "session_history": _HISTORY,
    "session_outputs": _OUTPUTS,
    "transcript": _TRANSCRIPT,
    "turns": _TURNS,
    "snapshots": _SNAPSHOTS,
    "dependencies": _DEPENDENCIES,
    "leases": _LEASES,
    "workers": _WORKERS,
    "recoveries": _RECOVERIES,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """How many sessions of each kind; `long` of the ended ones have 100,000 rows. `past`: lives of former workers."""

    ended: int
    queued: int
    running: int
    long: int
    past: int

    @property
    def workers(self) -> int:
        """Those that live: the running sessions fill their slots."""
        return -(-self.running // SLOTS)


def fill(url: str, shape: Shape) -> Iterator[str]:
    """Write all of it into a database that is migrated and empty; says how long each table took."""
    with psycopg.connect(url, autocommit=True) as connection:
        # Past all triggers: that of the transitions, and those of the foreign keys.
        connection.execute("SET session_replication_role = replica")
        connection.execute("SET synchronous_commit = off")
        connection.execute("SET work_mem = '256MB'")
        values = asdict(shape) | {
            "days": DAYS,
            "long_rows": LONG_ROWS,
            "lines": KINDS_OF_LINE,
            "claude": json.dumps(asdict(ClaudeOptions())),
            "queues": list(QUEUES[:3]),
        }
        execute(connection, _PLAN, values)
        connection.execute(_INDEX)
        connection.execute(_LINES.format(KINDS_OF_LINE).encode())
        connection.execute("ANALYZE plan, line")
        values["first_xid"] = _use_up_transactions(connection)
        for table, statement in _STATEMENTS.items():
            began = time.perf_counter()
            # Emptied in the same transaction, it is written past the log.
            with connection.transaction():
                connection.execute(f"TRUNCATE {table} CASCADE" if table == "sessions" else f"TRUNCATE {table}")
                rows = execute(connection, statement, values)
            yield f"{table} {rows:,} rows in {time.perf_counter() - began:.0f} s"
        connection.execute("DROP TABLE plan, line")
        began = time.perf_counter()
        connection.execute("VACUUM (ANALYZE)")
        connection.execute("CHECKPOINT")
        yield f"VACUUM (ANALYZE) in {time.perf_counter() - began:.0f} s"


def execute(connection: psycopg.Connection, statement: str, values: dict[str, Any]) -> int:
    """Carry out one of these statements; how many rows it wrote."""
    # The server would have to guess the types of values that it is sent apart.
    with psycopg.ClientCursor(connection) as cursor:
        return cursor.execute(statement.encode(), values).rowcount


def _use_up_transactions(connection: psycopg.Connection) -> int:
    """Have as many transactions as the history will have entries; the id of the first one."""
    row = connection.execute(
        "SELECT pg_current_xact_id()::text::bigint,"
        " (SELECT sum(1 + 2 * attempts - (part = 'running')::int) FROM plan)::bigint"
    ).fetchone()
    assert row is not None
    connection.execute(_PAST.format(row[1]).encode())
    return int(row[0])


def make_database(server_url: str, name: str, shape: Shape) -> str:
    """The address of a database of this shape: filled now, or the one that was left there by a former run."""
    url = server_url.rsplit("/", 1)[0] + f"/{name}"
    with psycopg.connect(server_url, autocommit=True) as connection:
        found = connection.execute(
            "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = %s", [name]
        ).fetchone()
        if found is None or found[0] != str(shape):
            connection.execute(f"DROP DATABASE IF EXISTS {name}")
            connection.execute(f"CREATE DATABASE {name}")
            migrate(url)
            began = time.perf_counter()
            for said in fill(url, shape):
                print(f"  {name}: {said}", flush=True)
            connection.execute(f"COMMENT ON DATABASE {name} IS '{shape}'")
            print(f"  {name}: in all {time.perf_counter() - began:.0f} s", flush=True)
    migrate(url)
    return url
