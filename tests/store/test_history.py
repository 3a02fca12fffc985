from __future__ import annotations

from collections.abc import Callable

import psycopg
import pytest

from gsd_tasks.domain.errors import InvalidValue
from gsd_tasks.domain.session import HistoryEntry, SessionId
from gsd_tasks.store import Database, history, transitions
from gsd_tasks.store.history import Cursor, Happened


def session_of(happened: Happened) -> SessionId:
    assert isinstance(happened, HistoryEntry)
    return happened.session_id


def test_a_transition_that_is_committed_late_is_not_passed_over(
    database: Database, database_url: str, enqueue: Callable[..., SessionId]
) -> None:
    """The late one drew its id first: a reader that went by ids alone would never see it."""
    with database.connection() as connection:
        start = history.now(connection)
        early = enqueue()
        with psycopg.connect(database_url) as late:
            late.execute(
                "INSERT INTO session_history (session_id, to_status, attempt, reason) "
                "VALUES (%s, 'queued', 0, 'enqueued')",
                [early],
            )
            after_it = enqueue()
            seen, cursor = history.read(connection, start, limit=100)
            assert [session_of(entry) for _, entry in seen] == [early]
            late.commit()
        more, _ = history.read(connection, cursor, limit=100)
    assert [session_of(entry) for _, entry in more] == [early, after_it]


@pytest.mark.parametrize("page", [1, 2, 100])
def test_going_on_from_any_cursor_gives_the_rest(
    database: Database, enqueue: Callable[..., SessionId], page: int
) -> None:
    with database.connection() as connection:
        start = history.now(connection)
        wanted = [enqueue() for _ in range(5)]
        transitions.cancel_idle(connection, wanted[0])
        seen, cursor = [], start
        while True:
            entries, cursor = history.read(connection, cursor, limit=page)
            if not entries:
                break
            seen += entries
        assert [session_of(entry) for _, entry in seen] == [*wanted, wanted[0]]
        for number, (place, _) in enumerate(seen):
            rest, _ = history.read(connection, Cursor.parse(str(place)), limit=100)
            assert [entry.id for _, entry in rest] == [entry.id for _, entry in seen[number + 1 :]]


@pytest.mark.parametrize("rubbish", ["", "1", "1.2", "1.2.x", "1.2.3.4", "-1.2.3", "\u0661.\u0662.\u0663"])
def test_what_is_no_cursor_is_refused(rubbish: str) -> None:
    with pytest.raises(InvalidValue):
        Cursor.parse(rubbish)
