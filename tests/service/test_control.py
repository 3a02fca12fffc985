"""Pause, resume and retry: what each makes of a session in every state, and what it says where it refuses."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Thread
from typing import Any
from uuid import uuid4

import pytest

from gsd_tasks.client import Client
from gsd_tasks.domain.errors import BrokerUnavailable, NotAllowed
from gsd_tasks.domain.policy import Ending, decide
from gsd_tasks.domain.session import Holder, OnLost, Session, SessionId, Submission, WorkerId
from gsd_tasks.domain.state import Reason, Status, Wanted
from gsd_tasks.service import control, submit
from gsd_tasks.service.attempt import run_session
from gsd_tasks.service.bell import WANTED, Ear, ring_once
from gsd_tasks.service.messages import QueuedMessages
from gsd_tasks.service.node import Node
from gsd_tasks.settings import Settings
from gsd_tasks.store import Claim, Connection, Database, history, outputs, sessions, transitions
from tests.waiting import BOUND_S, until

Enqueue = Callable[..., SessionId]
Now = Callable[[SessionId], Session]
FURTHER = "a Claude session is resumed with a further prompt, a command enqueued again"

TOLD = Ending(reason=Reason.CANCELLED, detail="it was told to end")
ENDINGS = {
    Status.COMPLETED: (Ending(reason=Reason.FINISHED, succeeded=True), None),
    Status.FAILED: (Ending(reason=Reason.CLAUDE_ERROR), None),
    Status.CANCELLED: (TOLD, Wanted.CANCEL),
    Status.PAUSED: (TOLD, Wanted.PAUSE),
}


class Broker:
    """Notes what is published."""

    def __init__(self) -> None:
        self.published: list[tuple[SessionId, str, int]] = []

    def publish(self, session_id: SessionId, *, queue: str, priority: int) -> None:
        self.published.append((session_id, queue, priority))


@pytest.fixture
def broker() -> Broker:
    return Broker()


@pytest.fixture
def claude(database: Database) -> Enqueue:
    """Writes a queued Claude session, which nothing here runs."""

    def claude(**fields: Any) -> SessionId:
        request = Submission(prompt="Fix it", working_dir="/", **fields)
        return submit.submit(database, lambda *_, **__: None, request).id

    return claude


def claim(database: Database, session_id: SessionId) -> Claim:
    with database.connection() as connection:
        claimed = transitions.claim(
            connection, session_id, holder=Holder(uuid4()), worker_id=WorkerId(uuid4()), slot=1, lease_s=30
        )
    assert claimed is not None
    return claimed


def end(connection: Connection, held: Claim, status: Status) -> None:
    ending, wanted = ENDINGS[status]
    if wanted is not None:
        assert sessions.want(connection, held.session.id, wanted)
    assert transitions.settle(connection, held, decide(ending, wanted=wanted, on_lost=OnLost.FAIL))


def acts(database: Database, broker: Broker) -> list[Callable[[SessionId], Session]]:
    """Pause, resume and retry."""
    return [
        lambda session_id: control.pause(database, session_id),
        lambda session_id: control.resume(database, broker.publish, session_id),
        lambda session_id: control.retry(database, broker.publish, session_id),
    ]


def test_what_waits_is_paused_and_resumed_at_once(
    database: Database, broker: Broker, enqueue: Enqueue, now: Now
) -> None:
    session_id = enqueue("true", queue="q", priority=2)
    for _ in range(2):
        assert control.pause(database, session_id).status is Status.PAUSED
    assert broker.published == []
    assert control.resume(database, broker.publish, session_id).status is Status.QUEUED
    assert broker.published == [(session_id, "q", 2)]
    assert control.resume(database, broker.publish, session_id).status is Status.QUEUED
    assert len(broker.published) == 1
    assert now(session_id).reason is Reason.RESUMED


def test_a_running_claude_session_is_asked_to_pause_until_it_is_taken_back(
    database: Database, broker: Broker, claude: Enqueue
) -> None:
    session_id = claude()
    claim(database, session_id)
    for _ in range(2):
        asked = control.pause(database, str(session_id)[:20])
        assert (asked.status, asked.wanted) == (Status.RUNNING, Wanted.PAUSE)
    for _ in range(2):
        left = control.resume(database, broker.publish, session_id)
        assert (left.status, left.wanted) == (Status.RUNNING, None)
    assert broker.published == []


def test_a_running_command_is_not_paused(database: Database, enqueue: Enqueue, now: Now) -> None:
    session_id = enqueue("true")
    claim(database, session_id)
    with pytest.raises(NotAllowed, match="is a running command, which could not go on where it was"):
        control.pause(database, session_id)
    assert now(session_id).wanted is None


def test_a_command_that_begins_just_now_is_not_paused(
    database: Database, enqueue: Enqueue, now: Now, monkeypatch: pytest.MonkeyPatch
) -> None:
    session_id, real = enqueue("true"), transitions.pause_idle

    def too_late(connection: Connection, session_id: SessionId) -> bool:
        claim(database, session_id)
        return real(connection, session_id)

    monkeypatch.setattr(transitions, "pause_idle", too_late)
    with pytest.raises(NotAllowed, match="running command"):
        control.pause(database, session_id)
    assert now(session_id).wanted is None


def test_a_pause_that_is_carried_out_while_it_is_taken_back_is_resumed(
    database: Database, broker: Broker, claude: Enqueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    session_id, real = claude(), sessions.take_back_pause
    held = claim(database, session_id)
    control.pause(database, session_id)

    def too_late(connection: Connection, session_id: SessionId) -> bool:
        end(connection, held, Status.PAUSED)
        return real(connection, session_id)

    monkeypatch.setattr(sessions, "take_back_pause", too_late)
    assert control.resume(database, broker.publish, session_id).status is Status.QUEUED
    assert [published[0] for published in broker.published] == [session_id]


def test_a_cancel_replaces_a_pause_and_is_not_replaced_by_one(
    database: Database, broker: Broker, claude: Enqueue, now: Now
) -> None:
    session_id = claude()
    claim(database, session_id)
    control.pause(database, session_id)
    assert control.cancel(database, session_id).wanted is Wanted.CANCEL
    with pytest.raises(NotAllowed, match="is being cancelled"):
        control.pause(database, session_id)
    assert control.resume(database, broker.publish, session_id).wanted is Wanted.CANCEL
    assert now(session_id).wanted is Wanted.CANCEL


@pytest.mark.parametrize("status", [Status.FAILED, Status.CANCELLED])
def test_what_failed_or_was_cancelled_is_retried_and_published(
    database: Database, broker: Broker, claude: Enqueue, status: Status
) -> None:
    session_id = claude(run_at=datetime.now(UTC) - timedelta(seconds=1))
    with database.connection() as connection:
        end(connection, claim(database, session_id), status)
    retried = control.retry(database, broker.publish, session_id)
    assert (retried.status, retried.reason, retried.tries) == (Status.QUEUED, Reason.RETRIED, 0)
    assert [published[0] for published in broker.published] == [session_id]
    with pytest.raises(NotAllowed, match="is queued: it runs as soon as a worker takes it"):
        control.retry(database, broker.publish, session_id)
    assert len(broker.published) == 1


def test_what_is_not_due_is_resumed_without_a_message(database: Database, broker: Broker, claude: Enqueue) -> None:
    session_id = claude(run_at=datetime.now(UTC) + timedelta(hours=1))
    control.pause(database, session_id)
    assert control.resume(database, broker.publish, session_id).status is Status.QUEUED
    assert broker.published == []


def test_without_redis_it_is_queued_all_the_same(database: Database, claude: Enqueue, now: Now) -> None:
    def gone(*_: object, **__: object) -> None:
        raise BrokerUnavailable("redis does not answer")

    session_id = claude()
    control.pause(database, session_id)
    assert control.resume(database, gone, session_id).status is Status.QUEUED
    control.cancel(database, session_id)
    assert control.retry(database, gone, session_id).status is Status.QUEUED
    assert now(session_id).reason is Reason.RETRIED


def test_the_client_sends_the_message_and_rings_for_whoever_holds_it(
    database: Database, settings: Settings, redis_url: str
) -> None:
    messages = QueuedMessages(redis_url)
    with Client(settings=settings) as client, Ear(redis_url, WANTED) as ear:
        assert ear.listen()
        session = client.enqueue(prompt="Fix it", working_dir="/", max_tries=2, max_recoveries=0)
        assert (session.max_tries, session.max_recoveries) == (2, 0)
        client.pause(session.id)
        assert messages.count("sessions") == 1
        client.resume(session.id)
        assert messages.count("sessions") == 2
        client.cancel(session.id)
        client.retry(session.id)
        assert messages.count("sessions") == 3
        claim(database, session.id)
        for act in (client.pause, client.resume, client.cancel):
            act(session.id)
            assert until(lambda: ear.wait(0.1)) == str(session.id)


@pytest.mark.parametrize(
    ("status", "pause", "resume", "retry"),
    [
        (Status.QUEUED, None, None, "is queued: it runs as soon as a worker takes it"),
        (Status.RUNNING, None, None, "is running: wait for its end, or cancel it first"),
        (Status.PAUSED, None, None, "is paused: resume it"),
        (
            Status.COMPLETED,
            "has completed: there is nothing to pause",
            f"has completed: {FURTHER}",
            f"has completed: {FURTHER}",
        ),
        (Status.FAILED, "has failed: there is nothing to pause", "has failed: retry it", None),
        (Status.CANCELLED, "was cancelled: there is nothing to pause", "was cancelled: retry it", None),
    ],
)
def test_what_is_refused_says_why_and_what_to_do(
    database: Database,
    broker: Broker,
    claude: Enqueue,
    now: Now,
    status: Status,
    pause: str | None,
    resume: str | None,
    retry: str | None,
) -> None:
    session_id = claude()
    if status is not Status.QUEUED:
        held = claim(database, session_id)
        if status is not Status.RUNNING:
            with database.connection() as connection:
                end(connection, held, status)
    before = now(session_id)
    for problem, act in zip((pause, resume, retry), acts(database, broker), strict=True):
        if problem is not None:
            with pytest.raises(NotAllowed) as refused:
                act(session_id)
            assert str(refused.value) == f"session {session_id}: {problem}"
    assert now(session_id) == before
    assert broker.published == []


def test_what_waits_for_an_answer_is_neither_paused_resumed_nor_retried(
    database: Database, broker: Broker, claude: Enqueue, now: Now
) -> None:
    session_id = claude()
    claim(database, session_id)
    with database.connection() as connection:
        connection.exec_driver_sql("DELETE FROM leases")
        connection.exec_driver_sql("UPDATE sessions SET status = 'waiting_checkpoint'")
    problems = ("there is nothing to pause", "answer it, or cancel it", "answer it, or cancel it")
    for problem, act in zip(problems, acts(database, broker), strict=True):
        with pytest.raises(NotAllowed, match=f"waits for an answer: {problem}"):
            act(session_id)
    assert now(session_id).status is Status.WAITING_CHECKPOINT


@pytest.fixture
def running(
    node: Node, tmp_path: Path, claude: Enqueue, now: Now, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., SessionId]]:
    """Runs a Claude session in the node's slot, whose CLI is this script, until it has printed something."""
    monkeypatch.setenv("ANTHROPIC_API_KEY", "offline")
    threads = []

    def running(script: str, **fields: Any) -> SessionId:
        binary = tmp_path / "claude"
        binary.write_text(f"#!/bin/sh\n{script}\n")
        binary.chmod(0o755)
        node.settings = node.settings.model_copy(update={"claude_bin": binary, "workspace_roots": ("/",)})
        session_id = claude(**fields)
        threads.append(Thread(target=run_session, args=(node, session_id)))
        threads[-1].start()
        until(lambda: now(session_id).seq, what="its first row")
        return session_id

    yield running
    for thread in threads:
        thread.join(BOUND_S)


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """What is wanted is heard by a bell, or by no one: it is long until the next renewal asks."""
    return settings.model_copy(update={"heartbeat_s": 10 * BOUND_S, "lease_s": 30 * BOUND_S})


