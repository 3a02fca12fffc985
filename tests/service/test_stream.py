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

from gsd_tasks.domain.errors import DatabaseUnavailable
from gsd_tasks.domain.session import Holder, SessionId
from gsd_tasks.process.spool.frames import STDOUT
from gsd_tasks.process.spool.writer import SpoolWriter
from gsd_tasks.service.node import Node
from gsd_tasks.service.stream import Streamer
from gsd_tasks.store import Claim, Database, outputs, transitions
from gsd_tasks.store.leases import Progress
from tests.waiting import until


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
    again.join(10)
    while streamer.pump(at_end=True):
        pass
    assert streamer.committed == Progress(2, 8, 0)
    with database.connection() as connection:
        rows = outputs.read(connection, claim.session.id, limit=9)
    assert [(row.seq, row.data) for row in rows] == [(1, "one"), (2, "two")]


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
    thread.join(10)
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
