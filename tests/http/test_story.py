"""The order in which a session's rows and transitions are told, whoever reads them and whenever."""

from __future__ import annotations

import itertools
import random
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from gsd_tasks.domain.errors import InvalidValue
from gsd_tasks.domain.session import HistoryEntry, OutputRow, SessionId, Stream
from gsd_tasks.domain.state import Reason, Status
from gsd_tasks.http.live.story import BEGINNING, Position, tell

SESSION = SessionId(UUID(int=1))
NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)

Told = list[tuple[Position, HistoryEntry | OutputRow]]


def _row(seq: int, attempt: int, at_s: float = 0) -> OutputRow:
    return OutputRow(SESSION, seq, attempt, Stream.STDOUT, NOON + timedelta(seconds=at_s), "line", None, eol=True)


def _entry(number: int, before: Status | None, after: Status, attempt: int, at_s: float = 0) -> HistoryEntry:
    return HistoryEntry(
        id=number,
        session_id=SESSION,
        from_status=before,
        to_status=after,
        attempt=attempt,
        worker=None,
        reason=Reason.CLAIMED,
        detail=None,
        at=NOON + timedelta(seconds=at_s),
    )


ENQUEUED = _entry(10, None, Status.QUEUED, 0)
STARTED = _entry(20, Status.QUEUED, Status.RUNNING, 1, 1)
ADOPTED = _entry(25, Status.RUNNING, Status.RUNNING, 1, 3)
REQUEUED = _entry(30, Status.RUNNING, Status.QUEUED, 1, 5)
PAUSED = _entry(31, Status.QUEUED, Status.PAUSED, 1, 5)
RESUMED = _entry(32, Status.PAUSED, Status.QUEUED, 1, 5)
STARTED_AGAIN = _entry(40, Status.QUEUED, Status.RUNNING, 2, 6)
COMPLETED = _entry(50, Status.RUNNING, Status.COMPLETED, 2, 9)
ENTRIES = [ENQUEUED, STARTED, ADOPTED, REQUEUED, PAUSED, RESUMED, STARTED_AGAIN, COMPLETED]
ROWS = [_row(1, 1, 2), _row(2, 1, 2.5), _row(3, 1, 4), _row(4, 2, 7), _row(5, 2, 8)]
STORY = [ENQUEUED, STARTED, *ROWS[:2], ADOPTED, ROWS[2], REQUEUED, PAUSED, RESUMED, STARTED_AGAIN, *ROWS[3:], COMPLETED]


def _tell(
    position: Position, entries: list[HistoryEntry], rows: list[OutputRow], most_entries: int = 99, most_rows: int = 99
) -> Told:
    """What is told of these, read in pages of so many transitions and rows."""
    stood = [entry for entry in entries if entry.id <= position.history_id][-1:]
    following = [entry for entry in entries if entry.id > position.history_id]
    left = [row for row in rows if row.seq > position.seq]
    return list(
        tell(
            position,
            stood[0] if stood else None,
            following[:most_entries],
            left[:most_rows],
            has_all_rows=len(left) <= most_rows,
            has_all_entries=len(following) <= most_entries,
        )
    )


def test_an_attempt_begins_before_its_rows_and_ends_after_them() -> None:
    assert [what for _, what in _tell(BEGINNING, ENTRIES, ROWS)] == STORY


def test_what_follows_any_event_is_the_rest_of_the_story() -> None:
    told = _tell(BEGINNING, ENTRIES, ROWS)
    for number, (position, _) in enumerate(told, 1):
        assert _tell(position, ENTRIES, ROWS) == told[number:]


@pytest.mark.parametrize("most", list(itertools.product([1, 2, 3, 99], repeat=2)))
def test_pages_however_small_make_the_same_story(most: tuple[int, int]) -> None:
    told: Told = []
    while page := _tell(told[-1][0] if told else BEGINNING, ENTRIES, ROWS, *most):
        told += page
    assert [what for _, what in told] == STORY


def test_rows_of_an_attempt_whose_start_was_read_too_early_wait_for_it() -> None:
    told = _tell(BEGINNING, ENTRIES[:6], ROWS)
    assert [what for _, what in told] == STORY[:9]
    assert _tell(told[-1][0], ENTRIES[:7], ROWS)[0] == (Position(3, 40), STARTED_AGAIN)


def test_whenever_it_is_read_each_row_and_transition_is_told_once_and_in_order() -> None:
    """As they come to be committed, the rows being read later than the transitions."""
    for seed in range(300):
        chance = random.Random(seed)
        told: Told = []
        done = 0
        while len(told) < len(STORY):
            early = done
            most = chance.randrange(1, 5), chance.randrange(1, 5)
            done = min(len(STORY), done + chance.randrange(4))
            entries = [what for what in STORY[:early] if isinstance(what, HistoryEntry)]
            rows = [what for what in STORY[:done] if isinstance(what, OutputRow)]
            told += _tell(told[-1][0] if told else BEGINNING, entries, rows, *most)
        places = {what: number for number, (_, what) in enumerate(told)}
        assert len(places) == len(told) == len(STORY)
        assert [what for what in places if isinstance(what, HistoryEntry)] == ENTRIES
        assert [what for what in places if isinstance(what, OutputRow)] == ROWS
        assert places[STARTED] < places[ROWS[0]]
        assert places[ROWS[2]] < places[REQUEUED]
        assert places[STARTED_AGAIN] < places[ROWS[3]]
        assert places[ROWS[4]] < places[COMPLETED]


def test_a_position_reads_back_as_it_was_written() -> None:
    assert Position.parse(str(Position(12, 345))) == Position(12, 345)


@pytest.mark.parametrize("text", ["", "1", "1.", ".1", "1.2.3", "-1.2", "1.x", "1. 2", "٣.1", "1" * 19 + ".1"])
def test_what_is_no_position_is_refused(text: str) -> None:
    with pytest.raises(InvalidValue, match="after"):
        Position.parse(text)
