"""Turns are written by the holder alone, once, and beside the row that their result stands in."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from sqlalchemy import text

from gsd_tasks.domain.claude_results import Tokens
from gsd_tasks.domain.costs import RecordedTurn, Totals, Turn, Use
from gsd_tasks.domain.policy import Ending, decide
from gsd_tasks.domain.session import Holder, OnLost, SessionId, Stream, Submission
from gsd_tasks.domain.state import Reason
from gsd_tasks.domain.transcript import Entry
from gsd_tasks.store import Claim, Database, outputs, sessions, transcript, transitions, turns
from gsd_tasks.store.leases import Progress
from tests.waiting import until

NOW = datetime.now(UTC)
BACK = decide(Ending(reason=Reason.WORKER_STOPPED, handed_back=True), wanted=None, on_lost=OnLost.REQUEUE)
DONE = decide(Ending(reason=Reason.FINISHED, succeeded=True, exit_code=0), wanted=None, on_lost=OnLost.FAIL)
TURN = Turn(
    seq=1,
    model="claude-opus-5-5",
    subtype="success",
    is_error=False,
    num_turns=3,
    duration_s=1.5,
    tokens=Tokens(3_000_000_000, 2, 3, 4),
    cost_usd=0.25,
    models={"claude-opus-5-5": Use(3_000_000_000, 2, 3, 4, 0.25)},
)


@pytest.fixture
def held(database: Database, enqueue: Callable[..., SessionId], claim: Callable[..., Claim]) -> Claim:
    """Of a Claude session with two output rows."""
    held = claim(enqueue(Submission(prompt="Hello", working_dir="/")))
    write_rows(database, held, 0, 2)
    return held


def write_rows(database: Database, held: Claim, before: int, count: int) -> None:
    batch = outputs.Batch()
    for _ in range(count):
        batch.add(Stream.STDOUT, NOW, b"line", eol=True)
    with database.connection() as connection:
        assert outputs.append(connection, held, batch, Progress(before), Progress(before + count))


def write_entries(database: Database, held: Claim, *costs_usd: float) -> None:
    entries = transcript.Entries()
    for position, cost_usd in enumerate(costs_usd):
        line = f'{{"type":"cost-state","totalCostUSD":{cost_usd}}}'
        entries.add(10 * position, Entry("cost-state", None), line)
        entries.add(10 * position + 5, Entry("user", None), '{"type":"user"}')
    with database.connection() as connection:
        assert transcript.append(connection, held, entries, before=0, after=100)


def record(database: Database, held: Claim, turn: Turn) -> bool:
    with database.connection() as connection:
        return turns.record(connection, held, turn)


def recorded(database: Database, held: Claim) -> list[RecordedTurn]:
    with database.connection() as connection:
        return turns.of_session(connection, held.session.id)


def as_measured(turn: RecordedTurn) -> Turn:
    return Turn(**{field.name: getattr(turn, field.name) for field in fields(Turn)})


def test_a_turn_is_read_back_as_it_was_recorded(database: Database, held: Claim) -> None:
    bare = replace(TURN, seq=2, model=None, models={}, is_error=True)
    assert record(database, held, TURN)
    assert record(database, held, bare)
    first, second = recorded(database, held)
    assert [as_measured(first), as_measured(second)] == [TURN, bare]
    assert (first.session_id, first.attempt) == (held.session.id, 1)
    assert abs(first.at - datetime.now(UTC)) < timedelta(minutes=1)


def test_a_turn_that_is_recorded_again_stays_as_it_was(database: Database, held: Claim) -> None:
    assert record(database, held, TURN)
    before = recorded(database, held)
    assert record(database, held, replace(TURN, cost_usd=99))
    assert recorded(database, held) == before


@pytest.mark.parametrize("change", ["holder", "attempt", "settled"])
def test_who_does_not_hold_the_session_records_nothing(database: Database, held: Claim, change: str) -> None:
    stranger = held
    if change == "settled":
        with database.connection() as connection:
            assert transitions.settle(connection, held, DONE)
    else:
        stranger = replace(held, holder=Holder(uuid4())) if change == "holder" else replace(held, attempt=2)
    assert not record(database, stranger, TURN)
    assert recorded(database, held) == []


def test_a_turn_whose_row_is_not_committed_is_not_recorded_yet(database: Database, held: Claim) -> None:
    third = replace(TURN, seq=3)
    assert not record(database, held, third)
    write_rows(database, held, 2, 1)
    assert record(database, held, third)


def test_a_holder_that_is_fenced_while_it_records_writes_nothing(database: Database, held: Claim) -> None:
    """What takes the lease has begun first and commits last: the turn waits for it, and finds the lease taken."""
    answers: list[bool] = []
    with database.engine.connect() as taker:
        taker = taker.execution_options(isolation_level="READ COMMITTED")  # noqa: PLW2901
        taker.execute(text("UPDATE leases SET holder = gen_random_uuid()"))
        recorder = threading.Thread(target=lambda: answers.append(record(database, held, TURN)))
        recorder.start()
        until(lambda: _waits_for_a_lock(database))
        taker.commit()
        recorder.join()
    assert answers == [False]
    assert recorded(database, held) == []


def test_the_turns_of_a_session_count_on_over_attempts_and_go_with_it(
    database: Database, held: Claim, claim: Callable[..., Claim]
) -> None:
    assert record(database, held, TURN)
    with database.connection() as connection:
        assert transitions.settle(connection, held, BACK)
    again = claim(held.session.id)
    assert record(database, again, replace(TURN, seq=2))
    assert [(turn.seq, turn.attempt) for turn in recorded(database, held)] == [(1, 1), (2, 2)]
    with database.connection() as connection:
        assert transitions.settle(connection, again, DONE)
        assert sessions.delete_ended(connection, held.session.id)
    assert recorded(database, held) == []


def test_an_attempt_counts_on_from_what_was_there_before_it(
    database: Database, held: Claim, claim: Callable[..., Claim]
) -> None:
    """Its own `cost-state` is no beginning, and neither is one that a snapshot has taken out of the conversation."""

    def begin(held: Claim) -> Totals:
        with database.connection() as connection:
            return turns.begin(connection, held)

    assert begin(held) == Totals()
    write_entries(database, held, 0.1, 0.2)
    assert begin(held) == Totals()
    with database.connection() as connection:
        assert transitions.settle(connection, held, BACK)
    again = claim(held.session.id)
    assert begin(again) == Totals(0.2)
    write_entries(database, again, 0.3)
    assert begin(again) == Totals(0.2)
    with database.connection() as connection:
        connection.execute(text("UPDATE sessions SET conversation = '{[1,2],[5,)}'"))
    assert begin(again) == Totals(0.1)


def _waits_for_a_lock(database: Database) -> bool:
    waiting = text(
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    )
    with database.connection() as connection:
        return bool(connection.execute(waiting).scalar_one())
