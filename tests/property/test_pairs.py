"""Every two operations that can meet, at once: each that does something as things stand, and whatever comes upon it.

The random walks hit upon most of these; here none is left to chance.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any, Final
from uuid import uuid4

import pytest

from gsd_tasks.domain.policy import Budget, decide
from gsd_tasks.domain.session import Holder
from gsd_tasks.domain.state import Wanted
from gsd_tasks.store.leases import Progress
from tests import state_machine_page as page
from tests.property import operations as op
from tests.property.operations import TAKEN, Operation
from tests.property.steps import ENDINGS, LONG, SCALE, enqueue
from tests.property.world import Bench, World, seen

Case = Callable[[World], Operation]
DONE, FAILED, HANDED_BACK, TOLD = 0, 1, 3, 5
#: What is submitted, by its place in `steps.REQUESTS`.
USUAL, NO_RETRIES, PUT_OFF, EXPIRED = 0, 1, 5, 6
#: How a session stands: what was submitted, and what was done to it since.
STANDS: Final[dict[str, tuple[int, Sequence[str]]]] = {
    "queued": (USUAL, []),
    "expired": (EXPIRED, []),
    "claimed": (USUAL, ["claim"]),
    "running": (USUAL, ["claim", "launch", "append"]),
    "paused": (USUAL, ["pause_idle"]),
    "failed": (NO_RETRIES, ["claim", "settle as failed"]),
}
MORE_STANDS: Final[dict[str, tuple[int, Sequence[str]]]] = {
    "running and to be paused": (USUAL, ["claim", "launch", "want pause"]),
    "in other hands": (USUAL, ["claim", "launch", "append", "adopt"]),
    "handed back": (USUAL, ["claim", "launch", "append", "hand back"]),
    "cancelled": (USUAL, ["cancel_idle"]),
}
#: Here it is enough to look at each operation by itself: what somebody has seen is no longer so.
ALONE: Final[dict[str, tuple[int, Sequence[str]]]] = {
    "put off": (PUT_OFF, []),
    "renewed since it was seen": (USUAL, ["claim", "launch", "look", "renew"]),
    "in other hands since it was seen": (USUAL, ["claim", "launch", "look", "adopt"]),
    "claimed again since it was seen": (USUAL, ["claim", "look", "hand back", "claim"]),
}
#: Together they go every way of docs/state-machine.md that a function goes.
WAYS: Final[tuple[tuple[int, Sequence[str]], ...]] = (
    (USUAL, ["claim", "adopt", "append", "settle as done"]),
    (NO_RETRIES, ["claim", "settle as failed", "retry", "pause_idle", "resume", "pause_idle", "cancel_idle", "retry"]),
    (USUAL, ["cancel_idle"]),
    (EXPIRED, ["expire"]),
    (USUAL, ["claim", "hand back"]),
    (USUAL, ["claim", "want pause", "settle as paused"]),
    (USUAL, ["claim", "want cancel", "settle as cancelled"]),
    (USUAL, ["claim", "recover", "claim", "want pause", "recover"]),
    (USUAL, ["claim", "want cancel", "recover"]),
    (NO_RETRIES, ["claim", "launch", "recover"]),
)


def claim(world: World) -> Operation:
    return op.Take(world.sessions[0], Holder(uuid4()), world.bench.workers[0], 1)


def adopt(before: int) -> Case:
    def adopt(world: World) -> Operation:
        session_id = world.sessions[0]
        attempt = world.model.sessions[session_id].attempt - before
        return op.Adopt(session_id, attempt, Holder(uuid4()), world.bench.workers[1], 2)

    return adopt


def append(which: int) -> Case:
    def append(world: World) -> Operation:
        session = world.model.sessions.get(world.sessions[0])
        lease = session.lease if session else None
        end = Progress(lease.last_seq, lease.stdout_bytes) if lease else Progress(0)
        return op.Append(world.claims[world.sessions[0]][which], end, ("a line",))

    return append


def settle(number: int, wanted: Wanted | None = None) -> Case:
    def settle(world: World) -> Operation:
        holder = world.claims[world.sessions[0]][-1]
        budget, on_lost = Budget.of(holder.session), holder.session.on_lost
        return op.Settle(holder, decide(ENDINGS[number], wanted=wanted, on_lost=on_lost, budget=budget, backoff=LONG))

    return settle


def idle(what: str) -> Case:
    return lambda world: op.Idle(world.sessions[0], what)


#: By anybody, at any time.
CASES: Final[dict[str, Case]] = {
    "claim": claim,
    "adopt": adopt(0),
    "adopt an earlier attempt": adopt(1),
    "recover": lambda world: op.Recover(seen(op.Look().apply(world.model))),
    "recover as seen": lambda world: op.Recover(world.looks[-1]),
    "look": lambda _: op.Look(),
    "expire": lambda _: op.Expire(),
    "sweep": lambda _: op.Sweep(),
    **{what: idle(what) for what in op.IDLE},
}
#: By whoever once had it.
HOLDERS: Final[dict[str, Case]] = {
    "append": append(-1),
    "append as the former holder": append(0),
    "renew": lambda world: op.Renew(world.claims[world.sessions[0]][-1]),
    "renew as the former holder": lambda world: op.Renew(world.claims[world.sessions[0]][0]),
    "launch": lambda world: op.MarkLaunching(world.claims[world.sessions[0]][-1]),
    "launch as the former holder": lambda world: op.MarkLaunching(world.claims[world.sessions[0]][0]),
    "settle as done": settle(DONE),
    "settle as failed": settle(FAILED),
    "settle as paused": settle(TOLD, Wanted.PAUSE),
    "settle as cancelled": settle(TOLD, Wanted.CANCEL),
    "hand back": settle(HANDED_BACK),
}


@pytest.mark.parametrize("how", ALONE)
def test_what_is_no_longer_so_has_no_effect(bench: Bench, how: str) -> None:
    each_alone(bench, how)


@pytest.mark.parametrize("how", STANDS if SCALE <= 1 else STANDS | MORE_STANDS)
def test_two_at_once_are_as_good_as_one_after_the_other(bench: Bench, how: str) -> None:
    all_pairs(bench, how)


def test_every_transition_of_the_page_happens(bench: Bench) -> None:
    happened = set()
    for request, done in WAYS:
        happened |= stand(bench, request, done).happened

    there_are = {row[:3] for row in page.transitions() if row.function != page.NONE_YET}
    # No function leads to where it begins.
    assert happened == there_are - {("waiting_checkpoint", "cancelled", "cancel_idle")}


def each_alone(bench: Bench, how: str) -> None:
    request, done = ALONE[how]
    for case in cases_of(stand(bench, request, done)).values():
        world = stand(bench, request, done)
        world.do(case(world))


def all_pairs(bench: Bench, how: str) -> None:
    request, done = (STANDS | MORE_STANDS)[how]
    world = stand(bench, request, done)
    cases = cases_of(world)
    effective = [name for name, case in cases.items() if does_something(world, case(world))]
    assert effective
    for first in effective:
        for second in cases:
            # What is taken back leaves everything to whoever waited for it.
            is_tried = second in effective and (SCALE > 1 or how != "running")
            for commits in (True, False) if is_tried else (True,):
                world = stand(bench, request, done)
                world.do_at_once(cases[first](world), cases[second](world), commits=commits)


def cases_of(world: World) -> dict[str, Case]:
    return CASES | (HOLDERS if world.claims[world.sessions[0]] else {})


def stand(bench: Bench, request: int, done: Sequence[str]) -> World:
    world = World(bench)
    submission = enqueue(world, request)
    assert submission is not None
    world.do(submission, checks=False)
    for name in done:
        world.do((CASES | HOLDERS)[name](world), checks=False)
    return world


def does_something(world: World, operation: Operation) -> bool:
    outcome: Any = operation.apply(copy.deepcopy(world.model))
    return bool(outcome) and outcome != TAKEN and not isinstance(operation, (op.Sweep, op.Look))
