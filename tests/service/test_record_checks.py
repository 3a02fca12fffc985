"""The doctor on what nobody attends to: expired leases in a real Postgres, and spools that no worker reads."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import pytest
from sqlalchemy import text

from gsd_tasks.domain.session import Holder, SessionId
from gsd_tasks.process.spool.frames import HEADER_BYTES, segment_path
from gsd_tasks.service import record_checks
from gsd_tasks.service.findings import Finding, State
from gsd_tasks.service.node import Node
from gsd_tasks.settings import Settings
from gsd_tasks.store import Database, transitions

Look = Callable[[], tuple[Finding, Finding]]


@pytest.fixture
def look(settings: Settings, database_url: str) -> Look:
    def look() -> tuple[Finding, Finding]:
        lease, spool = record_checks.examine(settings, database_url)
        return lease, spool

    return look


@pytest.fixture
def held(node: Node, database: Database, enqueue: Callable[..., SessionId]) -> SessionId:
    session_id = enqueue("true")
    with database.connection() as connection:
        assert transitions.claim(connection, session_id, holder=Holder(uuid4()), worker_id=node.id, slot=1, lease_s=30)
    return session_id


def expire(database: Database, ago_s: int) -> None:
    with database.connection() as connection:
        connection.execute(text(f"UPDATE leases SET expires_at = clock_timestamp() - interval '{ago_s} s'"))


def write(folder: Path, *, ago_s: float = 3600, output: int = 100) -> Path:
    """A spool in which a child has written something, so long ago."""
    folder.mkdir(parents=True)
    segment = segment_path(folder, 1)
    segment.write_bytes(bytes(HEADER_BYTES + output))
    os.utime(segment, (time.time() - ago_s,) * 2)
    return folder


def test_a_lease_that_nobody_recovers_is_stale(
    look: Look, held: SessionId, database: Database, settings: Settings
) -> None:
    """One that has just expired is the maintenance process's to take."""
    assert look()[0] == Finding("leases", State.OK, "none is stale")
    expire(database, ago_s=int(settings.lease_s) + 30)
    assert look()[0].state is State.OK
    expire(database, ago_s=int(settings.lease_s) + 120)
    lease, _ = look()
    assert lease.state is State.NOTE
    assert re.match(r"1 stale, the oldest for 1[5-9]\d s", lease.found), lease.found
    assert "`gsd-tasks maintenance`" in str(lease.detail)


def test_a_spool_that_no_worker_reads_is_unread(look: Look, node: Node, held: SessionId, database: Database) -> None:
    """One of a lease that is renewed is read, and what is empty or was written just now is no reason to worry."""
    node._janitor.stop()
    mine = write(node.spools.of(held, 1).folder)
    write(node.spools.of(SessionId(uuid4()), 1).folder, output=0)
    write(node.spools.of(SessionId(uuid4()), 1).folder, ago_s=5)
    assert look()[1] == Finding("spools", State.OK, "none is left unread")

    of_another_attempt = write(node.spools.of(held, 2).folder)
    _, spool = look()
    assert (spool.state, spool.found) == (State.NOTE, f"1 unread, such as {of_another_attempt}")
    assert "start one here with this GSD_STATE_DIR" in str(spool.detail)

    expire(database, ago_s=1)
    assert look()[1].found == f"2 unread, such as {mine}"
    assert of_another_attempt.exists()


def test_where_no_worker_has_been_nothing_is_made(look: Look, settings: Settings) -> None:
    assert [finding.state for finding in look()] == [State.OK, State.OK]
    assert not settings.state_dir.exists()
