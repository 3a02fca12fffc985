"""F1, F9: lines of children that are committed rows in Postgres, and what that costs in CPU.

Three children at once each write lines of 200 bytes as fast as they can: from the moment in which they may begin to the
one in which Postgres has the last row. The yardsticks put the same rows, in batches of a thousand, over three
connections of three processes, into a table that is made like ours.
"""

from __future__ import annotations

import multiprocessing
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any, Final, NamedTuple
from uuid import UUID, uuid4

import psutil
import psycopg

from benchmarks.gate import held
from benchmarks.measuring import Contestant, Figure, Reading, Role, ratio_at_least, ratio_at_most
from benchmarks.rig import SLOTS, Rig, cpu_s
from tests.waiting import until

LENGTH: Final = 200
BATCH: Final = 1000
RATE: Final = "lines/s"
CPU: Final = "CPU s per million lines"
FIGURES: Final = (
    Figure("F1", "lines of three children to rows", RATE, "/s", ratio_at_least(0.6)),
    Figure("F9", "CPU for a million lines, with Postgres", CPU, "s", ratio_at_most(3), more_is_better=False),
)
#: Says that it is there, waits until the first file is let go of, writes, and stays until the second one is. Its lines
#: are such as the claude CLI writes, because there are peers who take no others.
CHILD: Final = """
import fcntl, sys
begin, stay, count, length = open(sys.argv[1]), open(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
line = '{"type":"assistant","message":{"content":[{"type":"text","text":"%s"}]}}'
line = line.replace("%s", "%-" + str(length + 1 - len(line)) + "s")
print(line % "ready", flush=True)
fcntl.flock(begin, fcntl.LOCK_SH)
for number in range(1, count):
    print(line % number)
sys.stdout.flush()
fcntl.flock(stay, fcntl.LOCK_SH)
"""


def command(begin: Path, stay: Path, lines: int) -> list[str]:
    """What a child is, that writes so many lines."""
    return [sys.executable, "-c", CHILD, str(begin), str(stay), str(lines), str(LENGTH)]


def contestants(rig: Rig, lines: int) -> Sequence[Contestant]:
    """Ours and the two yardsticks, each with so many lines of every child."""
    return Ours(rig, lines), Bare("COPY", copy, rig, lines), Bare("guarded unnest", unnest, rig, lines)


class Ours:
    """Three sessions of one worker."""

    name = "gsd-tasks"
    role = Role.OURS

    def __init__(self, rig: Rig, lines: int) -> None:
        self._rig = rig
        self._lines = lines

    def run(self) -> Reading:
        with (
            ExitStack() as ending,
            psycopg.connect(self._rig.servers.database_url, autocommit=True) as looking,
        ):
            stay = ending.enter_context(held(self._rig.folder / "stay"))
            with held(self._rig.folder / "begin") as begin:
                ids = [self._enqueue(command(begin, stay, self._lines)) for _ in range(SLOTS)]
                until(lambda: _committed(looking, ids) == SLOTS, timeout_s=60, what="three children")
                before_s = self._cpu_s()
            began = time.perf_counter()
            until(lambda: _committed(looking, ids) == SLOTS * self._lines, timeout_s=600, what="all rows")
            took_s = time.perf_counter() - began
            spent_s = self._cpu_s() - before_s
        for id_ in ids:
            assert self._rig.client.wait(id_, timeout_s=60).seq == self._lines
        _vacuum(self._rig, "session_outputs", ids)
        return _reading(self._lines, took_s, spent_s)

    def _enqueue(self, command: Sequence[str]) -> UUID:
        return self._rig.client.enqueue(command=command, working_dir=self._rig.folder).id

    def _cpu_s(self) -> float:
        """Of worker, shims and Postgres; what the children use is their own."""
        below = self._rig.worker.children(recursive=True)
        theirs = sum(cpu_s(process) for process in below if CHILD in process.cmdline())
        return cpu_s(self._rig.worker) + cpu_s(self._rig.postgres) - theirs


class Rows(NamedTuple):
    """A batch, column by column, as psycopg takes it."""

    seqs: list[int]
    streams: list[str]
    moments: list[datetime]
    data: list[str]
    eols: list[bool]


Writer = Callable[[psycopg.Connection[Any], UUID, Rows], None]


