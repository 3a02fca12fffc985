"""A small run that went well, as evidence: the tests of the checkers spoil one thing of it at a time."""

from __future__ import annotations

from gsd_tasks.domain.session import OnLost
from gsd_tasks.domain.state import Reason, Status
from tests.chaos.child import line
from tests.chaos.clock import S
from tests.chaos.evidence import AttemptFacts, Evidence, Grant, Row, SessionFacts, Transition
from tests.chaos.records import Life

SESSION = "0199-story"
LEASE_S = 3.0


def whole_story() -> Evidence:
    """Attempt 1 works from second 10 to 20 and loses its worker; attempt 2 works from 30 to 40 and ends well.

    Ten lines of stdout each, one a second; of the first attempt's, six were committed.
    """
    history = [
        _step(None, Status.QUEUED, 0, Reason.ENQUEUED, 9),
        _step(Status.QUEUED, Status.RUNNING, 1, Reason.CLAIMED, 9.5),
        _step(Status.RUNNING, Status.QUEUED, 1, Reason.LEASE_LOST, 25),
        _step(Status.QUEUED, Status.RUNNING, 2, Reason.CLAIMED, 29),
        _step(Status.RUNNING, Status.RUNNING, 2, Reason.ADOPTED, 35),
        _step(Status.RUNNING, Status.COMPLETED, 2, Reason.FINISHED, 41),
    ]
    return Evidence(
        sessions=[SessionFacts(SESSION, Status.COMPLETED, Reason.FINISHED, 2, 16, OnLost.REQUEUE)],
        attempts=[
            AttemptFacts(SESSION, 1, 1, 6, Reason.LEASE_LOST, 25 * S),
            AttemptFacts(SESSION, 2, 7, 16, Reason.FINISHED, 41 * S),
        ],
        history=history,
        rows=[*_rows(1, 6, after_seq=0), *_rows(2, 10, after_seq=6)],
        lives=[life(1, 10), life(2, 30)],
        grants=[
            grant(attempt, number, until_s)
            for attempt, began_s in ((1, 10), (2, 30))
            for number, until_s in enumerate(range(began_s + 2, began_s + 14))
        ],
    )


def life(attempt: int, began_s: int, *, name: str = "life") -> Life:
    """Ten lines, one a second, and the end."""
    told = Life(SESSION, attempt, f"{name}{began_s}")
    written = 0
    for number in range(1, 11):
        at_ns = (began_s + number - 1) * S
        written += len(line(SESSION, attempt, "stdout", number))
        for mark, value in (("t", 0), ("o", written), ("O", written)):
            told.note(mark, at_ns, value)
    told.note("x", (began_s + 10) * S, 0)
    return told


def grant(attempt: int, renewals: int, until_s: float, *, seen_s: float | None = None) -> Grant:
    """A lease until then, seen a second before its end."""
    seen_ns = int((until_s - 1 if seen_s is None else seen_s) * S)
    return Grant(SESSION, attempt, f"holder{attempt}", renewals, int(until_s * S), seen_ns)


def _rows(attempt: int, count: int, *, after_seq: int) -> list[Row]:
    numbers = range(1, count + 1)
    return [Row(SESSION, after_seq + n, attempt, "stdout", line(SESSION, attempt, "stdout", n)) for n in numbers]


def _step(from_status: str | None, to_status: str, attempt: int, reason: Reason, at_s: float) -> Transition:
    return Transition(SESSION, from_status, to_status, attempt, reason, int(at_s * S))
