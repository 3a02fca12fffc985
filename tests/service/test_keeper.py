"""The keeper keeps what is held now, whoever held it before."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from uuid import uuid4

import psycopg

from gsd_tasks.domain.session import Holder, SessionId
from gsd_tasks.service.lease import boot_clock_s
from gsd_tasks.service.node import Node
from gsd_tasks.store import transitions
from tests.waiting import until


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
        until(lambda: _renewals(database_url) > before, timeout_s=3)
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
        until(lambda: _renewals(database_url, slot=2) > before, timeout_s=10)
        locker.rollback()
        node.keeper.hurry()
        until(lambda: _renewals(database_url, slot=1) > 0, timeout_s=10)


def _renewals(database_url: str, slot: int = 1) -> int:
    with psycopg.connect(database_url, autocommit=True) as connection:
        row = connection.execute("SELECT renewals FROM leases WHERE slot = %s", [slot]).fetchone()
    assert row is not None
    return int(row[0])
