from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gsd_tasks.domain.policy import (
    LONGEST_WAIT_S,
    PATIENT,
    PATIENT_TRIES,
    RETRYABLE,
    Backoff,
    Budget,
    Ending,
    Verdict,
    decide,
    judge_command,
)
from gsd_tasks.domain.session import OnLost
from gsd_tasks.domain.state import TRANSITIONS, Reason, Status, Wanted

FAILED = Ending(reason=Reason.EXIT_CODE, detail="the child exited with code 3", exit_code=3)
DONE = Ending(reason=Reason.FINISHED, succeeded=True, exit_code=0)
BACK = Ending(reason=Reason.WORKER_STOPPED, handed_back=True)
LOST = Ending(reason=Reason.CHILD_LOST, detail="the process that watched the child was killed")
TOLD = Ending(reason=Reason.CANCELLED, detail="it was told to end")
SPENT = Budget(tries=2, max_tries=3, recoveries=3, max_recoveries=3)
FRESH = Budget(max_tries=3)
NOW = datetime(2026, 11, 21, 15, 0, tzinfo=UTC)
FAILURES = [
    Reason.EXIT_CODE,
    Reason.SIGNALLED,
    Reason.IDLE_TIMEOUT,
    Reason.CLAUDE_ERROR,
    Reason.NO_RESULT,
    Reason.SPOOL_FAILED,
    Reason.INTERNAL,
    Reason.RATE_LIMITED,
    Reason.OVERLOADED,
    Reason.API_FAILED,
    Reason.UNREACHABLE,
    Reason.TIMEOUT,
    Reason.OUTPUT_LIMIT,
    Reason.WORKING_DIR,
    Reason.NO_CLAUDE,
    Reason.NO_CREDENTIALS,
    Reason.NO_SECRET,
    Reason.START_FAILED,
    Reason.PERMISSION_DENIED,
    Reason.MAX_TURNS,
    Reason.MAX_BUDGET,
    Reason.INTERRUPTED,
    Reason.UNAUTHENTICATED,
    Reason.REFUSED,
]


@pytest.mark.parametrize("budget", [Budget(), FRESH, SPENT])
@pytest.mark.parametrize(
    ("ending", "wanted", "on_lost", "status", "reason"),
    [
        (DONE, None, OnLost.FAIL, Status.COMPLETED, Reason.FINISHED),
        (DONE, Wanted.CANCEL, OnLost.FAIL, Status.COMPLETED, Reason.FINISHED),
        (DONE, Wanted.PAUSE, OnLost.FAIL, Status.COMPLETED, Reason.FINISHED),
        (FAILED, Wanted.CANCEL, OnLost.FAIL, Status.CANCELLED, Reason.CANCELLED),
        (FAILED, Wanted.PAUSE, OnLost.FAIL, Status.PAUSED, Reason.PAUSED),
        (LOST, Wanted.CANCEL, OnLost.REQUEUE, Status.CANCELLED, Reason.CANCELLED),
        (LOST, Wanted.PAUSE, OnLost.FAIL, Status.PAUSED, Reason.PAUSED),
        (BACK, None, OnLost.REQUEUE, Status.QUEUED, Reason.WORKER_STOPPED),
        (BACK, None, OnLost.FAIL, Status.FAILED, Reason.WORKER_STOPPED),
        (BACK, Wanted.CANCEL, OnLost.REQUEUE, Status.CANCELLED, Reason.CANCELLED),
        (BACK, Wanted.PAUSE, OnLost.FAIL, Status.PAUSED, Reason.PAUSED),
        (TOLD, Wanted.CANCEL, OnLost.FAIL, Status.CANCELLED, Reason.CANCELLED),
        (TOLD, Wanted.PAUSE, OnLost.FAIL, Status.PAUSED, Reason.PAUSED),
        (TOLD, None, OnLost.FAIL, Status.QUEUED, Reason.RESUMED),
    ],
)
def test_what_counts_nothing_is_decided_whatever_is_left_of_the_budget(
    ending: Ending, wanted: Wanted | None, on_lost: OnLost, status: Status, reason: Reason, budget: Budget
) -> None:
    verdict = decide(ending, wanted=wanted, on_lost=on_lost, budget=budget)
    assert (verdict.status, verdict.reason, verdict.delay_s) == (status, reason, 0)
    assert (verdict.tries, verdict.recoveries) == (budget.tries, budget.recoveries)
    assert (Status.RUNNING, verdict.status) in TRANSITIONS


@pytest.mark.parametrize("reason", FAILURES)
@pytest.mark.parametrize("on_lost", OnLost)
def test_a_failure_counts_a_try_and_is_tried_again_if_that_may_help(reason: Reason, on_lost: OnLost) -> None:
    verdict = decide(Ending(reason=reason), wanted=None, on_lost=on_lost, budget=FRESH)
    assert (verdict.reason, verdict.tries, verdict.recoveries) == (reason, 1, 0)
    assert verdict.status is (Status.QUEUED if reason in RETRYABLE else Status.FAILED)
    assert (verdict.delay_s > 0) is (reason in RETRYABLE)