def test_a_claude_session_is_paused_by_the_bell_and_goes_on_in_a_new_attempt(
    node: Node, database: Database, redis_url: str, broker: Broker, running: Callable[..., SessionId], now: Now
) -> None:
    session_id = running("echo here; exec sleep 600")
    control.pause(database, session_id)
    ring_once(redis_url, (WANTED, str(session_id)))
    until(lambda: now(session_id).status is Status.PAUSED, what="the pause")
    control.resume(database, broker.publish, session_id)
    thread = Thread(target=run_session, args=(node, session_id))
    thread.start()
    until(lambda: now(session_id).seq == 2, what="its next row")
    control.cancel(database, session_id)
    ring_once(redis_url, (WANTED, str(session_id)))
    thread.join(BOUND_S)
    ended = now(session_id)
    assert (ended.status, ended.attempt, ended.tries) == (Status.CANCELLED, 2, 0)


@pytest.mark.parametrize("on_lost", OnLost)
def test_a_pause_that_is_taken_back_too_late_for_the_child_queues_it_again(
    database: Database,
    redis_url: str,
    broker: Broker,
    running: Callable[..., SessionId],
    now: Now,
    tmp_path: Path,
    on_lost: OnLost,
) -> None:
    """The child does not end by itself, and is told so before it is killed: in that time the pause is taken back."""
    told = tmp_path / "told"
    session_id = running(f"trap 'touch {told}' INT TERM; echo here; while :; do sleep 0.1; done", on_lost=on_lost)
    control.pause(database, session_id)
    ring_once(redis_url, (WANTED, str(session_id)))
    until(told.exists, what="the end of the child")
    assert control.resume(database, broker.publish, session_id).wanted is None
    ring_once(redis_url, (WANTED, str(session_id)))
    until(lambda: now(session_id).status is Status.QUEUED, what="its being queued again")
    assert now(session_id).reason is Reason.RESUMED


