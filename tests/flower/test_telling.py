"""Transitions of sessions as Flower's pages show them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from gsd_tasks.celery_flower.state import SessionsState
from gsd_tasks.celery_flower.telling import OURS, QUOTING, tell
from gsd_tasks.domain.session import HistoryEntry, SessionId
from gsd_tasks.domain.state import TRANSITIONS, Reason, Status
from gsd_tasks.service.messages import RUN_SESSION
from gsd_tasks.store.showing import Label

ID = SessionId(UUID(int=7))
BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
LABEL = Label("nightly", "builds", BEGAN)
SHOWN = {
    Status.QUEUED: "RETRY",
    Status.RUNNING: "STARTED",
    Status.PAUSED: "RETRY",
    Status.WAITING_CHECKPOINT: "RETRY",
    Status.COMPLETED: "SUCCESS",
    Status.FAILED: "FAILURE",
    Status.CANCELLED: "REVOKED",
}


def entry(
    before: Status | None,
    after: Status,
    reason: Reason,
    *,
    worker: str | None = None,
    at_s: float = 0,
    attempt: int = 1,
    detail: str | None = "the sentence",
) -> HistoryEntry:
    return HistoryEntry(
        id=1,
        session_id=ID,
        from_status=before,
        to_status=after,
        attempt=attempt,
        worker=worker,
        reason=reason,
        detail=detail,
        at=BEGAN + timedelta(seconds=at_s),
    )


ENQUEUED = entry(None, Status.QUEUED, Reason.ENQUEUED, attempt=0)
CLAIMED = entry(Status.QUEUED, Status.RUNNING, Reason.CLAIMED, worker="gsd@here", at_s=5)


def state_after(*entries: HistoryEntry, label: Label = LABEL) -> SessionsState:
    state = SessionsState(max_tasks_in_memory=10)
    for one in entries:
        for told in tell(one, label):
            state.show(told, is_past=True)
    return state


def task_after(*entries: HistoryEntry, label: Label = LABEL) -> Any:
    return state_after(*entries, label=label).tasks[str(ID)]


def test_a_session_is_shown_from_its_beginning_to_its_end() -> None:
    task = task_after(ENQUEUED)
    assert (task.state, task.name, task.worker, task.routing_key) == ("PENDING", "nightly", None, "builds")
    assert task.received == task.sent == BEGAN.timestamp()

    task = task_after(ENQUEUED, CLAIMED)
    assert (task.state, task.worker.hostname, task.started) == ("STARTED", "gsd@here", BEGAN.timestamp() + 5)
    assert (task.result, task.exception, task.runtime) == ("", None, None)

    over = entry(Status.RUNNING, Status.FAILED, Reason.EXIT_CODE, worker="gsd@here", at_s=25)
    task = task_after(ENQUEUED, CLAIMED, over)
    assert (task.state, task.result, task.runtime) == ("FAILURE", "exit_code: the sentence", 20)
    assert (task.exception, task.traceback, task.args, task.kwargs) == (task.result, None, "", "")


@pytest.mark.parametrize(("before", "after"), sorted(TRANSITIONS))
def test_every_transition_leads_to_the_state_that_celery_would_show(before: Status, after: Status) -> None:
    way = [] if before is Status.QUEUED else [CLAIMED]
    if before not in (Status.QUEUED, Status.RUNNING):
        way.append(entry(Status.RUNNING, before, Reason.CANCELLED, worker="gsd@here", at_s=7))
    last = entry(before, after, Reason.CANCELLED, at_s=9, worker="gsd@here" if after is Status.RUNNING else None)
    state = state_after(ENQUEUED, *way, last)
    assert state.tasks[str(ID)].state == SHOWN[after]
    # Who has no worker makes none up.
    assert set(state.workers) <= {"gsd@here"}
    assert set(state.counter) <= {"gsd@here"}


def test_another_attempt_begins_anew() -> None:
    again = entry(Status.RUNNING, Status.QUEUED, Reason.EXIT_CODE, worker="gsd@here", at_s=10)
    second = entry(Status.QUEUED, Status.RUNNING, Reason.CLAIMED, worker="gsd@there", at_s=60, attempt=2)
    task = task_after(ENQUEUED, CLAIMED, again)
    assert (task.state, task.result) == ("RETRY", "exit_code: the sentence")
    task = task_after(ENQUEUED, CLAIMED, again, second)
    assert (task.state, task.worker.hostname, task.started) == ("STARTED", "gsd@there", BEGAN.timestamp() + 60)
    assert (task.retries, task.result, task.exception, task.runtime) == (1, "", None, None)


def test_what_had_failed_and_runs_again_has_not_failed() -> None:
    failed = entry(Status.RUNNING, Status.FAILED, Reason.EXIT_CODE, worker="gsd@here", at_s=10)
    retried = entry(Status.FAILED, Status.QUEUED, Reason.RETRIED, at_s=20)
    second = entry(Status.QUEUED, Status.RUNNING, Reason.CLAIMED, worker="gsd@here", at_s=30, attempt=2)
    task = task_after(ENQUEUED, CLAIMED, failed, retried, second)
    assert (task.state, task.result, task.exception, task.runtime) == ("STARTED", "", None, None)


def test_an_adoption_changes_the_worker_alone() -> None:
    adopted = entry(Status.RUNNING, Status.RUNNING, Reason.ADOPTED, worker="gsd@there", at_s=30)
    state = state_after(ENQUEUED, CLAIMED, adopted)
    task = state.tasks[str(ID)]
    assert (task.state, task.worker.hostname, task.started) == ("STARTED", "gsd@there", BEGAN.timestamp() + 5)
    assert state.counter == {"gsd@here": {"task-received": 1, "task-started": 1}}


def test_a_reason_is_told_in_no_words_but_ours() -> None:
    assert set(Reason) == OURS | QUOTING
    assert set() == OURS & QUOTING
    for reason in QUOTING:
        task = task_after(ENQUEUED, CLAIMED, entry(Status.RUNNING, Status.FAILED, reason, worker="gsd@here"))
        assert task.result.startswith(reason)
        assert "the sentence" not in str(task.as_dict())


def test_a_session_without_a_name_has_that_of_the_task() -> None:
    assert task_after(ENQUEUED, label=LABEL._replace(name=None)).name == RUN_SESSION


def test_sessions_are_found_by_their_words_and_the_oldest_is_forgotten_first() -> None:
    state = SessionsState(max_tasks_in_memory=2)
    for number in range(3):
        one = HistoryEntry(
            **{name: getattr(ENQUEUED, name) for name in HistoryEntry.__dataclass_fields__ if name != "session_id"},
            session_id=SessionId(UUID(int=number)),
        )
        for told in tell(one, LABEL._replace(name=f"name {number}")):
            state.show(told, is_past=True)
    assert state.task_types() == ["name 1", "name 2"]
    assert state.name_of(str(UUID(int=0))) is None
    assert state.name_of(str(UUID(int=2))) == "name 2"
    assert state.search_engine.search(state.tasks, '"name 0"').filtered_count == 0
    assert state.search_engine.search(state.tasks, '"name 2"').task_ids == [str(UUID(int=2))]


def test_celerys_own_events_of_tasks_are_passed_over_with_what_they_carry() -> None:
    state = SessionsState(max_tasks_in_memory=10)
    common = {"hostname": "gsd@here", "timestamp": 1.0, "local_received": 1.0, "clock": 1, "pid": 1, "utcoffset": 0}
    state.event({"type": "task-received", "uuid": str(ID), "name": RUN_SESSION, "args": "['secret']", **common})
    state.event({"type": "worker-heartbeat", "freq": 2.0, "active": 3, "processed": 5, **common})
    assert len(state.tasks) == 0
    assert state.workers["gsd@here"].active == 3
