"""A checker that cannot fail proves nothing: each is shown what it is there to find."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from gsd_tasks.domain.state import Reason, Status
from tests.chaos.child import line
from tests.chaos.clock import S
from tests.chaos.evidence import Evidence, Row
from tests.chaos.invariants import Figure, check_causes
from tests.chaos.run import judge
from tests.chaos.stories import SESSION, grant, life, whole_story


@pytest.fixture
def story() -> Evidence:
    return whole_story()


def figures(evidence: Evidence) -> Counter[Figure]:
    counted: Counter[Figure] = Counter()
    for violation in judge(evidence):
        counted[violation.figure] += violation.times
    return counted


def rows_of(story: Evidence) -> list[Row]:
    return list(story.rows)


def counted_as(story: Evidence, rows: list[Row]) -> Evidence:
    """These rows with the numbers and counts that go with them, so that only what they say is wrong."""
    rows = [row._replace(seq=seq) for seq, row in enumerate(rows, 1)]
    lasts = {row.attempt: row.seq for row in rows}
    first, second = story.attempts
    return replace(
        story,
        rows=rows,
        sessions=[story.sessions[0]._replace(last_seq=len(rows))],
        attempts=[first._replace(last_seq=lasts[1]), second._replace(first_seq=lasts[1] + 1, last_seq=lasts[2])],
    )


def test_a_run_that_went_well_is_clean(story: Evidence) -> None:
    assert figures(story) == {}


def test_a_row_in_pieces_is_the_same_row(story: Evidence) -> None:
    rows = rows_of(story)
    torn = [rows[2]._replace(body=rows[2].body[:5]), rows[2]._replace(body=rows[2].body[5:])]

    assert figures(counted_as(story, [*rows[:2], *torn, *rows[3:]])) == {}


def test_a_row_that_is_missing_in_the_middle_is_lost(story: Evidence) -> None:
    rows = rows_of(story)
    del rows[3]

    assert figures(counted_as(story, rows)) == {Figure.LOST: 1}


def test_a_settled_attempt_without_its_last_rows_has_lost_them(story: Evidence) -> None:
    assert figures(counted_as(story, rows_of(story)[:-2])) == {Figure.LOST: 1}


def test_an_attempt_that_lost_its_worker_may_end_anywhere(story: Evidence) -> None:
    rows = rows_of(story)

    assert figures(counted_as(story, [*rows[:4], *rows[6:]])) == {}


def test_a_session_without_any_of_its_rows_has_lost_them(story: Evidence) -> None:
    assert figures(replace(story, rows=[]))[Figure.LOST] >= 16


def test_a_gap_in_the_numbers_is_a_loss(story: Evidence) -> None:
    rows = [row if row.seq < 9 else row._replace(seq=row.seq + 2) for row in rows_of(story)]
    found = figures(replace(story, rows=rows))

    assert found[Figure.LOST] >= 2


def test_a_row_that_is_there_twice_is_doubled(story: Evidence) -> None:
    rows = rows_of(story)

    found = figures(counted_as(story, [*rows[:9], rows[8], *rows[9:]]))

    # There is more now than the child wrote, too.
    assert found == {Figure.DOUBLED: 1, Figure.CHANGED: 1}


def test_two_rows_that_have_changed_places_are_out_of_order(story: Evidence) -> None:
    rows = rows_of(story)
    rows[9], rows[10] = rows[10], rows[9]

    assert figures(counted_as(story, rows)) == {Figure.DISORDERED: 1}


def test_a_row_of_an_attempt_among_those_of_the_next_is_out_of_order(story: Evidence) -> None:
    rows = rows_of(story)
    late = Row(SESSION, 0, 1, "stdout", line(SESSION, 1, "stdout", 7))

    assert figures(counted_as(story, [*rows[:8], late, *rows[8:]]))[Figure.DISORDERED] == 1


@pytest.mark.parametrize(
    "body",
    [
        line(SESSION, 2, "stdout", 4).replace(b"2 4 ", b"2 5 ", 1),
        line("another session", 2, "stdout", 4),
        line(SESSION, 2, "stderr", 4),
        b"something else\n",
    ],
    ids=["renumbered", "another session's", "another stream's", "nobody's"],
)
def test_a_row_that_its_child_did_not_write_is_changed(story: Evidence, body: bytes) -> None:
    rows = rows_of(story)
    rows[9] = rows[9]._replace(body=body)

    assert figures(counted_as(story, rows))[Figure.CHANGED] >= 1


def test_rows_of_a_child_that_never_was_are_changed(story: Evidence) -> None:
    assert figures(replace(story, lives=story.lives[1:])) == {Figure.CHANGED: 1}


def test_an_attempt_at_work_when_the_next_has_begun_overlaps(story: Evidence) -> None:
    first = life(1, 10)
    first.note("t", 31 * S, 0)
    first.note("t", 32 * S, 0)

    found = figures(replace(story, lives=[first, story.lives[1]], grants=[]))

    # It is at work after its own end as well.
    assert found == {Figure.OVERLAPPING: 2, Figure.OVERTIME: 2}


def test_a_helper_at_work_counts_as_its_child(story: Evidence) -> None:
    helper = life(1, 10)
    helper.is_helper = True
    helper.note("t", 31 * S, 0)

    assert figures(replace(story, lives=[*story.lives, helper], grants=[]))[Figure.OVERLAPPING] == 1


def test_an_attempt_with_two_children_overlaps(story: Evidence) -> None:
    assert figures(replace(story, lives=[*story.lives, life(2, 50)], grants=[]))[Figure.OVERLAPPING] == 1


def test_a_child_at_work_after_its_attempt_has_ended_is_overtime(story: Evidence) -> None:
    story.lives[1].note("t", 42 * S, 0)

    assert figures(story) == {Figure.OVERTIME: 1}


def test_a_child_at_work_past_its_deadline_is_overtime(story: Evidence) -> None:
    """The lease that ends at 13 s was seen unrenewed at 16 s, and there is a moment at 14, 15 and 16 s."""
    grants = [grant(1, 0, 12), grant(1, 1, 13, seen_s=16.5)]

    assert figures(replace(story, grants=grants)) == {Figure.OVERTIME: 3 * 3}


def test_a_child_at_work_between_two_leases_that_follow_each_other_is_overtime(story: Evidence) -> None:
    """Until 13 s, then renewed at 16 s: nothing can have been granted in between."""
    grants = [grant(1, 4, 13), grant(1, 5, 19)]

    assert figures(replace(story, grants=grants)) == {Figure.OVERTIME: 2 * 3}


def test_between_leases_that_were_not_all_seen_nothing_is_known(story: Evidence) -> None:
    assert figures(replace(story, grants=[grant(1, 4, 13), grant(1, 6, 19)])) == {}


@pytest.mark.parametrize("status", [Status.QUEUED, Status.RUNNING, Status.PAUSED])
def test_a_session_that_has_not_ended_is_found(story: Evidence, status: Status) -> None:
    story.sessions[0] = story.sessions[0]._replace(status=status)

    assert figures(story)[Figure.UNENDED] == 1


def test_a_child_that_dies_although_nobody_struck_it_is_unexplained(story: Evidence) -> None:
    story.attempts[1] = story.attempts[1]._replace(reason=Reason.SIGNALLED)

    assert figures(story) == {Figure.UNEXPLAINED: 1}
    assert figures(replace(story, struck={(SESSION, 2)})) == {}


def test_a_shim_whose_worker_was_killed_before_its_child_began_is_explained(story: Evidence) -> None:
    story.attempts[0] = story.attempts[0]._replace(reason=Reason.CHILD_LOST)
    launching = replace(story, lives=story.lives[1:], killed_ns=[10 * S])

    assert not list(check_causes(launching))
    for unexplained in (replace(launching, killed_ns=[26 * S]), replace(launching, lives=story.lives)):
        assert [violation.figure for violation in check_causes(unexplained)] == [Figure.UNEXPLAINED]


def test_a_session_that_fails_although_it_was_to_be_queued_again_is_unexplained(story: Evidence) -> None:
    story.sessions[0] = story.sessions[0]._replace(status=Status.FAILED, reason=Reason.LEASE_LOST)
    story.history[-1] = story.history[-1]._replace(to_status=Status.FAILED)

    assert figures(story) == {Figure.UNEXPLAINED: 1}


def test_a_fault_of_our_own_is_unexplained(story: Evidence) -> None:
    story.attempts[0] = story.attempts[0]._replace(reason=Reason.INTERNAL)

    assert figures(story) == {Figure.UNEXPLAINED: 1}


def test_a_history_with_a_step_missing_does_not_replay(story: Evidence) -> None:
    del story.history[2]

    assert figures(story) == {Figure.HISTORY: 1}


def test_a_history_that_ends_elsewhere_does_not_replay(story: Evidence) -> None:
    story.sessions[0] = story.sessions[0]._replace(status=Status.CANCELLED)

    assert figures(story) == {Figure.HISTORY: 1}


def test_a_step_that_the_table_does_not_know_does_not_replay(story: Evidence) -> None:
    story.history[2] = story.history[2]._replace(to_status=Status.FAILED)
    story.history[3] = story.history[3]._replace(from_status=Status.FAILED)

    assert figures(story) == {Figure.HISTORY: 1}


def test_a_claim_that_no_attempt_counts_does_not_replay(story: Evidence) -> None:
    story.sessions[0] = story.sessions[0]._replace(attempt=3)

    assert figures(story) == {Figure.HISTORY: 1}


def test_attempts_that_leave_out_a_row_do_not_replay(story: Evidence) -> None:
    story.attempts[1] = story.attempts[1]._replace(first_seq=8)

    assert figures(story) == {Figure.HISTORY: 1}


def test_a_process_that_is_left_is_found(story: Evidence) -> None:
    assert figures(replace(story, left=["process 1"])) == {Figure.LEFT: 1}


def test_a_lock_that_stood_too_long_is_found(story: Evidence) -> None:
    assert figures(replace(story, locks=["backend 1"])) == {Figure.LOCKS: 1}
