"""What the shim's record of an end means, by who may have told the child to end."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gsd_tasks.domain.claude_events import Conversation
from gsd_tasks.domain.session import Kind, Session
from gsd_tasks.domain.state import Reason
from gsd_tasks.process.spool.exits import EndedBy, ExitRecord
from gsd_tasks.service.settle import ending_of
from tests.cli.fake_client import session

COMMAND = session()
CLAUDE = replace(session(), kind=Kind.CLAUDE, prompt="Fix it", command=None)


@pytest.mark.parametrize(
    ("told", "handed_back", "reason"),
    [
        (CLAUDE, True, Reason.WORKER_STOPPED),
        # Because of a wish; whoever adopts the session afterwards knows only that much.
        (CLAUDE, False, Reason.CANCELLED),
        (COMMAND, True, Reason.WORKER_STOPPED),
        # Nobody pauses a command, and a cancel is looked at first: what is left is a worker that stopped.
        (COMMAND, False, Reason.WORKER_STOPPED),
    ],
)
def test_a_child_that_was_told_to_end(told: Session, handed_back: bool, reason: Reason) -> None:
    record = ExitRecord(None, 15, EndedBy.STOPPED, None, 0, 1, 0, 0, None)
    ending = ending_of(told, record, Conversation(), handed_back=handed_back)
    assert (ending.reason, ending.handed_back) == (reason, reason is Reason.WORKER_STOPPED)
    assert not ending.succeeded


@pytest.mark.parametrize("ended_by", sorted(set(EndedBy) - {EndedBy.STOPPED}))
def test_what_else_ends_a_child_is_no_handing_back(ended_by: EndedBy) -> None:
    record = ExitRecord(None, 9, ended_by, "why", 0, 1, 0, 0, None)
    assert not ending_of(COMMAND, record, Conversation(), handed_back=True).handed_back