def test_limits_refusals_and_what_could_not_begin_are_not_tried_again() -> None:
    once_is_enough = {
        Reason.TIMEOUT,
        Reason.OUTPUT_LIMIT,
        Reason.WORKING_DIR,
        Reason.NO_CLAUDE,
        Reason.NO_CREDENTIALS,
        Reason.NO_SECRET,
        Reason.START_FAILED,
        Reason.PERMISSION_DENIED,
        Reason.MAX_TURNS,
        Reason.MAX_BUDGET,
        Reason.INTERRUPTED,
        Reason.UNAUTHENTICATED,
        Reason.REFUSED,
    }
    assert set(FAILURES) - RETRYABLE == once_is_enough
    assert set(FAILURES) >= RETRYABLE >= PATIENT


@pytest.mark.parametrize(
    ("budget", "reason", "status", "detail"),
    [
        (Budget(), Reason.EXIT_CODE, Status.FAILED, "it broke"),
        (FRESH, Reason.EXIT_CODE, Status.QUEUED, "it broke; try 2 of 3 begins in 4 s"),
        (replace(FRESH, tries=1), Reason.EXIT_CODE, Status.QUEUED, "it broke; try 3 of 3 begins in 8 s"),
        (replace(FRESH, tries=2), Reason.EXIT_CODE, Status.FAILED, "it broke; it was try 3 of 3"),
        (FRESH, Reason.TIMEOUT, Status.FAILED, "it broke; such a failure is not tried again"),
        (replace(FRESH, tries=2), Reason.TIMEOUT, Status.FAILED, "it broke; it was try 3 of 3"),
    ],
)
def test_the_tries_are_used_up_one_by_one_and_the_sentence_says_so(
    budget: Budget, reason: Reason, status: Status, detail: str
) -> None:
    ending = Ending(reason=reason, detail="it broke")
    verdict = decide(ending, wanted=None, on_lost=OnLost.FAIL, budget=budget, chance=0.5)
    assert (verdict.status, verdict.detail) == (status, detail)
    assert verdict.tries == budget.tries + 1


@pytest.mark.parametrize("reason", sorted(PATIENT))
@pytest.mark.parametrize(
    ("budget", "status", "detail"),
    [
        (Budget(), Status.QUEUED, "it broke; try 2 of 30 begins in 4 s"),
        (FRESH, Status.QUEUED, "it broke; try 2 of 30 begins in 4 s"),
        (Budget(tries=28), Status.QUEUED, "it broke; it waits until 15:07 UTC, then try 30 of 30 begins"),
        (Budget(tries=29), Status.FAILED, "it broke; it was try 30 of 30"),
        (Budget(tries=29, max_tries=40), Status.QUEUED, "it broke; it waits until 15:07 UTC, then try 31 of 40 begins"),
        (Budget(tries=39, max_tries=40), Status.FAILED, "it broke; it was try 40 of 40"),
    ],
)
def test_what_is_the_apis_fault_is_tried_again_even_where_one_try_was_asked_for(
    reason: Reason, budget: Budget, status: Status, detail: str
) -> None:
    ending = Ending(reason=reason, detail="it broke")
    verdict = decide(ending, wanted=None, on_lost=OnLost.FAIL, budget=budget, chance=0.5, now=NOW)
    assert (verdict.status, verdict.detail) == (status, detail)
    assert verdict.tries == budget.tries + 1


def test_all_the_tries_of_a_patient_session_last_for_hours() -> None:
    ending = Ending(reason=Reason.OVERLOADED)
    budgets = (Budget(tries=tries) for tries in range(PATIENT_TRIES))
    rests = [decide(ending, wanted=None, on_lost=OnLost.FAIL, budget=budget, chance=0.5).delay_s for budget in budgets]
    assert 2 * 3600 < sum(rests) < 4 * 3600


def test_a_failure_of_its_own_after_many_of_the_apis_is_its_last() -> None:
    ending = Ending(reason=Reason.CLAUDE_ERROR, detail="it broke")
    verdict = decide(ending, wanted=None, on_lost=OnLost.FAIL, budget=replace(FRESH, tries=7))
    assert verdict.status is Status.FAILED
    assert verdict.detail == "it broke; it was try 8, and tries beyond 3 are for faults of the API alone"


