from __future__ import annotations

import pytest

from gsd_tasks.domain.policy import Ending, decide, judge_command
from gsd_tasks.domain.session import OnLost
from gsd_tasks.domain.state import TRANSITIONS, Reason, Status, Wanted

FAILED = Ending(reason=Reason.EXIT_CODE, exit_code=1)
DONE = Ending(reason=Reason.FINISHED, succeeded=True, exit_code=0)
BACK = Ending(reason=Reason.WORKER_STOPPED, handed_back=True)


@pytest.mark.parametrize(
    ("ending", "wanted", "on_lost", "status", "reason"),
    [
        (DONE, None, OnLost.FAIL, Status.COMPLETED, Reason.FINISHED),
        (DONE, Wanted.CANCEL, OnLost.FAIL, Status.COMPLETED, Reason.FINISHED),
        (FAILED, None, OnLost.REQUEUE, Status.FAILED, Reason.EXIT_CODE),
        (FAILED, Wanted.CANCEL, OnLost.FAIL, Status.CANCELLED, Reason.CANCELLED),
        (BACK, None, OnLost.REQUEUE, Status.QUEUED, Reason.WORKER_STOPPED),
        (BACK, None, OnLost.FAIL, Status.FAILED, Reason.WORKER_STOPPED),
        (BACK, Wanted.CANCEL, OnLost.REQUEUE, Status.CANCELLED, Reason.CANCELLED),
    ],
)
def test_the_next_state(ending: Ending, wanted: Wanted | None, on_lost: OnLost, status: Status, reason: Reason) -> None:
    verdict = decide(ending, wanted=wanted, on_lost=on_lost)
    assert (verdict.status, verdict.reason) == (status, reason)
    assert (Status.RUNNING, verdict.status) in TRANSITIONS


def test_a_command_succeeds_with_zero_alone() -> None:
    assert judge_command(0, None).succeeded
    assert judge_command(7, None).detail == "the child exited with code 7"
    killed = judge_command(None, 9)
    assert (killed.reason, killed.detail) == (Reason.SIGNALLED, "the child was ended by SIGKILL")
