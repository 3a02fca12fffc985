"""The keeper keeps what is held now, whoever held it before."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import cast
from uuid import uuid4

import psycopg
import pytest
from sqlalchemy import event

from gsd_tasks.domain.session import Holder, SessionId
from gsd_tasks.process.link import ShimLink
from gsd_tasks.process.spool.frames import STDOUT
from gsd_tasks.process.spool.writer import SpoolWriter
from gsd_tasks.service.lease import Keeper, boot_clock_s
from gsd_tasks.service.node import Node
from gsd_tasks.service.stream import Streamer
from gsd_tasks.settings import Settings
from gsd_tasks.store import transitions
from gsd_tasks.store.leases import Progress
from tests.waiting import BOUND_S, until


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Nothing is renewed but by whoever is in a hurry."""
    return settings.model_copy(update={"heartbeat_s": 10 * BOUND_S, "lease_s": 30 * BOUND_S})


def test_letting_go_of_an_old_attempt_lets_go_of_no_newer_one(
    node: Node, database_url: str, enqueue: Callable[..., SessionId]
) -> None:
    """A slot that was fenced out may still be cleaning up when another one of the same worker has the session."""
    session_id = enqueue()
    with node.database.connection() as connection:
        newer = transitions.claim(connection, session_id, holder=Holder(uuid4()), worker_id=node.id, slot=1, lease_s=30)
    assert newer is not None
    older = replace(newer, holder=Holder(uuid4()))
    leaving = ExitStack()
    leaving.enter_context(node.keeper.keeping(older, claimed_at_boot_s=boot_clock_s()))
    with node.keeper.keeping(newer, claimed_at_boot_s=boot_clock_s()) as lease:
        leaving.close()
        before = _renewals(database_url)
        node.keeper.hurry()
        until(lambda: _renewals(database_url) > before)
        assert not lease.is_lost


def test_a_lock_on_one_session_keeps_no_other_lease_from_being_renewed(
    node: Node, database_url: str, enqueue: Callable[..., SessionId]
) -> None:
    claims = []
    for slot in (1, 2):
        session_id = enqueue()
        with node.database.connection() as connection:
            claim = transitions.claim(
                connection, session_id, holder=Holder(uuid4()), worker_id=node.id, slot=slot, lease_s=30
            )
        assert claim is not None
        claims.append(claim)
    with ExitStack() as kept, psycopg.connect(database_url) as locker:
        locker.execute("SELECT 1 FROM leases WHERE slot = 1 FOR UPDATE")
        for claim in claims:
            kept.enter_context(node.keeper.keeping(claim, claimed_at_boot_s=boot_clock_s()))
        before = _renewals(database_url, slot=2)
        node.keeper.hurry()
        until(lambda: _renewals(database_url, slot=2) > before, timeout_s=BOUND_S)
        locker.rollback()
        node.keeper.hurry()
        until(lambda: _renewals(database_url, slot=1) > 0, timeout_s=BOUND_S)


def test_one_statement_renews_all_that_a_worker_holds_and_what_it_has_lost_is_noticed(
    node: Node, enqueue: Callable[..., SessionId]
) -> None:
    sent: list[str] = []
    # One that takes a turn as it starts, and when it is hurried.
    keeper = Keeper(node.database, lease_s=30, heartbeat_s=3600)
    with ExitStack() as kept:
        held = []
        for slot in (1, 2, 3):
            session_id = enqueue()
            with node.database.connection() as connection:
                claim = transitions.claim(
                    connection, session_id, holder=Holder(uuid4()), worker_id=node.id, slot=slot, lease_s=30
                )
            assert claim is not None
            held.append(kept.enter_context(keeper.keeping(claim, claimed_at_boot_s=0)))
        lost = replace(held[0].claim, holder=Holder(uuid4()))
        taken = kept.enter_context(keeper.keeping(lost, claimed_at_boot_s=0))
        event.listen(node.database.engine, "before_cursor_execute", lambda *given: sent.append(given[2]))
        keeper.start()
        kept.callback(keeper.stop)
        until(lambda: taken.is_lost, timeout_s=BOUND_S)
        assert all(lease.deadline_boot_s > 30 for lease in held)
        # All that are held, and by itself the one that is not; from then on, nobody asks for that any more.
        assert len(_renewing(sent)) == 2
        keeper.hurry()
        until(lambda: len(_renewing(sent)) > 2, timeout_s=BOUND_S)
        keeper.stop()
        assert len(_renewing(sent)) == 3
        assert not any(lease.is_lost for lease in held)


def _renewing(statements: list[str]) -> list[str]:
    return [statement for statement in statements if "UPDATE leases" in statement]


def _renewals(database_url: str, slot: int = 1) -> int:
    with psycopg.connect(database_url, autocommit=True) as connection:
        row = connection.execute("SELECT renewals FROM leases WHERE slot = %s", [slot]).fetchone()
    assert row is not None
    return int(row[0])


class _Link:
    """A shim that takes every deadline."""

    def set_deadline(self, deadline_boot_s: float) -> None:
        pass


def test_a_renewal_says_what_the_spool_has_that_postgres_has_not(
    node: Node, database_url: str, enqueue: Callable[..., SessionId], tmp_path: Path
) -> None:
    with node.database.connection() as connection:
        claim = transitions.claim(connection, enqueue(), holder=Holder(uuid4()), worker_id=node.id, slot=1, lease_s=30)
    assert claim is not None
    (tmp_path / "spool").mkdir()
    spool = SpoolWriter(tmp_path / "spool", 1 << 20)
    streamer = Streamer(node.database, claim, tmp_path / "spool", lambda *_: None, Progress(0))
    with node.keeper.keeping(claim, claimed_at_boot_s=boot_clock_s()) as lease:
        lease.attach(cast("ShimLink", _Link()), lambda: None, lambda: streamer.backlog_bytes)
        assert streamer.backlog_bytes == 0
        for _ in range(3):
            spool.append(STDOUT, b"x" * 99 + b"\n", time.time_ns())
        spool.append(STDOUT, b"no end yet", 2**62)
        assert 310 <= streamer.backlog_bytes < 500, "the rest are headers of records"
        node.keeper.renew(lease)
        assert _spooled(database_url) == streamer.backlog_bytes
        while streamer.pump():
            pass
        assert streamer.backlog_bytes == len(b"no end yet"), "read, and waiting for its newline"
        streamer.pump(at_end=True)
        node.keeper.renew(lease)
        assert (streamer.backlog_bytes, _spooled(database_url)) == (0, 0)
    streamer.close()


def _spooled(database_url: str) -> int:
    with psycopg.connect(database_url, autocommit=True) as connection:
        row = connection.execute("SELECT spooled_bytes FROM leases").fetchone()
    assert row is not None
    return int(row[0])
