"""Steps of a random walk: small numbers that shrink well, and become operations by what has happened so far."""

from __future__ import annotations

import itertools
import os
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final, NamedTuple
from uuid import uuid4

import uuid_utils.compat as uuid_utils
from hypothesis import strategies as st

from gsd_tasks.domain.policy import Backoff, Budget, Ending, decide
from gsd_tasks.domain.session import SLOTS, Holder, Kind, OnLost, SessionId, Submission, WorkerId
from gsd_tasks.domain.state import Reason, Status, Wanted
from gsd_tasks.domain.transcript import PROMPT
from gsd_tasks.store import Claim
from gsd_tasks.store.leases import Progress
from tests.property import operations as op
from tests.property import talk
from tests.property.model import Lease
from tests.property.operations import Operation
from tests.property.world import WORKERS, World, seen

#: How much more than usual is done.
SCALE: Final = float(os.environ.get("INTERLEAVINGS", "1"))
MOST_SESSIONS: Final = 5
FUTURE, PAST = datetime(2999, 1, 1, tzinfo=UTC), datetime(2000, 1, 1, tzinfo=UTC)
#: What is put off is not due before the test is over.
LONG: Final = Backoff(base_s=100_000, cap_s=100_000)
ENDINGS: Final = (
    Ending(reason=Reason.FINISHED, succeeded=True, exit_code=0),
    Ending(reason=Reason.EXIT_CODE, detail="the child exited with code 3", exit_code=3),
    Ending(reason=Reason.TIMEOUT, detail="it ran for its whole 60 s"),
    Ending(reason=Reason.WORKER_STOPPED, handed_back=True),
    Ending(reason=Reason.CHILD_LOST, detail="its shim was killed"),
    Ending(reason=Reason.CANCELLED, detail="it was told to end"),
    Ending(reason=Reason.OVERLOADED, detail="the API is overloaded", exit_code=1),
    Ending(reason=Reason.INTERRUPTED, detail="somebody interrupted its turn", exit_code=0),
)
_COMMAND: Final = Submission(command=("true",), working_dir="/", on_lost=OnLost.FAIL)
_CLAUDE: Final = Submission(prompt="Work", working_dir="/", on_lost=OnLost.REQUEUE)
REQUESTS: Final = (
    replace(_COMMAND, on_lost=OnLost.REQUEUE, max_recoveries=1, max_tries=2),
    _COMMAND,
    replace(_CLAUDE, max_recoveries=0),
    replace(_CLAUDE, key="key"),
    replace(_COMMAND, max_tries=3, key="key"),
    replace(_CLAUDE, run_at=FUTURE),
    replace(_COMMAND, expires_at=PAST),
    replace(_CLAUDE, expires_at=FUTURE, max_tries=2),
)
#: Whatever may be done at any time, by anybody.
KINDS: Final = (
    *("take", "renew", "append", "append to another end", "launch", "settle", "adopt", "adopt again"),
    *("adopt an earlier attempt", "recover", "recover as seen", "look", "sweep", "expire", "come due", "enqueue"),
    *("say", "interrupt", "follow up", "fork", "listen", "begin at", "note", "note at another place"),
    *("follow", "follow", "follow", "follow", "follow any", "follow any", "follow any", "enqueue many"),
    *("let go", "let go", "let go", "let go", "give up", "give up", "give up", "give up"),
    *op.IDLE,
)
#: What changes something, by how the session stands; some things are likelier, so that it lives for a while.
FITTING: Final[dict[Status, tuple[str, ...]]] = {
    Status.QUEUED: ("take", "take", "take", "take", "come due", "expire", "pause_idle", "cancel_idle"),
    Status.RUNNING: (
        *("append", "append", "append", "launch", "launch", "renew", "renew", "settle", "settle", "recover"),
        *("adopt", "look", "recover as seen", "want cancel", "want pause", "take_back_pause"),
    ),
    Status.PAUSED: ("resume", "resume", "cancel_idle"),
    Status.COMPLETED: ("delete",),
    Status.FAILED: ("retry", "retry", "retry", "delete"),
    Status.CANCELLED: ("retry", "retry", "retry", "delete"),
}
#: The same of a Claude session.
TALKING: Final[dict[Status, tuple[str, ...]]] = {
    Status.QUEUED: ("take", "take", "take", "take", "come due", "say", "pause_idle", "cancel_idle"),
    Status.RUNNING: (
        *("note", "note", "note", "note", "say", "say", "say", "interrupt", "listen", "settle", "settle", "settle"),
        *("append", "launch", "launch", "renew", "recover", "recover as seen", "look", "adopt", "begin at", "fork"),
        *("want cancel", "want pause"),
    ),
    Status.PAUSED: ("resume", "resume", "follow up", "follow up", "say", "cancel_idle"),
    Status.COMPLETED: ("follow up", "follow up", "follow up", "follow up", "fork", "delete"),
    Status.FAILED: ("retry", "retry", "follow up", "follow up", "fork", "delete"),
    Status.CANCELLED: ("retry", "retry", "follow up", "follow up", "fork", "delete"),
}
#: The same of what waits for others.
WAITING: Final = ("let go", "let go", "give up", "give up", "pause_idle", "cancel_idle")
_numbers = itertools.count()


