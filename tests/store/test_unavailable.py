"""What counts as a database that is away, and what an error tells about a statement's values."""

from __future__ import annotations

from collections.abc import Callable
from uuid import uuid4

import pytest
from sqlalchemy import text

from gsd_tasks.domain.errors import DatabaseUnavailable, NoSuchSession
from gsd_tasks.domain.policy import Ending, decide
from gsd_tasks.domain.session import OnLost, SessionId, Submission, WorkerId, WorkerStatus
from gsd_tasks.domain.state import Reason
from gsd_tasks.domain.submission import digest
from gsd_tasks.store import Claim, Database, nodes, sessions, transitions


def test_a_server_that_lets_nobody_write_is_away_and_its_connection_is_not_kept(
    database: Database, worker: WorkerId
) -> None:
    """During a failover, the old primary or the new one: whoever retries must come to another connection."""
    with pytest.raises(DatabaseUnavailable, match="read-only"), database.connection() as connection:  # noqa: PT012
        connection.execute(text("SET default_transaction_read_only = on"))
        nodes.seen(connection, worker, WorkerStatus.ALIVE)
    with database.connection() as connection:
        nodes.seen(connection, worker, WorkerStatus.ALIVE)


def test_the_server_does_not_keep_the_backend_of_a_client_that_is_gone_without_a_word(database: Database) -> None:
    """Two hours, by its own defaults: a worker that is cut off again and again would use up all connections."""
    names = ("tcp_keepalives_idle", "tcp_keepalives_interval", "tcp_keepalives_count", "tcp_user_timeout")
    with database.connection() as connection:
        idle, interval, count, at_most_ms = (
            connection.scalar(text("SELECT setting::integer FROM pg_settings WHERE name = :name"), {"name": name})
            for name in names
        )
    assert idle + interval * count <= 60
    assert 0 < at_most_ms <= 60_000


def test_an_error_names_no_value_of_the_statement(database: Database) -> None:
    with pytest.raises(Exception) as raised, database.connection() as connection:
        connection.execute(text("SELECT 1 / 0, CAST(:secret AS text)"), {"secret": "hush"})
    assert "hush" not in f"{raised.value!r} {raised.value}"


def test_a_parent_that_is_gone_is_no_session(database: Database) -> None:
    request = Submission(command=("true",), working_dir="/", parent_id=SessionId(uuid4()))
    with pytest.raises(NoSuchSession), database.connection() as connection:
        transitions.enqueue(connection, SessionId(uuid4()), request, digest(request))


def test_what_has_begun_does_not_expire_any_more(
    database: Database, claim: Callable[..., Claim], enqueue: Callable[..., SessionId], worker: WorkerId
) -> None:
    """`expires_at` bounds the wait for the beginning: handed back after it, a session goes on."""
    held = claim()
    with database.connection() as connection:
        connection.execute(text("UPDATE sessions SET expires_at = now() - interval '1 s'"))
        back = decide(Ending(reason=Reason.WORKER_STOPPED, handed_back=True), wanted=None, on_lost=OnLost.REQUEUE)
        assert transitions.settle(connection, held, back)
        assert transitions.expire(connection) == []
        assert sum(sessions.count_claimable(connection).values()) == 1
    assert claim(held.session.id).attempt == 2


def test_a_connection_that_is_in_use_while_all_are_given_back_goes_when_it_is_done_with(database_url: str) -> None:
    database = Database(database_url)
    with database.connection() as connection:
        used = connection.connection.driver_connection
        assert used is not None
        database.close()
        assert connection.execute(text("SELECT 1")).scalar_one() == 1
    assert used.closed
