from __future__ import annotations

import pytest

from gsd_tasks.domain.state import Reason, Status
from tests.chaos.clock import S
from tests.chaos.evidence import Taken, Transition
from tests.chaos.stories import LEASE_S, whole_story
from tests.chaos.timing import Mended, Recovery, Silence, quantile, reaped_after_s, recoveries, taken_after_s
from tests.chaos.watch import Step

SESSION = "a-session"
LOOKS = [second * S // 10 for second in range(1000)]
SILENCE = Silence(SESSION, 10 * S, "worker.kill", [2 * S, 11 * S, 15 * S])


def step(at_s: float, last_seq: int, attempt: int = 1) -> Step:
    return Step(int(at_s * S), attempt, last_seq)


def history(to_status: Status, reason: Reason, at_s: float) -> Transition:
    return Transition(SESSION, Status.RUNNING, to_status, 1, reason, int(at_s * S))


def only_recovery(steps: list[Step], *transitions: Transition) -> Recovery | None:
    found = recoveries([SILENCE], transitions, {SESSION: steps}, LOOKS)
    return found[0] if found else None


def test_a_session_streams_again_with_its_first_row_after_the_loss() -> None:
    adopted = history(Status.RUNNING, Reason.ADOPTED, 11.5)

    recovery = only_recovery([step(9.9, 5), step(12, 6), step(13, 7)], adopted)

    assert recovery == Recovery("worker.kill", "adopted", 2.0, since_start_s=1.0)


def test_rows_that_were_under_way_are_not_streaming() -> None:
    """What the killed worker had sent may be there a moment later: it counts as from before."""
    recovery = only_recovery([step(9.9, 5), step(10.1, 6), step(12, 7)], history(Status.QUEUED, Reason.LEASE_LOST, 11))

    assert recovery == Recovery("worker.kill", "requeued", 2.0)


def test_one_that_was_lost_again_came_back_by_the_last_way() -> None:
    lost = history(Status.QUEUED, Reason.LEASE_LOST, 13)
    adopted = history(Status.RUNNING, Reason.ADOPTED, 11.5)

    assert only_recovery([step(9.9, 5), step(20, 6, 2)], adopted, lost) == Recovery("worker.kill", "requeued", 10.0)
    assert only_recovery([step(9.9, 5), step(20, 6, 2)], lost, adopted._replace(at_boot_ns=16 * S)) == Recovery(
        "worker.kill", "adopted", 10.0, since_start_s=5.0
    )


def test_one_that_was_handed_back_says_so() -> None:
    recovery = only_recovery([step(9.9, 5), step(12, 6, 2)], history(Status.QUEUED, Reason.WORKER_STOPPED, 10.5))

    assert recovery == Recovery("worker.kill", "handed back", 2.0)


@pytest.mark.parametrize("steps", [[], [step(9.9, 5)], [step(9.9, 5), step(20, 6, 2)]], ids=str)
def test_one_that_ends_first_has_ended(steps: list[Step]) -> None:
    recovery = only_recovery(steps, history(Status.FAILED, Reason.LEASE_LOST, 15))

    assert recovery == Recovery("worker.kill", "ended", 5.0)


def test_one_that_never_came_back_is_no_recovery() -> None:
    assert only_recovery([step(9.9, 5)]) is None


def test_what_is_reaped_is_counted_from_its_last_renewal() -> None:
    story = whole_story()

    # Its leases of 3 s ended at 12 to 23 s; it was recovered at 25 s.
    assert reaped_after_s(story.attempts, story.grants, LEASE_S) == [5.0]
    assert reaped_after_s(story.attempts, [], LEASE_S) == []


def test_a_worker_that_is_connected_again_is_timed_up_to_its_next_claim() -> None:
    claims = [Taken(7, 9 * S), Taken(7, 14 * S), Taken(7, 12 * S), Taken(8, 11 * S)]

    assert taken_after_s([Mended(7, 10 * S), Mended(7, 13 * S), Mended(9, 10 * S)], claims) == [2.0, 1.0]


def test_quantiles() -> None:
    values = [float(value) for value in range(100, 0, -1)]

    assert (quantile(values, 0.5), quantile(values, 0.99), quantile([1.0], 0.99)) == (51.0, 100.0, 1.0)