class Step(NamedTuple):
    """`session`, `who` and `place` count back or around what there is; `choice` is the kind's own.

    A `wild` one is anything, whether or not it makes sense.
    """

    kind: int = 0
    wild: bool = False
    session: int = 0
    who: int = 0
    place: int = 0
    choice: int = 0


STEPS: Final = st.builds(
    Step,
    kind=st.integers(0, 95),  # the lengths of all lists divide 96
    wild=st.sampled_from((False, False, False, True)),
    session=st.sampled_from((0, 0, 0, 1, 2)),
    who=st.sampled_from((0, 0, 0, 1, 2)),
    place=st.integers(0, WORKERS * SLOTS - 1),
    choice=st.integers(0, len(REQUESTS) - 1),
)


def to_operation(world: World, step: Step) -> Operation | None:
    """What this step is, as things stand. None: there is nothing to do it to."""
    session_id = world.sessions[-min(step.session + 1, len(world.sessions))]
    session = world.model.sessions.get(session_id)
    fitting = TALKING if session and session.is_claude else FITTING
    kinds = KINDS if session is None or step.wild else fitting[session.status]
    if session and session.waits and session.status is Status.QUEUED and not step.wild:
        kinds = WAITING
    match kinds[step.kind % len(kinds)]:
        case "enqueue":
            return enqueue(world, step.choice)
        case "enqueue many":
            return enqueue_many(world, step.choice)
        case "follow" | "follow any" as kind:
            return follow(world, session_id, step.choice, any_=kind == "follow any")
        case "let go":
            return op.LetGo(tuple(world.sessions))
        case "give up":
            return op.GiveUp(tuple(world.sessions))
        case "look":
            return op.Look()
        case "sweep":
            return op.Sweep()
        case "expire":
            return op.Expire()
        case "come due":
            return op.ComeDue()
        case "recover":
            return op.Recover(seen(op.Look().apply(world.model)))
        case "recover as seen":
            return op.Recover(world.looks[-min(step.who + 1, len(world.looks))])
        case "take":
            return op.Take(session_id, Holder(uuid4()), *_place(world, step))
        case "adopt" | "adopt again" | "adopt an earlier attempt" as kind:
            return _adopt(world, session_id, kind, step)
        case kind if kind in op.IDLE:
            return op.Idle(session_id, kind)
        case "say" | "interrupt" | "follow up" | "fork" | "listen" as kind:
            return _talk(world, session_id, kind)
        case kind:
            return _by_holder(world, session_id, kind, step)


def enqueue(world: World, choice: int) -> Operation | None:
    """One more session, if there are not too many."""
    session_id = _new(world)
    if session_id is None:
        return None
    request = REQUESTS[choice]
    expires = None if request.expires_at is None else "past" if request.expires_at == PAST else "future"
    return op.Enqueue(session_id, request, expires, is_later=request.run_at is not None)


def enqueue_many(world: World, choice: int) -> Operation | None:
    """The same by the statement for many."""
    one = enqueue(world, choice)
    return (
        None
        if not isinstance(one, op.Enqueue)
        else op.EnqueueMany(one.session_id, one.request, one.expires, one.is_later)
    )


def follow(world: World, before: SessionId, choice: int, *, any_: bool = False) -> Operation | None:
    """One more, that is to follow that one, or its any end; and at times another one in the other way."""
    there_are = [other for other in world.sessions if other != before]
    one = enqueue(world, choice)
    if not isinstance(one, op.Enqueue):
        return None
    others = tuple(there_are[-1:]) if choice % 2 else ()
    after, after_any = (others, (before,)) if any_ else ((before,), others)
    return replace(one, request=replace(one.request, after=after, after_any=after_any))


