"""Renewals touch no index, even while somebody's snapshot keeps all that they leave behind."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from uuid import uuid4

import psycopg
import pytest

from gsd_tasks.domain.session import Holder, SessionId, WorkerId
from gsd_tasks.store import Claim, Database, leases, transitions
from tests.waiting import until

LEASES = 30
UPDATES = 1500
COUNTED = "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'leases'"


@pytest.mark.parametrize(("snapshot", "share"), [(False, 0.95), (True, 0.85)])
def test_renewals_are_heap_only_updates(
    database: Database, database_url: str, enqueue: Callable[..., SessionId], snapshot: bool, share: float
) -> None:
    sizes = itertools.count(7)
    held = [claim(database, enqueue()) for _ in range(LEASES)]
    with psycopg.connect(database_url) as reader, psycopg.connect(database_url, autocommit=True) as looking:
        if snapshot:
            reader.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            reader.execute("SELECT 1 FROM sessions")
        with database.connection() as connection:
            for each in itertools.islice(itertools.cycle(held), UPDATES):
                assert leases.renew(connection, each, lease_s=30, spooled_bytes=next(sizes))
        database.close()  # a backend says what it has counted when it ends

        def counted() -> tuple[int, int] | None:
            looking.execute("SELECT pg_stat_clear_snapshot()")
            row = looking.execute(COUNTED).fetchone()
            return row if row and row[0] == UPDATES else None

        all_updates, heap_only = until(counted, what="the counting of all updates") or (0, 0)
    assert heap_only / all_updates >= share


def claim(database: Database, session_id: SessionId) -> Claim:
    with database.connection() as connection:
        claimed = transitions.claim(
            connection, session_id, holder=Holder(uuid4()), worker_id=WorkerId(uuid4()), slot=1, lease_s=30
        )
    assert claimed is not None
    return claimed
