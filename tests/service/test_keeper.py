"""The keeper keeps what is held now, whoever held it before."""

from __future__ import annotations

from collections.abc import Callable
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
    with psycopg.connect(database_url, autocommit=True) as connection:
        renewals = lambda: connection.execute("SELECT renewals FROM leases").fetchone()[0]  # type: ignore[index]  # noqa: E731
        leaving = node.keeper.keeping(older, claimed_at_boot_s=boot_clock_s())
        leaving.__enter__()
        with node.keeper.keeping(newer, claimed_at_boot_s=boot_clock_s()) as lease:
            leaving.__exit__(None, None, None)
            before = renewals()
            node.keeper.hurry()
            until(lambda: renewals() > before, timeout_s=3)
            assert not lease.is_lost
