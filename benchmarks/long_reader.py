"""What a transaction that stays open does to the leases: heap-only updates, sizes, times.

    python benchmarks/long_reader.py --updates 20000 --fillfactor 10,50

A hundred running sessions are renewed and appended to, as fast as it goes, once by themselves and once while another
connection keeps a snapshot open (`REPEATABLE READ`, like pg_dump or a forgotten psql). Everything is what a worker
sends; of all updates of a lease one in 33 is a renewal, as with a renewal each 5 s and six and a half appends a second.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple
from uuid import uuid4

import psycopg
import uuid_utils.compat as uuid_utils

from gsd_tasks.domain.session import SLOTS, Holder, SessionId, Stream, Submission, WorkerId
from gsd_tasks.domain.submission import digest
from gsd_tasks.local.embedded import embedded_servers
from gsd_tasks.store import Claim, Database, leases, migrate, outputs, transitions
from gsd_tasks.store.leases import Progress

REQUEST: Final = Submission(command=("true",), working_dir="/")
RENEWED_EVERY: Final = 33
THREADS: Final = 4
SIZES: Final = """
SELECT n_tup_upd, n_tup_hot_upd, pg_relation_size('leases'), pg_indexes_size('leases')
  FROM pg_stat_user_tables WHERE relname = 'leases'
"""


class Sizes(NamedTuple):
    updates: int
    heap_only: int
    table: int
    indexes: int


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--leases", type=int, default=100)
    parser.add_argument("--updates", type=int, default=20_000)
    parser.add_argument("--fillfactor", default="", help="of the leases; several by commas; else that of the schema")
    asked = parser.parse_args()
    print(
        "reader  fillfactor  updates  heap-only  table KiB  indexes KiB  update ms: first, last tenth  after vacuum KiB"
    )
    with tempfile.TemporaryDirectory(prefix="gsd-bench-") as folder, embedded_servers(Path(folder)) as servers:
        factors = asked.fillfactor.split(",")
        for number, (factor, has_reader) in enumerate(itertools.product(factors, (False, True))):
            url = _fresh(servers.database_url, f"bench_{number}", factor)
            print(_measure(url, asked.leases, asked.updates, factor or "-", has_reader=has_reader), flush=True)


def _fresh(server_url: str, name: str, factor: str) -> str:
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    url = server_url.rsplit("/", 1)[0] + f"/{name}"
    migrate(url)
    if factor:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(f"ALTER TABLE leases SET (fillfactor = {int(factor)})")
    return url


def _measure(url: str, number: int, updates: int, factor: str, *, has_reader: bool) -> str:
    database = Database(url, connections=THREADS)
    claims = [_claim(database, place) for place in range(number)]
    with _reader(url, has_reader=has_reader), psycopg.connect(url, autocommit=True) as looking:
        before = _sizes(looking)
        share = [claims[place::THREADS] for place in range(THREADS)]
        with ThreadPoolExecutor(THREADS) as pool:
            took = list(pool.map(lambda mine: _work(database, mine, updates // THREADS), share))
        database.close()
        after = _when_counted(looking, before.updates + updates // THREADS * THREADS)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("VACUUM leases")
        vacuumed = _sizes(connection)
    done = after.updates - before.updates
    heap_only = (after.heap_only - before.heap_only) / done
    tenth = max(1, len(took[0]) // 10)
    first, last = (statistics.median(itertools.chain(*part)) * 1000 for part in _ends(took, tenth))
    return (
        f"{'open' if has_reader else 'none':6}  {factor:>10}  {done:7}  {heap_only:9.1%}"
        f"  {before.table // 1024:3} -> {after.table // 1024:<5}"
        f" {before.indexes // 1024:3} -> {after.indexes // 1024:<5}"
        f"  {first:.2f}, {last:.2f}  {vacuumed.table // 1024} + {vacuumed.indexes // 1024}"
    )


def _ends(took: list[list[float]], tenth: int) -> Iterator[list[list[float]]]:
    yield [each[:tenth] for each in took]
    yield [each[-tenth:] for each in took]


def _claim(database: Database, place: int) -> Claim:
    session_id = SessionId(uuid_utils.uuid7())
    worker_id = WorkerId(uuid_utils.UUID(int=place // SLOTS + 1))
    with database.connection() as connection:
        transitions.enqueue(connection, session_id, REQUEST, digest(REQUEST))
        claim = transitions.claim(
            connection, session_id, holder=Holder(uuid4()), worker_id=worker_id, slot=1 + place % SLOTS, lease_s=30
        )
    assert claim is not None
    return claim


def _work(database: Database, claims: list[Claim], updates: int) -> list[float]:
    """How long each took, in seconds."""
    done = dict.fromkeys((claim.session.id for claim in claims), Progress(0))
    took = []
    with database.connection() as connection:
        for number, claim in zip(range(updates), itertools.cycle(claims), strict=False):
            began = time.perf_counter()
            if number % RENEWED_EVERY == 0:
                assert leases.renew(connection, claim, lease_s=30)
            else:
                before = done[claim.session.id]
                after = Progress(before.last_seq + 1, before.stdout_bytes + 5)
                assert outputs.append(connection, claim, _line(), before, after)
                done[claim.session.id] = after
            took.append(time.perf_counter() - began)
    return took


def _line() -> outputs.Batch:
    batch = outputs.Batch()
    batch.add(Stream.STDOUT, datetime.now(UTC), b"line", eol=True)
    return batch


@contextmanager
def _reader(url: str, *, has_reader: bool) -> Iterator[None]:
    if not has_reader:
        yield
        return
    with psycopg.connect(url) as connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        connection.execute("SELECT count(*) FROM sessions")
        yield


def _sizes(connection: psycopg.Connection) -> Sizes:
    connection.execute("SELECT pg_stat_force_next_flush()")
    row = connection.execute(SIZES).fetchone()
    assert row is not None
    return Sizes(*row)


def _when_counted(connection: psycopg.Connection, updates: int) -> Sizes:
    """A backend says what it has counted when it ends, a moment after we have left it."""
    while (sizes := _sizes(connection)).updates < updates:
        time.sleep(0.05)
    return sizes


if __name__ == "__main__":
    main()
