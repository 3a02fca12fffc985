"""Steps of a random walk: small numbers that shrink well, and become operations by what has happened so far."""

from __future__ import annotations

import itertools
import os
from datetime import UTC, datetime
from typing import Final, NamedTuple
from uuid import uuid4

import uuid_utils.compat as uuid_utils
from hypothesis import strategies as st

from gsd_tasks.domain.policy import Backoff, Budget, Ending, decide
from gsd_tasks.domain.session import SLOTS, Holder, OnLost, SessionId, Submission, WorkerId
from gsd_tasks.domain.state import Reason, Status, Wanted
from gsd_tasks.store import Claim
from gsd_tasks.store.leases import Progress
from tests.property import operations as op
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
)
REQUESTS: Final = tuple(
    Submission(command=("true",), working_dir="/", **options)
    for options in (
        {"on_lost": OnLost.REQUEUE, "max_recoveries": 1, "max_tries": 2},
        {"on_lost": OnLost.FAIL},
        {"on_lost": OnLost.REQUEUE, "max_recoveries": 0},
        {"on_lost": OnLost.REQUEUE, "key": "key"},
        {"on_lost": OnLost.FAIL, "max_tries": 3, "key": "key"},
        {"run_at": FUTURE},
        {"expires_at": PAST},
        {"expires_at": FUTURE, "on_lost": OnLost.REQUEUE},
    )
)
#: Whatever may be done at any time, by anybody.
KINDS: Final = (
    *("take", "renew", "append", "append to another end", "launch", "settle", "adopt", "adopt again"),
    *("adopt an earlier attempt", "recover", "recover as seen", "look", "sweep", "expire", "come due", "enqueue"),
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
    kind=st.integers(0, 47),  # the lengths of all lists divide 48
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
    kinds = KINDS if session is None or step.wild else FITTING[session.status]
    match kinds[step.kind % len(kinds)]:
        case "enqueue":
            return enqueue(world, step.choice)
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
        case kind:
            return _by_holder(world, session_id, kind, step)


def enqueue(world: World, choice: int) -> Operation | None:
    """One more session, if there are not too many."""
    if len(world.sessions) == MOST_SESSIONS:
        return None
    request = REQUESTS[choice]
    session_id = SessionId(uuid_utils.uuid7())
    world.sessions.append(session_id)
    expires = None if request.expires_at is None else "past" if request.expires_at == PAST else "future"
    return op.Enqueue(session_id, request, expires, is_later=request.run_at is not None)


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
            return _settle(claim, session.wanted if session else None, step)
        case _:
            return _append(claim, session.lease if session else None, kind, step)


def _append(claim: Claim, lease: Lease | None, kind: str, step: Step) -> Operation:
    """To the end of what there is, or of what somebody takes for it."""
    end = Progress(lease.last_seq, lease.stdout_bytes) if lease else Progress(claim.session.seq)
    if kind == "append to another end":
        end = Progress(max(0, end.last_seq - 1) if step.choice % 2 else end.last_seq + 1, end.stdout_bytes)
    return op.Append(claim, end, tuple(f"line {next(_numbers)}" for _ in range(1 + step.choice % 2)))


def _settle(claim: Claim, wanted: Wanted | None, step: Step) -> Operation:
    """By what its holder has heard, which may be long ago."""
    heard = (wanted, wanted, wanted, None, Wanted.CANCEL, Wanted.PAUSE)[step.place]
    ending = ENDINGS[step.choice % len(ENDINGS)]
    budget = Budget.of(claim.session)
    return op.Settle(claim, decide(ending, wanted=heard, on_lost=claim.session.on_lost, budget=budget, backoff=LONG))
