"""A batch whose answer was lost: it is written once, and nobody is taken for fenced because of it."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from sqlalchemy import event

from gsd_tasks.domain.cutting import PIECE_BYTES
from gsd_tasks.domain.errors import DatabaseUnavailable
from gsd_tasks.domain.masking import Masker
from gsd_tasks.domain.session import Holder, SessionId
from gsd_tasks.process.spool.frames import STDOUT, segment_numbers
from gsd_tasks.process.spool.writer import SpoolWriter
from gsd_tasks.service.node import Node
from gsd_tasks.service.stream import TRIM_BYTES, Streamer
from gsd_tasks.store import Claim, Database, outputs, transitions
from gsd_tasks.store.leases import Progress
from tests.waiting import BOUND_S, until


@pytest.fixture
def claim(node: Node, enqueue: Callable[..., SessionId]) -> Claim:
    with node.database.connection() as connection:
        claim = transitions.claim(connection, enqueue(), holder=Holder(uuid4()), worker_id=node.id, slot=1, lease_s=30)
    assert claim is not None
    return claim


@pytest.fixture
def spool(tmp_path: Path) -> SpoolWriter:
    (tmp_path / "spool").mkdir()
    return SpoolWriter(tmp_path / "spool", 1 << 20)


@pytest.fixture
def streamer(database: Database, claim: Claim, spool: SpoolWriter, tmp_path: Path) -> Iterator[Streamer]:
    streamer = Streamer(database, claim, tmp_path / "spool", lambda *_: None, Progress(0))
    yield streamer
    streamer.close()


def test_a_batch_that_is_cut_off_is_no_surprise_but_an_unavailable_database(
    database_url: str, streamer: Streamer, spool: SpoolWriter
) -> None:
    spool.append(STDOUT, b"one\n", 1)
    with _lease_locked(database_url):
        _pump_cut_off(database_url, streamer, lambda: _end_backends(database_url))
    assert not streamer.pump(at_end=True)
    assert streamer.committed == Progress(1, 4, 0)


def test_a_batch_that_is_committed_after_its_connection_was_lost_is_ours(
    database: Database, database_url: str, claim: Claim, streamer: Streamer, spool: SpoolWriter
) -> None:
    """The server goes on with what it was sent: the batch comes to be committed while it is being sent again."""
    connections: list[psycopg.Connection[Any]] = []
    event.listen(database.engine, "checkout", lambda connection, *_: connections.append(connection))
    spool.append(STDOUT, b"one\n", 1)
    with _lease_locked(database_url) as release:
        _pump_cut_off(database_url, streamer, lambda: _cut_off(connections[-1:]))
        spool.append(STDOUT, b"two\n", 2)
        again = threading.Thread(target=streamer.pump, kwargs={"at_end": True}, daemon=True)
        again.start()
        until(lambda: _waiting(database_url) == 2)
        release()
    again.join(BOUND_S)
    while streamer.pump(at_end=True):
        pass
    assert streamer.committed == Progress(2, 8, 0)
    with database.connection() as connection:
        rows = outputs.read(connection, claim.session.id, limit=9)
    assert [(row.seq, row.data) for row in rows] == [(1, "one"), (2, "two")]


SECRET = "correct horse battery staple"
STARS = b"*" * len(SECRET)
#: What was read then has not waited for its newline yet.
LATER = 2**62


def _streaming(database: Database, claim: Claim, tmp_path: Path, begin: Progress) -> Streamer:
    return Streamer(database, claim, tmp_path / "spool", lambda *_: None, begin, Masker([SECRET]))


def _written(database: Database, claim: Claim) -> bytes:
    with database.connection() as connection:
        return b"".join(row.as_bytes() for row in outputs.read(connection, claim.session.id, limit=99))


@pytest.mark.parametrize("shown", [1, len(SECRET) // 2, len(SECRET) - 1])
def test_a_secret_that_lies_across_two_rows_is_hidden_in_both_and_by_whoever_goes_on(
    database: Database, claim: Claim, spool: SpoolWriter, tmp_path: Path, shown: int
) -> None:
    """One worker has committed the row that ends in the middle of it; the next one has never seen its beginning."""
    before = b"x" * (PIECE_BYTES - shown)
    first = _streaming(database, claim, tmp_path, Progress(0))
    spool.append(STDOUT, before, LATER)
    spool.append(STDOUT, SECRET.encode(), LATER)
    while first.pump():
        pass
    first.close()
    assert first.committed == Progress(1, PIECE_BYTES, 0)

    spool.append(STDOUT, b"\nmore " + SECRET.encode() + b"\n", 2)
    following = _streaming(database, claim, tmp_path, first.committed)
    while following.pump(at_end=True):
        pass
    following.close()

    assert _written(database, claim) == before + STARS + b"\nmore " + STARS + b"\n"
    assert following.committed == Progress(3, PIECE_BYTES - shown + 2 * len(SECRET) + 7, 0)


def test_what_is_trimmed_leaves_enough_to_go_on_in_the_middle_of_a_secret(
    database: Database, claim: Claim, tmp_path: Path
) -> None:
    """Each record is a segment of its own here, so that trimming could take the first half of the secret along."""
    (tmp_path / "spool").mkdir()
    spool = SpoolWriter(tmp_path / "spool", segment_bytes=1)
    half = len(SECRET) // 2
    for _ in range(TRIM_BYTES // PIECE_BYTES - 1):
        spool.append(STDOUT, b"x" * (PIECE_BYTES - 1) + b"\n", 1)
    for part in (b"y" * (PIECE_BYTES - half), SECRET[:half].encode(), SECRET[half:].encode()):
        spool.append(STDOUT, part, LATER)
    first = _streaming(database, claim, tmp_path, Progress(0))
    while first.pump():
        pass
    first.close()
    assert first.committed == Progress(TRIM_BYTES // PIECE_BYTES, TRIM_BYTES, 0)
    assert len(segment_numbers(tmp_path / "spool")) < 5

    following = _streaming(database, claim, tmp_path, first.committed)
    while following.pump(at_end=True):
        pass
    following.close()
    with database.connection() as connection:
        last = outputs.read(connection, claim.session.id, limit=1, newest_first=True)
    assert [row.body for row in last] == [STARS[half:]]


def test_what_is_held_back_keeps_the_time_at_which_it_was_read(
    database: Database, claim: Claim, spool: SpoolWriter, tmp_path: Path
) -> None:
    streamer = _streaming(database, claim, tmp_path, Progress(0))
    spool.append(STDOUT, SECRET[:4].encode(), 1_000_000)
    while streamer.pump():
        pass
    assert streamer.committed == Progress(0)
    spool.append(STDOUT, b"\nno secret\n", 2_000_000)
    while streamer.pump(at_end=True):
        pass
    streamer.close()
    with database.connection() as connection:
        rows = outputs.read(connection, claim.session.id, limit=9)
    assert [(row.data, row.written_at.microsecond) for row in rows] == [("corr", 1000), ("no secret", 2000)]


def _pump_cut_off(database_url: str, streamer: Streamer, cut: Callable[[], object]) -> None:
    """Send a batch that waits for the lease's row, and lose the connection meanwhile."""
    raised: list[BaseException] = []

    def pump() -> None:
        try:
            streamer.pump(at_end=True)
        except Exception as error:  # noqa: BLE001
            raised.append(error)

    thread = threading.Thread(target=pump, daemon=True)
    thread.start()
    until(lambda: _waiting(database_url) == 1)
    cut()
    thread.join(BOUND_S)
    assert [type(error) for error in raised] == [DatabaseUnavailable]


@contextmanager
def _lease_locked(database_url: str) -> Iterator[Callable[[], None]]:
    with psycopg.connect(database_url) as holder:
        holder.execute("SELECT 1 FROM leases FOR UPDATE")
        yield holder.rollback


def _waiting(database_url: str) -> int:
    with psycopg.connect(database_url, autocommit=True) as connection:
        row = connection.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        ).fetchone()
    assert row is not None
    return int(row[0])


def _end_backends(database_url: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")


def _cut_off(connections: list[psycopg.Connection[Any]]) -> None:
    """They break here, and the server does not notice while it is busy."""
    for connection in connections:
        with socket.socket(fileno=os.dup(connection.pgconn.socket)) as same:
            same.shutdown(socket.SHUT_RDWR)