def test_a_command_that_fails_twice_and_then_succeeds_completes_in_its_third_attempt(
    node: Node, database: Database, enqueue: Enqueue, now: Now
) -> None:
    node.settings = node.settings.model_copy(update={"retry_base_s": 0.2})
    count_up = 'n=$(($(cat n 2>/dev/null) + 1)); echo $n > n; echo "this is $n"; [ $n -eq 3 ]'
    session_id = enqueue("sh", "-c", count_up, max_tries=3)

    def ends() -> bool:
        run_session(node, session_id)
        return now(session_id).status.is_final

    until(ends, timeout_s=BOUND_S, what="its end")
    ended = now(session_id)
    assert (ended.status, ended.reason, ended.exit_code) == (Status.COMPLETED, Reason.FINISHED, 0)
    assert (ended.attempt, ended.tries, ended.recoveries) == (3, 2, 0)
    with database.connection() as connection:
        rows = [(row.attempt, row.data) for row in outputs.read(connection, session_id, limit=100)]
        again = [entry for entry in history.of_session(connection, session_id) if entry.reason is Reason.EXIT_CODE]
    assert rows == [(1, "this is 1"), (2, "this is 2"), (3, "this is 3")]
    assert [entry.detail for entry in again] == [
        "the child exited with code 1; try 2 of 3 begins in 1 s",
        "the child exited with code 1; try 3 of 3 begins in 1 s",
    ]


def test_a_retried_command_runs_once_more(node: Node, database: Database, enqueue: Enqueue, now: Now) -> None:
    session_id = enqueue("test", "-e", "there")
    run_session(node, session_id)
    assert now(session_id).status is Status.FAILED
    (node.settings.state_dir.parent / "there").touch()
    control.retry(database, lambda *_, **__: None, session_id)
    run_session(node, session_id)
    ended = now(session_id)
    assert (ended.status, ended.attempt, ended.tries) == (Status.COMPLETED, 2, 0)