@pytest.mark.parametrize(
    ("wait", "least_s", "most_s", "words"),
    [
        (timedelta(hours=3), 3 * 3600, 3 * 3600 + 5, "it waits until 18:00 UTC, then try 2 of 30 begins"),
        (timedelta(hours=9), 9 * 3600, 9 * 3600 + 5, "it waits until 22 Nov 00:00 UTC, then try 2 of 30 begins"),
        (
            timedelta(days=400),
            LONGEST_WAIT_S,
            LONGEST_WAIT_S,
            "it waits until 28 Nov 15:00 UTC, then try 2 of 30 begins",
        ),
        (timedelta(seconds=45), 45, 50, "try 2 of 30 begins in 49 s"),
        # The usual rest is longer, or the time is past.
        (timedelta(seconds=0.5), 3.75, 5, "try 2 of 30 begins in 5 s"),
        (timedelta(hours=-3), 3.75, 3.75, "try 2 of 30 begins in 4 s"),
    ],
)
def test_a_session_waits_for_as_long_as_the_api_says_and_for_a_week_at_most(
    wait: timedelta, least_s: float, most_s: float, words: str
) -> None:
    elsewhere = timezone(timedelta(hours=-8))
    ending = Ending(reason=Reason.RATE_LIMITED, detail="hit", retry_at=(NOW + wait).astimezone(elsewhere))
    verdict = decide(ending, wanted=None, on_lost=OnLost.FAIL, chance=0.5, now=NOW.astimezone(elsewhere))
    assert (verdict.status, verdict.detail) == (Status.QUEUED, f"hit; {words}")
    assert least_s <= verdict.delay_s <= most_s


def test_a_time_to_try_again_needs_the_time() -> None:
    with pytest.raises(ValueError, match="needs the time"):
        decide(Ending(reason=Reason.RATE_LIMITED, retry_at=NOW), wanted=None, on_lost=OnLost.FAIL)


def test_those_who_wait_for_the_same_limit_do_not_come_back_at_the_same_moment() -> None:
    ending = Ending(reason=Reason.RATE_LIMITED, retry_at=NOW + timedelta(hours=1))
    delays = [
        decide(ending, wanted=None, on_lost=OnLost.FAIL, chance=chance, now=NOW).delay_s
        for chance in (0, 0.3, 0.6, 0.9)
    ]
    assert len(set(delays)) == 4
    assert min(delays) > 3600


def test_without_a_sentence_of_its_own_the_reason_is_said() -> None:
    verdict = decide(Ending(reason=Reason.NO_RESULT), wanted=None, on_lost=OnLost.FAIL, budget=FRESH)
    assert verdict.detail == "no_result; try 2 of 3 begins in 3 s"


@pytest.mark.parametrize("reason", [Reason.CHILD_LOST, Reason.LEASE_LOST])
@pytest.mark.parametrize(
    ("on_lost", "recoveries", "status", "counted", "detail"),
    [
        (OnLost.REQUEUE, 0, Status.QUEUED, 1, "gone; recovery 1 of 2"),
        (OnLost.REQUEUE, 1, Status.QUEUED, 2, "gone; recovery 2 of 2"),
        (OnLost.REQUEUE, 2, Status.FAILED, 2, "gone; its recoveries are used up: 2"),
        (OnLost.FAIL, 0, Status.FAILED, 0, "gone"),
    ],
)
def test_a_lost_child_goes_by_what_the_producer_said_about_that_and_costs_no_try(
    reason: Reason, on_lost: OnLost, recoveries: int, status: Status, counted: int, detail: str
) -> None:
    budget = Budget(tries=1, max_tries=2, recoveries=recoveries, max_recoveries=2)
    verdict = decide(Ending(reason=reason, detail="gone"), wanted=None, on_lost=on_lost, budget=budget)
    assert verdict == Verdict(
        status=status,
        reason=reason,
        detail=detail,
        tries=1,
        recoveries=counted,
        delay_s=0,
        ending=verdict.ending,
    )


@given(
    tries=st.integers(1, 100),
    chance=st.floats(0, 1, exclude_max=True),
    base_s=st.floats(0, 1e4),
    cap_s=st.floats(0, 1e6),
)
def test_a_rest_is_never_longer_than_the_cap_nor_shorter_than_half_of_what_it_has_doubled_to(
    tries: int, chance: float, base_s: float, cap_s: float
) -> None:
    delay_s = Backoff(base_s=base_s, cap_s=cap_s).delay_s(tries, chance)
    whole_s = min(base_s * 2 ** (tries - 1), cap_s)
    assert whole_s / 2 <= delay_s <= whole_s


@given(budget=st.builds(Budget, tries=st.integers(0, 99), max_tries=st.integers(1, 100)), chance=st.floats(0, 0.999))
def test_a_failure_is_queued_again_exactly_as_long_as_tries_are_left(budget: Budget, chance: float) -> None:
    verdict = decide(FAILED, wanted=None, on_lost=OnLost.FAIL, budget=budget, chance=chance)
    assert (verdict.status is Status.QUEUED) is (verdict.tries < budget.max_tries)
    assert verdict.delay_s <= Backoff().cap_s


def test_a_command_succeeds_with_zero_alone() -> None:
    assert judge_command(0, None).succeeded
    assert judge_command(7, None).detail == "the child exited with code 7"
    killed = judge_command(None, 9)
    assert (killed.reason, killed.detail) == (Reason.SIGNALLED, "the child was ended by SIGKILL")
