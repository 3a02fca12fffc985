"""The table and the drawing of docs/state-machine.md are those of the code."""

from __future__ import annotations

import inspect

from gsd_tasks.domain.policy import LOST, PATIENT, RETRYABLE
from gsd_tasks.domain.state import TRANSITIONS, Reason
from gsd_tasks.store import adoption, transitions
from tests import state_machine_page as page

ADOPTION = ("running", "running")


def test_the_page_has_every_pair_of_states_and_no_other() -> None:
    documented = {(row.before, row.after) for row in page.transitions()}

    assert documented == {*TRANSITIONS, (page.NEW, "queued"), ADOPTION}


def test_the_page_names_the_functions_that_change_a_status() -> None:
    writing = {
        name
        for name, function in inspect.getmembers(transitions, inspect.isfunction)
        if function.__module__.startswith(f"{transitions.__name__}.") and not name.startswith("find")
    }

    assert {row.function for row in page.transitions()} - {page.NONE_YET} == writing | {"adopt"}
    assert [row.function for row in page.transitions() if (row.before, row.after) == ADOPTION] == ["adopt"]
    assert inspect.isfunction(adoption.adopt)


def test_the_page_has_every_reason() -> None:
    named = {reason for row in page.transitions() for reason in row.reasons}

    assert named == set(Reason)
    assert all(row.reasons for row in page.transitions() if row.function != page.NONE_YET)


def test_the_page_counts_what_the_policy_counts() -> None:
    (requeued,) = [row for row in page.transitions() if row[:3] == ("running", "queued", "settle")]
    (failed,) = [row for row in page.transitions() if row[:3] == ("running", "failed", "settle")]

    assert set(LOST) <= failed.reasons < requeued.reasons
    assert requeued.reasons - failed.reasons == {Reason.RESUMED, Reason.MESSAGE}


def test_the_page_says_of_each_failure_what_it_means_and_whether_it_is_tried_again() -> None:
    (failed,) = [row for row in page.transitions() if row[:3] == ("running", "failed", "settle")]
    failures = failed.reasons - {Reason.WORKER_STOPPED}

    assert page.again() == {
        reason: "patiently"
        if reason in PATIENT
        else "tries"
        if reason in RETRYABLE
        else "recovery"
        if reason in LOST
        else "no"
        for reason in failures
    }


def test_the_drawing_shows_the_table() -> None:
    assert page.drawn() == {row[:3] for row in page.transitions() if row.function != page.NONE_YET}
