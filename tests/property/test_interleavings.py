"""Random walks over everything that is done to sessions, against a model of it, on a real Postgres.

One by one, and two at once: the second begins before the first is committed, waits for it where it must, and both must
come out as if one had followed the other. `INTERLEAVINGS=20` walks twenty times as much.
"""

from __future__ import annotations

from typing import ClassVar, Final

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from tests.property.steps import SCALE, STEPS, Step, enqueue, to_operation
from tests.property.world import Bench, World

WALKS: Final = 50
STEPS_A_WALK: Final = 40


class Interleavings(RuleBasedStateMachine):
    bench: ClassVar[Bench]

    def __init__(self) -> None:
        super().__init__()
        self.world = World(self.bench)

    @initialize(choice=st.integers(0, 7))
    def begin(self, choice: int) -> None:
        operation = enqueue(self.world, choice)
        assert operation is not None
        self.world.do(operation)

    @rule(step=STEPS)
    def alone(self, step: Step) -> None:
        operation = to_operation(self.world, step)
        if operation is not None:
            self.world.do(operation)

    @rule(first=STEPS, second=STEPS, commits=st.booleans())
    def at_once(self, first: Step, second: Step, commits: bool) -> None:
        one, other = to_operation(self.world, first), to_operation(self.world, second)
        if one is not None and other is not None:
            self.world.do_at_once(one, other, commits=commits)


def walk(bench: Bench, how: settings) -> None:
    """So many walks, or until one finds something."""
    Interleavings.bench = bench
    always = settings(
        how, stateful_step_count=STEPS_A_WALK, deadline=None, suppress_health_check=list(HealthCheck), database=None
    )
    run_state_machine_as_test(Interleavings, settings=always)


@pytest.mark.timeout(300 + 120 * SCALE)  # what is found is made smaller
def test_whatever_is_done_in_whatever_order_the_statements_do_what_the_model_does(bench: Bench) -> None:
    walk(bench, settings(max_examples=round(WALKS * SCALE)))