def _new(world: World) -> SessionId | None:
    if len(world.sessions) == MOST_SESSIONS:
        return None
    world.sessions.append(SessionId(uuid_utils.uuid7()))
    return world.sessions[-1]


def _talk(world: World, session_id: SessionId, kind: str) -> Operation | None:
    match kind:
        case "say":
            return talk.Say(session_id, f"words {next(_numbers)}")
        case "interrupt":
            return talk.Say(session_id, None)
        case "follow up":
            return talk.FollowUp(session_id, f"words {next(_numbers)}")
        case "listen":
            return talk.Listen(session_id)
        case _:
            fork = _new(world)
            return None if fork is None else talk.Fork(fork, session_id)


def _place(world: World, step: Step) -> tuple[WorkerId, int]:
    return world.bench.workers[step.place // SLOTS], step.place % SLOTS + 1


def _adopt(world: World, session_id: SessionId, kind: str, step: Step) -> Operation:
    """By a worker that has the spool of the present attempt, or of an earlier one; or whose answer was lost."""
    session = world.model.sessions.get(session_id)
    attempt, lease = (session.attempt, session.lease) if session else (0, None)
    holder = Holder(lease.holder if lease and kind == "adopt again" else uuid4())
    return op.Adopt(session_id, attempt - (kind == "adopt an earlier attempt"), holder, *_place(world, step))


def _by_holder(world: World, session_id: SessionId, kind: str, step: Step) -> Operation | None:
    """By whoever once got the session, the last one first."""
    claims = world.claims[session_id]
    if not claims:
        return None
    claim = claims[-min(step.who + 1, len(claims))]
    session = world.model.sessions.get(session_id)
    match kind:
        case "renew":
            return op.Renew(claim)
        case "launch":
            return op.MarkLaunching(claim)
        case "settle":
            return _settle(world, claim, session.wanted if session else None, step)
        case "begin at":
            return talk.BeginAt(claim, 1000 * (1 + step.choice % 2))
        case "append" | "append to another end":
            return _append(claim, session.lease if session else None, kind, step)
        case _:
            return _note(world, claim, session.lease if session else None, kind, step)


def _append(claim: Claim, lease: Lease | None, kind: str, step: Step) -> Operation:
    """To the end of what there is, or of what somebody takes for it."""
    end = Progress(lease.last_seq, lease.stdout_bytes) if lease else Progress(claim.session.seq)
    if kind == "append to another end":
        end = Progress(max(0, end.last_seq - 1) if step.choice % 2 else end.last_seq + 1, end.stdout_bytes)
    return op.Append(claim, end, tuple(f"line {next(_numbers)}" for _ in range(1 + step.choice % 2)))


def _note(world: World, claim: Claim, lease: Lease | None, kind: str, step: Step) -> Operation:
    """What waits comes into the conversation: one by one, or all of it, or the last for all; or something else does."""
    before = lease.transcript_bytes if lease else 0
    if kind == "note at another place":
        before = max(0, before - talk.LINE_BYTES) if step.choice % 2 else before + talk.LINE_BYTES
    those = (slice(0), slice(1), slice(1), slice(2), slice(None), slice(None), slice(None), slice(-1, None))[
        step.choice
    ]
    brought = talk.brought_in(world.bench.looking, claim.session.id, talk.QUEUED if step.choice < 6 else PROMPT)[those]
    return talk.Note(claim, before, brought or (talk.Line(f"entry {next(_numbers)}"),))


def _settle(world: World, claim: Claim, wanted: Wanted | None, step: Step) -> Operation:
    """By what its holder has heard, which may be long ago."""
    heard_of = (wanted, wanted, wanted, None, Wanted.CANCEL, Wanted.PAUSE)[step.place]
    return settle(world, claim, ENDINGS[step.choice % len(ENDINGS)], heard_of, heard_before=step.who)


def settle(world: World, claim: Claim, ending: Ending, wanted: Wanted | None, *, heard_before: int) -> Operation:
    """By what a holder takes people to want, and has heard of their messages."""
    session = claim.session
    heard, is_unanswered = world.hears(session.id, heard_before) if session.kind is Kind.CLAUDE else (0, False)
    verdict = decide(
        ending,
        wanted=wanted,
        is_unanswered=is_unanswered,
        on_lost=session.on_lost,
        budget=Budget.of(session),
        backoff=LONG,
    )
    return op.Settle(claim, verdict, heard)
