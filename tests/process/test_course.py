"""The rules by themselves: values and times in, orders out."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gsd_tasks.process.shim.course import KILL_BOUND_S, LINGER_S, Course, Order
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


def test_a_new_deadline_thaws_before_the_end_begins() -> None:
    """A stopped process would not hear a SIGTERM."""
    course = Course(SPEC, 0)
    assert orders(course, 1, boot_s=1000) == [Order.FREEZE]
    course.deadline_boot_s = 2000
    course.end(EndedBy.STOPPED, 2)

    assert orders(course, 2, boot_s=1000) == [Order.THAW, Order.INTERRUPT]


events = st.sampled_from(["output", "end", "lose", "exit", "extend", "expire", "pipes", "spool"])


@given(st.lists(st.tuples(st.floats(0.01, 40), events), max_size=30))
def test_whatever_happens_nothing_works_past_the_deadline_and_everything_ends(
    happenings: list[tuple[float, str]],
) -> None:
    """After each look: expired means frozen or killed, and waiting long enough always brings the kill."""
    course, now, still = Course(SPEC, 0), 0.0, False
    killed = False

    def look() -> None:
        nonlocal still, killed
        for order in orders(course, now, boot_s=now):
            still = order is Order.FREEZE or (still and order is not Order.THAW)
            killed = killed or order is Order.KILL
        assert killed or still == (now >= course.deadline_boot_s)

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
            case _:
                course.spool_failed(now)
        look()
    for _ in range(10):
        wait_s = course.wait_s(now, now)
        if wait_s is None:
            break
        now += wait_s + 0.001
        look()
    assert killed
    assert course.wait_s(now, now) is None
