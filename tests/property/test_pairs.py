"""Every two operations that can meet, at once: each that does something as things stand, and whatever comes upon it.

The random walks hit upon most of these; here none is left to chance.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Sequence
from typing import Any, Final
from uuid import uuid4

import pytest

from gsd_tasks.domain.session import Holder, SessionId
from gsd_tasks.domain.state import Wanted
from gsd_tasks.store.leases import Progress
from tests import state_machine_page as page
from tests.property import operations as op
from tests.property import talk
from tests.property.operations import TAKEN, Operation
from tests.property.steps import ENDINGS, SCALE, enqueue, enqueue_many, follow
from tests.property.steps import settle as settled
from tests.property.world import Bench, World, seen

Case = Callable[[World], Operation]
DONE, FAILED, HANDED_BACK, TOLD, INTERRUPTED = 0, 1, 3, 5, 7
#: What is submitted, by its place in `steps.REQUESTS`.
USUAL, NO_RETRIES, CLAUDE, PUT_OFF, EXPIRED = 0, 1, 2, 5, 6
#: From here on it is about the session that follows.
TURN: Final = "turn"
#: How a session stands: what was submitted, and what was done to it since.
STANDS: Final[dict[str, tuple[int, Sequence[str]]]] = {
    "queued": (USUAL, []),
    "expired": (EXPIRED, []),
    "claimed": (USUAL, ["claim"]),
    "running": (USUAL, ["claim", "launch", "append"]),
    "paused": (USUAL, ["pause_idle"]),
    "failed": (NO_RETRIES, ["claim", "settle as failed"]),
    "waiting no longer": (USUAL, ["follow", "claim", "settle as done", TURN]),
    "waiting in vain": (NO_RETRIES, ["follow", "claim", "settle as failed", TURN]),
    "talking": (CLAUDE, ["claim", "note"]),
    "answered": (CLAUDE, ["claim", "note", "settle as done"]),
    "paused in its talk": (CLAUDE, ["claim", "note", "want pause", "settle as paused"]),
    "failed in its talk": (CLAUDE, ["claim", "note", "settle as failed"]),
}
MORE_STANDS: Final[dict[str, tuple[int, Sequence[str]]]] = {
    "running and to be paused": (USUAL, ["claim", "launch", "want pause"]),
    "in other hands": (USUAL, ["claim", "launch", "append", "adopt"]),
    "handed back": (USUAL, ["claim", "launch", "append", "hand back"]),
    "cancelled": (USUAL, ["cancel_idle"]),
    "followed": (USUAL, ["follow"]),
    "followed and completed": (USUAL, ["follow", "claim", "settle as done"]),
    "paused while it waits": (USUAL, ["follow", "claim", "settle as done", TURN, "pause_idle"]),
    "given up": (NO_RETRIES, ["follow", "claim", "settle as failed", TURN, "give up"]),
    "to be talked to": (CLAUDE, []),
    "told more": (CLAUDE, ["claim", "note", "listen", "say"]),
}
#: Commands.
WITHOUT_TALK: Final = {how for how, (request, _) in (STANDS | MORE_STANDS).items() if request != CLAUDE}
#: Here two that meet are not looked at with the first one taken back, unless there is time.
LARGE: Final = {"running", "talking", "paused in its talk", "failed in its talk"}
#: Here it is enough to look at each operation by itself: what somebody has seen is no longer so.
ALONE: Final[dict[str, tuple[int, Sequence[str]]]] = {
    "told more since it listened": (
        CLAUDE,
        ["claim", "note", "hand back", "claim", "begin at", "note", "listen", "say", "adopt"],
    ),
    "put off": (PUT_OFF, []),
    "followed and failed": (NO_RETRIES, ["follow", "claim", "settle as failed"]),
    "followed in any case and cancelled": (USUAL, ["follow any", "cancel_idle"]),
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
    (CLAUDE, ["claim", "note", "settle as done", "follow up", "pause_idle", "follow up", "cancel_idle", "follow up"]),
    (CLAUDE, ["claim", "settle as failed", "follow up"]),
    (USUAL, ["enqueue many", "follow", "cancel_idle", "give up"]),
    (NO_RETRIES, ["follow", "claim", "settle as failed", "give up"]),
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


def settle(number: int, wanted: Wanted | None = None, heard_before: int = 0) -> Case:
    def settle(world: World) -> Operation:
        holder = world.claims[world.sessions[0]][-1]
        return settled(world, holder, ENDINGS[number], wanted, heard_before=heard_before)

    return settle


def note(which: int, bytes_before: int = 0) -> Case:
    """All that waits, or one more line."""

    def note(world: World) -> Operation:
        session_id = world.sessions[0]
        session = world.model.sessions.get(session_id)
        end = session.lease.transcript_bytes if session and session.lease else 0
        lines = talk.brought_in(world.bench.looking, session_id) or (talk.Line("an entry"),)
        return talk.Note(world.claims[session_id][which], end - bytes_before, lines)

    return note


def fork(world: World) -> Operation:
    return talk.Fork(SessionId(uuid4()), world.sessions[0])


def followed(world: World, *, any_: bool) -> Operation:
    """By one more session, which the others are not about."""
    operation = follow(world, world.sessions[0], USUAL, any_=any_)
    assert operation is not None
    return operation


def many(world: World) -> Operation:
    operation = enqueue_many(world, NO_RETRIES)
    assert operation is not None
    return operation


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
    "follow": lambda world: followed(world, any_=False),
    "follow any": lambda world: followed(world, any_=True),
    "let go": lambda world: op.LetGo(tuple(world.sessions)),
    "give up": lambda world: op.GiveUp(tuple(world.sessions)),
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
#: By whoever talks to it.
PEOPLE: Final[dict[str, Case]] = {
    "say": lambda world: talk.Say(world.sessions[0], "words"),
    "interrupt": lambda world: talk.Say(world.sessions[0], None),
    "follow up": lambda world: talk.FollowUp(world.sessions[0], "more words"),
    "fork": fork,
    "listen": lambda world: talk.Listen(world.sessions[0]),
}
#: By whoever once talked for it.
TALKERS: Final[dict[str, Case]] = {
    "note": note(-1),
    "note as the former holder": note(0),
    "note once more": note(-1, bytes_before=talk.LINE_BYTES),
    "begin at": lambda world: talk.BeginAt(world.claims[world.sessions[0]][-1], 1000),
    "settle as done by what was heard": settle(DONE, heard_before=1),
    "settle as interrupted": settle(INTERRUPTED),
    "settle as interrupted by what was heard": settle(INTERRUPTED, heard_before=1),
}
#: By whoever enqueues more than one.
MANY: Final[dict[str, Case]] = {"enqueue many": many}
TALK: Final = PEOPLE | TALKERS


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
    for case in (cases_of(stand(bench, request, done)) | PEOPLE).values():
        world = stand(bench, request, done)
        world.do(case(world))


def all_pairs(bench: Bench, how: str) -> None:
    request, done = (STANDS | MORE_STANDS)[how]
    world = stand(bench, request, done)
    cases = cases_of(world)
    effective = [name for name, case in cases.items() if does_something(world, case(world))]
    assert effective
    for first, second in itertools.product(effective, cases):
        # What there is no talk in, has been tried with commands.
        if how in WITHOUT_TALK or {first, second} & TALK.keys():
            # What is taken back leaves everything to whoever waited for it.
            is_tried = second in effective and (SCALE > 1 or how not in LARGE)
            for commits in (True, False) if is_tried else (True,):
                world = stand(bench, request, done)
                world.do_at_once(cases[first](world), cases[second](world), commits=commits)


def cases_of(world: World) -> dict[str, Case]:
    session_id = world.sessions[0]
    is_claude, holders = world.model.sessions[session_id].is_claude, len(world.claims[session_id])
    found = CASES | (PEOPLE if is_claude else {})
    if holders:
        found |= HOLDERS | (TALKERS if is_claude else {})
    # Of one holder, the former one is the same.
    return found if holders > 1 else {name: case for name, case in found.items() if not name.endswith("former holder")}


def stand(bench: Bench, request: int, done: Sequence[str]) -> World:
    world = World(bench)
    submission = enqueue(world, request)
    assert submission is not None
    world.do(submission, checks=False)
    for name in done:
        if name == TURN:
            world.sessions.reverse()
        else:
            world.do((CASES | HOLDERS | TALK | MANY)[name](world), checks=False)
    return world


def does_something(world: World, operation: Operation) -> bool:
    outcome: Any = operation.apply(copy.deepcopy(world.model))
    return bool(outcome) and outcome != TAKEN and not isinstance(operation, (op.Sweep, op.Look, talk.Listen))
