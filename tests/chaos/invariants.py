"""The promises, checked after the fact. Pure: each checker takes evidence and yields what contradicts it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from enum import StrEnum
from itertools import pairwise
from typing import Final, NamedTuple

from gsd_tasks.domain.session import OnLost
from gsd_tasks.domain.state import FINAL, TRANSITIONS, Reason, Status
from tests.chaos.evidence import AttemptFacts, Evidence, SessionFacts, Transition


class Figure(StrEnum):
    """What is counted. Every figure must be 0."""

    LOST = "rows lost"
    DOUBLED = "rows doubled"
    DISORDERED = "rows out of order"
    CHANGED = "rows changed"
    OVERLAPPING = "overlapping moments"
    OVERTIME = "moments past a deadline or an end"
    UNENDED = "sessions neither ended nor rightly waiting"
    UNEXPLAINED = "ends without a cause"
    HISTORY = "histories that do not replay"
    LEFT = "processes or spools left"
    LOCKS = "locks held longer than a lease"


class Violation(NamedTuple):
    """So many `times`, of one session (or none), told in a sentence."""

    figure: Figure
    session: str
    text: str
    times: int = 1


#: Ends at which a holder has committed all that the child wrote: the child's pipes were read to their end.
COMPLETE: Final = frozenset(
    {Reason.FINISHED, Reason.EXIT_CODE, Reason.SIGNALLED, Reason.CANCELLED, Reason.WORKER_STOPPED, Reason.PAUSED}
)
#: Ends that somebody must have brought about with a KILL.
VIOLENT: Final = frozenset({Reason.SIGNALLED, Reason.CHILD_LOST})
#: Ends that no fault of ours explains.
FAULTY: Final = frozenset({Reason.INTERNAL, Reason.TIMEOUT, Reason.IDLE_TIMEOUT, Reason.OUTPUT_LIMIT, Reason.EXPIRED})


def check_ended(sessions: Iterable[SessionFacts]) -> Iterator[Violation]:
    """When the load has drained, nothing waits, and nothing runs."""
    for session in sessions:
        if Status(session.status) not in FINAL:
            yield Violation(Figure.UNENDED, session.id, f"is {session.status} ({session.reason}: {session.detail})")


def check_causes(evidence: Evidence) -> Iterator[Violation]:
    """Nothing ends for a reason that nobody gave it."""
    failed = {session.id: session for session in evidence.sessions if session.status == Status.FAILED}
    explained = evidence.struck | _killed_in_launching(evidence)
    for attempt in evidence.attempts:
        key, reason = (attempt.session, attempt.attempt), attempt.reason
        if reason in FAULTY or (reason in VIOLENT and key not in explained):
            yield Violation(Figure.UNEXPLAINED, attempt.session, f"attempt {key[1]}: {reason}, {attempt.detail}")
    for session in failed.values():
        if session.reason == Reason.LEASE_LOST and session.on_lost == OnLost.REQUEUE:
            yield Violation(Figure.UNEXPLAINED, session.id, f"failed, and was to be queued again: {session.detail}")


def _killed_in_launching(evidence: Evidence) -> set[tuple[str, int]]:
    """Attempts without a child, during which a worker was killed: a shim that has not begun ends with its worker."""
    began = {(life.session, life.attempt) for life in evidence.lives}
    claimed_ns = {
        (one.session, one.attempt): one.at_boot_ns for one in evidence.history if one.reason == Reason.CLAIMED
    }
    return {
        key
        for one in evidence.attempts
        if (key := (one.session, one.attempt)) not in began
        and any(claimed_ns[key] < killed_ns < (one.ended_boot_ns or 0) for killed_ns in evidence.killed_ns)
    }


def check_histories(evidence: Evidence) -> Iterator[Violation]:
    """Each history, replayed by the table of transitions, ends where its session stands; claims count the attempts."""
    by_session: dict[str, list[Transition]] = defaultdict(list)
    for transition in evidence.history:
        by_session[transition.session].append(transition)
    attempts: dict[str, list[AttemptFacts]] = defaultdict(list)
    for attempt in evidence.attempts:
        attempts[attempt.session].append(attempt)
    for session in evidence.sessions:
        wrong = _replay(session, by_session[session.id]) or _count(session, attempts[session.id])
        if wrong:
            yield Violation(Figure.HISTORY, session.id, wrong)


def _replay(session: SessionFacts, history: list[Transition]) -> str | None:
    """What is wrong with it."""
    status: str | None = None
    attempt = 0
    for step in history:
        attempt += step.reason == Reason.CLAIMED
        if step.from_status != status:
            return f"goes from {step.from_status} to {step.to_status}, and was {status}"
        if step.attempt != attempt:
            return f"{step.reason}: is of attempt {step.attempt}, after {attempt} claims"
        if not _is_legal(step):
            return f"goes from {step.from_status} to {step.to_status} ({step.reason})"
        status = step.to_status
    if (status, attempt) != (session.status, session.attempt):
        return f"ends {status} after {attempt} claims, and it is {session.status} in attempt {session.attempt}"
    return None


def _is_legal(step: Transition) -> bool:
    if step.from_status is None:
        return step.to_status == Status.QUEUED
    if step.reason == Reason.ADOPTED:  # another holder, in the same state
        return step.from_status == step.to_status == Status.RUNNING
    return (Status(step.from_status), Status(step.to_status)) in TRANSITIONS


def _count(session: SessionFacts, attempts: list[AttemptFacts]) -> str | None:
    """The attempts are 1 to n, and share the rows among them without a gap."""
    if [attempt.attempt for attempt in attempts] != list(range(1, session.attempt + 1)):
        return f"has attempts {[attempt.attempt for attempt in attempts]}, and counts {session.attempt}"
    for before, after in pairwise(attempts):
        if before.last_seq is None or after.first_seq != before.last_seq + 1:
            return f"attempt {after.attempt} begins at {after.first_seq}, the one before ended at {before.last_seq}"
    if attempts and Status(session.status) in FINAL and attempts[-1].last_seq != session.last_seq:
        return f"has {session.last_seq} rows, and its last attempt ended at {attempts[-1].last_seq}"
    return None


def check_left(evidence: Evidence) -> Iterator[Violation]:
    """Nothing of a session is left on any host."""
    for left in evidence.left:
        yield Violation(Figure.LEFT, "", left)


def check_locks(evidence: Evidence) -> Iterator[Violation]:
    """No statement of ours stands in anybody's way for longer than a lease."""
    for lock in evidence.locks:
        yield Violation(Figure.LOCKS, "", lock)
