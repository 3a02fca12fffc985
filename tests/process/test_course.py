"""The rules by themselves: values and times in, orders out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gsd_tasks.process.shim.course import KILL_BOUND_S, LINGER_S, WAKE_S, Course, Order
from gsd_tasks.process.shim.protocol import Containment, LaunchSpec
from gsd_tasks.process.spool.exits import EndedBy

SPEC = LaunchSpec(
    session_id="s",
    attempt=1,
    argv=("true",),
    env={},
    cwd="/",
    stdin=None,
    timeout_s=100,
    idle_timeout_s=50,
    max_output_bytes=1,
    grace_s=5,
    freeze_bound_s=600,
    interrupt_first=True,
    containment=Containment.SUBREAPER,
    deadline_boot_s=1000,
)


def orders(course: Course, now: float, boot_s: float = 0) -> list[Order]:
    given: list[Order] = []
    while order := course.next_order(now, boot_s):
        given.append(order)
    return given


def test_an_end_goes_step_by_step() -> None:
    course = Course(SPEC, 0)
    course.end(EndedBy.STOPPED, 1)

    assert orders(course, 1) == [Order.INTERRUPT]
    assert course.wait_s(1, 0) == SPEC.grace_s
    assert orders(course, 5.9) == []
    assert orders(course, 6) == [Order.TERMINATE]
    assert orders(course, 11) == [Order.KILL]
    assert orders(course, 11 + KILL_BOUND_S) == [Order.KILL_INIT]
    assert course.wait_s(100, 0) is None


def test_the_first_cause_stays() -> None:
    course = Course(SPEC, 0)
    course.end(EndedBy.STOPPED, 1)
    orders(course, 1)
    course.end(EndedBy.OUTPUT_LIMIT, 2)

    assert course.ended_by is EndedBy.STOPPED
    assert orders(course, 2) == []


def test_a_spool_that_failed_is_told_whatever_else_happened() -> None:
    course = Course(SPEC, 0)
    course.end(EndedBy.STOPPED, 1)
    course.child_exited(2)
    course.spool_failed(3)

    assert course.ended_by is EndedBy.SPOOL_FAILED


def test_a_child_that_has_exited_was_not_ended_by_what_came_later() -> None:
    course = Course(SPEC, 0)
    course.child_exited(1)
    course.end(EndedBy.STOPPED, 1)

    assert course.ended_by is None
    assert orders(course, 1) == []
    assert orders(course, 1 + LINGER_S) == [Order.KILL]


def test_with_the_pipes_closed_there_is_nothing_to_linger_for() -> None:
    course = Course(SPEC, 0)
    course.pipes_closed(1)
    assert orders(course, 1) == []

    course.child_exited(2)
    course.pipes_closed(2)

    assert orders(course, 2) == [Order.KILL]


def test_output_puts_off_the_idle_timeout_and_not_the_other() -> None:
    course = Course(SPEC, 0)
    for now in (40, 80):
        assert orders(course, now) == []
        course.output_came(now)
    assert course.wait_s(80, 0) == 20

    assert orders(course, 100) == [Order.INTERRUPT]
    assert course.ended_by is EndedBy.TIMEOUT


def test_past_the_deadline_the_end_is_a_kill() -> None:
    course = Course(SPEC, 0)
    course.end(EndedBy.STOPPED, 1)

    assert orders(course, 1, boot_s=1000) == [Order.KILL]


def test_init_is_woken_while_it_owes_a_freeze_and_then_killed_with_everything() -> None:
    """It was stopped, or hangs, and its tree works past the deadline."""
    course = Course(SPEC, 0)
    assert orders(course, 1, boot_s=1000) == []
    assert course.wait_s(1, 1000) == pytest.approx(WAKE_S)
    assert orders(course, 1 + WAKE_S, boot_s=1000) == [Order.WAKE_INIT]
    assert orders(course, 1 + 1.5 * WAKE_S, boot_s=1000) == []
    assert orders(course, 1 + 2.1 * WAKE_S, boot_s=1000) == [Order.WAKE_INIT]

    assert orders(course, 1 + KILL_BOUND_S, boot_s=1001) == [Order.KILL_INIT]
    assert course.ended_by is EndedBy.LEASE_LOST
    assert course.wait_s(100, 1100) is None


def test_init_has_a_while_to_thaw_too() -> None:
    """Else a child would stand still for ever, with a lease that is renewed."""
    course = Course(SPEC, 0)
    course.froze(1)
    assert orders(course, 2, boot_s=999) == []
    assert orders(course, 3, boot_s=999) == [Order.WAKE_INIT]

    assert orders(course, 2 + KILL_BOUND_S, boot_s=999) == [Order.KILL_INIT]


def test_an_init_that_froze_while_the_shim_stood_still_is_in_no_debt() -> None:
    """What it reported is heard before the time that has passed is counted."""
    course = Course(SPEC, 0)
    orders(course, 1, boot_s=1000)
    course.froze(1.001)

    assert orders(course, 100, boot_s=1099) == []
    assert course.wait_s(100, 1099) == 1.001 + SPEC.freeze_bound_s - 100


def test_a_frozen_tree_is_ended_at_its_bound() -> None:
    course = Course(SPEC, 0)
    course.froze(10)

    assert orders(course, 10 + SPEC.freeze_bound_s - 1, boot_s=1000) == []
    assert orders(course, 10 + SPEC.freeze_bound_s, boot_s=1000) == [Order.KILL]
    assert course.ended_by is EndedBy.LEASE_LOST


def test_no_limit_counts_what_was_frozen() -> None:
    """By init's own times: they may be long ago when the shim hears of them."""
    course = Course(SPEC, 0)
    course.froze(10)
    course.thawed(210)

    assert orders(course, 230) == []
    assert course.wait_s(230, 0) == 200 + SPEC.idle_timeout_s - 230


events = st.sampled_from(["output", "end", "lose", "exit", "extend", "expire", "pipes", "spool", "hang"])


@given(st.lists(st.tuples(st.floats(0.01, 40), events), max_size=30))
def test_whatever_happens_everything_ends_and_no_init_is_waited_for(happenings: list[tuple[float, str]]) -> None:
    """Waiting long enough always brings the kill, with an init that obeys and with one that hangs from some time on."""
    course, now, hangs = Course(SPEC, 0), 0.0, False
    killed = False

    def look() -> None:
        nonlocal killed
        expired = now >= course.deadline_boot_s
        if not hangs and expired and not course.frozen:
            course.froze(now)
        if not hangs and course.frozen and not expired:
            course.thawed(now)
        for order in orders(course, now, boot_s=now):
            assert not (expired and order in {Order.INTERRUPT, Order.TERMINATE})
            killed = killed or order in {Order.KILL, Order.KILL_INIT}

    for passed, happening in happenings:
        now += passed
        match happening:
            case "output":
                course.output_came(now)
            case "end":
                course.end(EndedBy.STOPPED, now)
            case "lose":
                course.end(EndedBy.LEASE_LOST, now)
            case "exit":
                course.child_exited(now)
            case "extend":
                course.deadline_boot_s = now + 30
            case "expire":
                course.deadline_boot_s = now
            case "pipes":
                course.pipes_closed(now)
            case "hang":
                hangs = True
            case _:
                course.spool_failed(now)
        look()
    for _ in range(10 + round(KILL_BOUND_S / WAKE_S)):  # an init that hangs is woken so often before it is given up
        wait_s = course.wait_s(now, now)
        if wait_s is None:
            break
        now += wait_s + 0.001
        look()
    assert killed
    assert course.wait_s(now, now) is None