class Bare:
    """Three processes that have the rows, and put them into Postgres."""

    role = Role.YARDSTICK

    def __init__(self, name: str, write: Writer, rig: Rig, lines: int) -> None:
        self.name = name
        self._write = write
        self._rig = rig
        self._lines = lines

    def run(self) -> Reading:
        url = self._rig.servers.database_url
        ids = [uuid4() for _ in range(SLOTS)]
        with psycopg.connect(url, autocommit=True) as connection:
            _prepare(connection, ids)
        context = multiprocessing.get_context("spawn")
        ready, done = context.Barrier(SLOTS + 1), context.Barrier(SLOTS + 1)
        writers = [
            context.Process(target=_write_all, args=(url, id_, self._write, self._lines, ready, done)) for id_ in ids
        ]
        for writer in writers:
            writer.start()
        ready.wait()
        watched = [self._rig.postgres, *(psutil.Process(writer.pid) for writer in writers)]
        before_s = sum(map(cpu_s, watched))
        began = time.perf_counter()
        done.wait()
        took_s = time.perf_counter() - began
        spent_s = sum(map(cpu_s, watched)) - before_s
        done.wait()  # they were asked while they lived
        for writer in writers:
            writer.join()
        _vacuum(self._rig, "yardstick_outputs", ids)
        return _reading(self._lines, took_s, spent_s)


def copy(connection: psycopg.Connection[Any], session_id: UUID, rows: Rows) -> None:
    """The fastest way in that there is, without any guard."""
    statement = """
        COPY yardstick_outputs (session_id, seq, attempt, stream, written_at, data, raw, eol)
        FROM STDIN (FORMAT binary)"""
    with connection.cursor().copy(statement) as into:
        into.set_types(["uuid", "int8", "int4", "text", "timestamptz", "text", "bytea", "bool"])
        for seq, stream, moment, text, eol in zip(*rows, strict=True):
            into.write_row((session_id, seq, 1, stream, moment, text, None, eol))


def unnest(connection: psycopg.Connection[Any], session_id: UUID, rows: Rows) -> None:
    """One statement that also counts the rows where its guard can see it, in binary."""
    connection.execute(
        """
        WITH held AS (
            UPDATE yardstick_leases SET last_seq = last_seq + cardinality(%(streams)b::text[])
             WHERE session_id = %(id)b AND last_seq = %(before)b RETURNING session_id
        ) INSERT INTO yardstick_outputs (session_id, seq, attempt, stream, written_at, data, raw, eol)
        SELECT held.session_id, %(before)b + n, 1, stream, written_at, data, NULL, eol
          FROM held, unnest(%(streams)b::text[], %(moments)b::timestamptz[], %(data)b::text[], %(eols)b::bool[])
               WITH ORDINALITY AS row (stream, written_at, data, eol, n)""",
        {
            "id": session_id,
            "before": rows.seqs[0] - 1,
            "streams": rows.streams,
            "moments": rows.moments,
            "data": rows.data,
            "eols": rows.eols,
        },
    )


def _write_all(url: str, session_id: UUID, write: Writer, lines: int, ready: Barrier, done: Barrier) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        data = ["x" * (LENGTH - 1)] * BATCH
        streams, eols = ["stdout"] * BATCH, [True] * BATCH
        ready.wait()
        for start in range(1, lines + 1, BATCH):
            count = min(BATCH, lines + 1 - start)
            moments = [datetime.now(UTC)] * count
            rows = Rows(list(range(start, start + count)), streams[:count], moments, data[:count], eols[:count])
            write(connection, session_id, rows)
        done.wait()
        done.wait()


def _prepare(connection: psycopg.Connection[Any], ids: list[UUID]) -> None:
    """Tables made like ours, and one lease for each."""
    for of in ("outputs", "leases"):
        like = {"outputs": "session_outputs", "leases": "leases"}[of]
        connection.execute(f"CREATE TABLE IF NOT EXISTS yardstick_{of} (LIKE {like} INCLUDING ALL)")
    connection.execute("TRUNCATE yardstick_leases")
    for slot, id_ in enumerate(ids, 1):
        connection.execute(
            "INSERT INTO yardstick_leases (session_id, attempt, holder, worker_id, slot, last_seq, expires_at)"
            " VALUES (%s, 1, %s, %s, %s, 0, now())",
            (id_, uuid4(), ids[0], slot),
        )


def _committed(connection: psycopg.Connection[Any], ids: Sequence[UUID]) -> int:
    found = connection.execute("SELECT sum(last_seq) FROM leases WHERE session_id = ANY(%s)", (list(ids),)).fetchone()
    return int(found[0] or 0) if found else 0


def _vacuum(rig: Rig, table: str, ids: list[UUID]) -> None:
    """Nobody pays for what another one has left: the rows go, and what was to be written of them is on disk."""
    with psycopg.connect(rig.servers.database_url, autocommit=True) as connection:
        found = connection.execute(f"SELECT count(*) FROM {table} WHERE session_id = ANY(%s)", (ids,)).fetchone()
        assert found is not None
        assert found[0] > 0
        connection.execute(f"TRUNCATE {table}")
        connection.execute("CHECKPOINT")


def _reading(lines: int, took_s: float, spent_s: float) -> Reading:
    written = lines * SLOTS
    return {RATE: written / took_s, CPU: spent_s / written * 1e6}
