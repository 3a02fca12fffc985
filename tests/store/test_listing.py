from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text

from gsd_tasks.domain.session import SessionId
from gsd_tasks.store import Database, sessions
from gsd_tasks.store.sessions import Chosen
from tests.store.conftest import REQUEST

Enqueue = Callable[..., SessionId]


def page(database: Database, *, before: SessionId | None = None, limit: int = 10, **wanted: Any) -> list[SessionId]:
    with database.connection() as connection:
        found = sessions.listed(connection, Chosen(**wanted), before=before, limit=limit)
    return [session.id for session in found]


def test_pages_follow_each_other_from_the_newest_on(database: Database, enqueue: Enqueue) -> None:
    ids = [enqueue() for _ in range(5)]
    newest = page(database, limit=2)
    assert newest + page(database, before=newest[-1], limit=3) == ids[::-1]


@pytest.mark.parametrize("field", ["name", "thread", "queue"])
def test_sessions_are_found_by_what_they_were_called(database: Database, enqueue: Enqueue, field: str) -> None:
    wanted: dict[str, Any] = {field: "wanted"}
    other: dict[str, Any] = {field: "other"}
    found = enqueue(replace(REQUEST, **wanted))
    enqueue(replace(REQUEST, **other))
    enqueue()
    assert page(database, **wanted) == [found]


def test_sessions_are_found_by_when_they_were_enqueued(database: Database, enqueue: Enqueue) -> None:
    """The first moment counts, the last does not; and the id's own time may be somewhat off."""
    early, late = enqueue(), enqueue()
    moment = datetime.now(UTC) + timedelta(minutes=10)
    with database.connection() as connection:
        move = text("UPDATE sessions SET created_at = :at WHERE id = :id")
        connection.execute(move, {"at": moment, "id": early})
        connection.execute(move, {"at": moment + timedelta(minutes=1), "id": late})
    assert page(database, since=moment) == [late, early]
    assert page(database, since=moment + timedelta(seconds=1)) == [late]
    assert page(database, until=moment + timedelta(minutes=1)) == [early]
    assert page(database, until=moment) == []
