"""Sessions count where they ended, costs where they were recorded."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from uuid import UUID

import psycopg
import pytest

from gsd_tasks.domain.claude_results import Tokens
from gsd_tasks.domain.costs import NOTHING, Use
from gsd_tasks.domain.state import Reason, Status
from gsd_tasks.domain.statistics import By, Figures, Outcome, Statistics, Took
from gsd_tasks.store import Database, statistics

OPUS, HAIKU = "claude-opus-5-5", "claude-haiku-4-5"
NOW = datetime.now(UTC)
#: In the middle of a day of UTC, so that an hour more or less is the same day.
NOON = NOW.replace(hour=12, minute=0, second=0, microsecond=0) - timedelta(days=1)
DAY = timedelta(days=1)
COLUMNS = """digest, queue, priority, prompt, working_dir, env, context, claude, timeout_s, idle_timeout_s,
 max_output_bytes, on_lost"""
VALUES = "'', 'q', 5, 'p', '/', '{}', '{}', '{}', 1, 1, 1, 'fail'"

_numbers = itertools.count(1)


@pytest.fixture
def ended(database_url: str) -> Callable[..., UUID]:
    """Writes a session that has ended; it had begun `took_s` before, if it had begun at all."""

    def ended(
        at: datetime,
        status: str = "completed",
        reason: str = "finished",
        *,
        took_s: float | None = 10,
        thread: str | None = None,
        attempt: int = 1,
        tries: int = 0,
        recoveries: int = 0,
    ) -> UUID:
        session_id, begun = UUID(int=next(_numbers)), None if took_s is None else at - timedelta(seconds=took_s)
        with psycopg.connect(database_url, autocommit=True) as connection:
            connection.execute("SET session_replication_role = replica")  # past the trigger: nothing begins ended
            connection.execute(
                "INSERT INTO sessions (id, kind, status, reason, thread, attempt, tries, recoveries, started_at,"
                f" ended_at, {COLUMNS}) VALUES (%s, 'claude', %s, %s, %s, %s, %s, %s, %s, %s, {VALUES})",
                (session_id, status, reason, thread, attempt, tries, recoveries, begun, at),
            )
        return session_id

    return ended


@pytest.fixture
def spent(database_url: str) -> Callable[..., None]:
    """Writes a turn."""

    def spent(session_id: UUID, at: datetime, models: Mapping[str, Use], *, model: str | None = OPUS) -> None:
        use = sum(models.values(), NOTHING)
        with psycopg.connect(database_url, autocommit=True) as connection:
            connection.execute(
                "INSERT INTO turns (session_id, seq, attempt, model, subtype, is_error, turns, duration_s,"
                " input_tokens, output_tokens, cache_read_tokens, cache_write_tokens, cost_usd, models, at)"
                " VALUES (%s, %s, 1, %s, 'success', false, 1, 1, %s, %s, %s, %s, %s, %s, %s)",
                (
                    session_id,
                    next(_numbers),
                    model,
                    *asdict(use).values(),
                    json.dumps({name: asdict(of_it) for name, of_it in models.items()}),
                    at,
                ),
            )

    return spent


def look(database: Database, since: datetime = NOON - DAY, by: By | None = None) -> Statistics:
    with database.connection() as connection:
        return statistics.since(connection, since, by)


def keys(found: Statistics) -> list[str | None]:
    return [figures.key for figures in found.groups]


def of(found: Statistics, key: str | None) -> Figures:
    [figures] = [figures for figures in found.groups if figures.key == key]
    return figures


@pytest.mark.parametrize("by", [None, *By])
def test_where_nothing_ended_and_nothing_was_spent_all_is_none(database: Database, by: By | None) -> None:
    found = look(database, by=by)
    assert found.total == Figures(
        key=None,
        sessions=0,
        outcomes=(),
        took=Took(sessions=0, p50_s=None, p95_s=None, max_s=None),
        attempts=0,
        tries=0,
        recoveries=0,
        turns=0,
        tokens=Tokens(0, 0, 0, 0),
        cost_usd=0.0,
    )
    assert found.groups == ()
    assert (found.since, found.by) == (NOON - DAY, by)
    assert NOW <= found.until <= datetime.now(UTC) + timedelta(minutes=1)


def test_sessions_are_counted_by_how_they_ended(database: Database, ended: Callable[..., UUID]) -> None:
    for took_s in range(1, 100):
        ended(NOON, took_s=took_s)
    ended(NOON, "failed", "timeout", attempt=3, tries=1, recoveries=2, took_s=100)
    ended(NOON, "failed", "exit_code", attempt=2, tries=2, took_s=101)
    ended(NOON, "cancelled", "cancelled", took_s=None, attempt=0)
    total = look(database).total
    assert total.sessions == 102
    assert total.outcomes == (
        Outcome(Status.COMPLETED, Reason.FINISHED, 99),
        Outcome(Status.CANCELLED, Reason.CANCELLED, 1),
        Outcome(Status.FAILED, Reason.EXIT_CODE, 1),
        Outcome(Status.FAILED, Reason.TIMEOUT, 1),
    )
    assert [total.count(status) for status in (Status.COMPLETED, Status.FAILED, Status.QUEUED)] == [99, 2, 0]
    assert total.took == Took(sessions=101, p50_s=51, p95_s=96, max_s=101)
    assert (total.attempts, total.tries, total.recoveries) == (104, 3, 2)


def test_only_what_ended_or_was_recorded_since_then_counts(
    database: Database, ended: Callable[..., UUID], spent: Callable[..., None]
) -> None:
    """A turn counts by itself, whether its session has ended or not."""
    old, new = ended(NOON - DAY), ended(NOON)
    spent(old, NOON - DAY, {OPUS: Use(1, 2, 3, 4, 0.5)})
    spent(old, NOON, {OPUS: Use(5, 6, 7, 8, 0.25)})
    spent(new, NOON, {})
    total = look(database, NOON).total
    assert (total.sessions, total.turns, total.tokens, total.cost_usd) == (1, 2, Tokens(5, 6, 7, 8), 0.25)
    total = look(database, NOON - DAY).total
    assert (total.sessions, total.turns, total.tokens, total.cost_usd) == (2, 3, Tokens(6, 8, 10, 12), 0.75)


def test_days_are_those_of_utc_and_stand_in_their_order(
    database: Database, database_url: str, ended: Callable[..., UUID], spent: Callable[..., None]
) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        name = connection.info.dbname
        connection.execute(f"ALTER DATABASE {name} SET timezone = 'Pacific/Kiritimati'")  # 14 hours ahead
    late = ended(NOON + timedelta(hours=11, minutes=59) - DAY, "failed", "timeout", took_s=7)
    ended(NOON, took_s=5)
    spent(late, NOON - timedelta(hours=11, minutes=59), {OPUS: Use(1, 1, 1, 1, 0.125)})
    found = look(database, by=By.DAY)
    assert keys(found) == [f"{NOON - DAY:%Y-%m-%d}", f"{NOON:%Y-%m-%d}"]
    before, day = found.groups
    assert (before.sessions, before.turns, before.took.max_s) == (1, 0, 7)
    assert before.outcomes == (Outcome(Status.FAILED, Reason.TIMEOUT, 1),)
    assert (day.sessions, day.turns, day.cost_usd, day.took.p50_s) == (1, 1, 0.125, 5)
    assert (found.total.sessions, found.total.turns, found.total.cost_usd) == (2, 1, 0.125)


def test_threads_stand_by_what_they_cost_and_those_of_none_together(
    database: Database, ended: Callable[..., UUID], spent: Callable[..., None]
) -> None:
    for thread, cost_usd in (("cheap", 0.1), ("dear", 5.0), (None, 1.0), ("dear", 2.0)):
        spent(ended(NOON, thread=thread), NOON, {OPUS: Use(1, 1, 1, 1, cost_usd)})
    ended(NOON, thread="free")
    found = look(database, by=By.THREAD)
    assert [(figures.key, figures.cost_usd, figures.sessions) for figures in found.groups] == [
        ("dear", 7.0, 2),
        (None, 1.0, 1),
        ("cheap", 0.1, 1),
        ("free", 0.0, 1),
    ]
    assert (found.total.key, found.total.sessions, found.total.cost_usd) == (None, 5, 8.1)


def test_a_turn_of_two_models_counts_for_each_with_its_part(
    database: Database, ended: Callable[..., UUID], spent: Callable[..., None]
) -> None:
    session_id = ended(NOON)
    spent(session_id, NOON, {OPUS: Use(1, 2, 3, 4, 0.5), HAIKU: Use(10, 20, 30, 3_000_000_000, 0.25)})
    spent(session_id, NOON, {HAIKU: Use(1, 0, 0, 0, 0.0)}, model=HAIKU)
    spent(session_id, NOON, {}, model=OPUS)
    ended(NOON, took_s=3)
    found = look(database, by=By.MODEL)
    assert keys(found) == [OPUS, HAIKU, None]
    opus, haiku, none = of(found, OPUS), of(found, HAIKU), of(found, None)
    assert (opus.turns, opus.tokens, opus.cost_usd) == (2, Tokens(1, 2, 3, 4), 0.5)
    assert (haiku.turns, haiku.tokens, haiku.cost_usd) == (2, Tokens(11, 20, 30, 3_000_000_000), 0.25)
    # A session is that of the model of its last turn.
    assert (opus.sessions, haiku.sessions, none.sessions, none.took.max_s) == (1, 0, 1, 3)
    assert (found.total.turns, found.total.cost_usd, found.total.sessions) == (3, 0.75, 2)
    assert found.total.tokens == Tokens(12, 22, 33, 3_000_000_004)
