"""Whatever happens in a slot, its session ends with a reason, its child first, and the slot is free for the next."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from gsd_tasks.domain import policy
from gsd_tasks.domain.errors import DatabaseUnavailable
from gsd_tasks.domain.policy import Ending
from gsd_tasks.domain.session import OnLost, Session, SessionId
from gsd_tasks.domain.state import Reason, Status
from gsd_tasks.process import launch as launching
from gsd_tasks.process.contain import marked_processes
from gsd_tasks.process.launch import NotLaunched
from gsd_tasks.process.spool.exits import ExitRecord, read_exit
from gsd_tasks.process.spool.frames import SpoolCorrupt
from gsd_tasks.process.spool.reader import Record, SpoolReader
from gsd_tasks.service import attempt as attempts
from gsd_tasks.service import claiming, hold, vigil
from gsd_tasks.service import launching as beginning
from gsd_tasks.service import settle as settling
from gsd_tasks.service.attempt import run_session
from gsd_tasks.service.node import Node
from gsd_tasks.service.stream import Streamer
from gsd_tasks.settings import Settings
from gsd_tasks.store import transitions
from tests.service.messages import Broker, unsaid
from tests.waiting import BOUND_S, until

Enqueue = Callable[..., SessionId]
Now = Callable[[SessionId], Session]


def _breaks(*_: object, **__: object) -> Any:
    raise RuntimeError("our own fault")


@pytest.mark.parametrize(
    ("broken", "name"),
    [(attempts, "prepare"), (beginning, "launch"), (vigil, "News"), (Streamer, "pump"), (vigil, "read_exit")],
)
def test_a_fault_of_our_own_fails_the_session_and_leaves_the_slot_free(
    node: Node, enqueue: Enqueue, now: Now, monkeypatch: pytest.MonkeyPatch, broken: object, name: str
) -> None:
    session_id = enqueue("echo", "x")
    with monkeypatch.context() as patched:
        patched.setattr(broken, name, _breaks)
        run_session(node, session_id)

    ended = now(session_id)
    assert (ended.status, ended.reason) == (Status.FAILED, Reason.INTERNAL)
    assert "our own fault" in (ended.detail or "")
    following = enqueue("true")
    run_session(node, following)
    assert now(following).status is Status.COMPLETED


def test_a_launch_that_breaks_in_our_hands_leaves_no_child(
    node: Node, enqueue: Enqueue, now: Now, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The shim had started it; the answer could not be read."""
    real, shims = launching._converse, []

    def breaks(*args: Any) -> Any:
        shims.append(args[0])
        real(*args)
        raise RuntimeError("unreadable")

    monkeypatch.setattr(launching, "_converse", breaks)
    session_id = enqueue("sleep", "600")
    run_session(node, session_id)
    assert now(session_id).reason is Reason.INTERNAL
    # Its shim ends after the child, and by nobody's hand but ours.
    shims[0].wait(BOUND_S)
    until(lambda: not [found for found in marked_processes() if found.session_id == str(session_id)])


def test_an_outcome_that_cannot_be_written_is_a_fault_of_our_own(
    node: Node, enqueue: Enqueue, now: Now, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = policy.decide
    faults = iter([RuntimeError("no such verdict")])

    def breaks_once(*args: Any, **kwargs: Any) -> Any:
        if fault := next(faults, None):
            raise fault
        return real(*args, **kwargs)

    monkeypatch.setattr(settling, "decide", breaks_once)
    session_id = enqueue("true")
    run_session(node, session_id)
    assert (now(session_id).status, now(session_id).reason) == (Status.FAILED, Reason.INTERNAL)


def test_what_postgres_cannot_hold_is_written_in_another_form(
    node: Node, enqueue: Enqueue, now: Now, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The log of a shim that broke may hold anything, and the real path of a folder need not be UTF-8."""
    problem = "the shim broke: \0\udcff " + "x" * 100_000
    monkeypatch.setattr(beginning, "launch", lambda *_, **__: NotLaunched("shim", None, problem))
    session_id = enqueue("true")
    run_session(node, session_id)
    ended = now(session_id)
    assert (ended.status, ended.reason) == (Status.FAILED, Reason.START_FAILED)
    assert "the shim broke" in (ended.detail or "")
    assert len(ended.detail or "") <= 2000


@pytest.mark.parametrize("on_lost", OnLost)
@pytest.mark.parametrize("stage", ["killed", "timeout"])
def test_a_shim_that_is_gone_before_it_answers_is_a_loss_as_it_is_later(
    node: Node, enqueue: Enqueue, now: Now, monkeypatch: pytest.MonkeyPatch, stage: str, on_lost: OnLost
) -> None:
    """Whether its child ran for a moment nobody knows: the producer has said whether it may run again."""
    monkeypatch.setattr(beginning, "launch", lambda *_, **__: NotLaunched(stage, None, "no answer"))
    session_id = enqueue("true", on_lost=on_lost)
    run_session(node, session_id)
    ended = now(session_id)
    runs_again = on_lost is OnLost.REQUEUE
    assert (ended.status, ended.reason) == (Status.QUEUED if runs_again else Status.FAILED, Reason.CHILD_LOST)
    assert (ended.detail or "").startswith("no answer")
    assert (ended.tries, ended.recoveries) == (0, int(runs_again))


def test_no_child_outlives_its_session_when_the_spool_cannot_be_read(
    node: Node, enqueue: Enqueue, now: Now, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its state says that it is over only when its child is gone."""
    alive_at_settling: list[bool] = []
    real_settle = settling.settle

    def settle(*args: Any, **kwargs: Any) -> Any:
        pid = int((tmp_path / "pid").read_text())
        alive_at_settling.append(_is_alive(pid))
        return real_settle(*args, **kwargs)

    def corrupt(self: SpoolReader, max_bytes: int = 0) -> list[Record]:
        until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text())
        raise SpoolCorrupt(tmp_path, "a wrong checksum")

    monkeypatch.setattr(settling, "settle", settle)
    monkeypatch.setattr(SpoolReader, "read", corrupt)
    # Noted here and not by the child, which may have a PID namespace of its own.
    monkeypatch.setattr(beginning, "launch", _noting_pid(launching.launch, tmp_path / "pid"))
    session_id = enqueue("sleep", "600")
    run_session(node, session_id)

    assert now(session_id).reason is Reason.SPOOL_FAILED
    assert alive_at_settling == [False]


def test_a_spool_that_is_shorter_than_its_record_says_fails_the_session(
    node: Node, enqueue: Enqueue, now: Now, monkeypatch: pytest.MonkeyPatch
) -> None:
    def more_than_there_is(folder: Path) -> ExitRecord | None:
        record = read_exit(folder)
        return record and record._replace(stdout_bytes=record.stdout_bytes + 1)

    monkeypatch.setattr(vigil, "read_exit", more_than_there_is)
    session_id = enqueue("echo", "x")
    thread = threading.Thread(target=run_session, args=(node, session_id), daemon=True)
    thread.start()
    until(lambda: now(session_id).status.is_final)
    thread.join(BOUND_S)
    assert now(session_id).reason is Reason.SPOOL_FAILED


@pytest.mark.parametrize("answers", [True, False])
def test_a_claim_whose_answer_was_lost_is_run_and_blocks_no_slot(
    node: Node, enqueue: Enqueue, now: Now, monkeypatch: pytest.MonkeyPatch, answers: bool
) -> None:
    """However long nothing is known of it: the session is claimed, and nobody else will run it."""
    real = transitions.claim
    losses = iter(range(1 if answers else 3))

    def loses(*args: Any, **kwargs: Any) -> Any:
        claimed = real(*args, **kwargs)
        if next(losses, None) is not None:
            raise DatabaseUnavailable("the answer was lost")
        return claimed

    monkeypatch.setattr(transitions, "claim", loses)
    monkeypatch.setattr(claiming, "AWAY_S", 0.01)
    session_id = enqueue("true")
    run_session(node, session_id)
    assert (now(session_id).status, now(session_id).attempt) == (Status.COMPLETED, 1)


@pytest.mark.parametrize("on_lost", OnLost)
def test_a_session_that_had_not_begun_when_its_worker_stopped_is_queued_again(
    node: Node, enqueue: Enqueue, now: Now, monkeypatch: pytest.MonkeyPatch, on_lost: OnLost
) -> None:
    """Nothing of it has run: there is no reason to fail it, whatever it says about being lost."""
    real = transitions.claim

    def stops_meanwhile(*args: Any, **kwargs: Any) -> Any:
        node.stop_claiming()
        return real(*args, **kwargs)

    monkeypatch.setattr(transitions, "claim", stops_meanwhile)
    node.publish = broker = Broker()
    session_id = enqueue("true", on_lost=on_lost)
    run_session(node, session_id)
    assert (now(session_id).status, now(session_id).reason) == (Status.QUEUED, Reason.WORKER_STOPPED)
    # The worker that stops would be the first to take the message, and refuse it.
    assert broker.sent == []
    node.stop()
    assert broker.sent == [session_id]


def test_what_is_queued_again_gets_its_message_at_once(
    node: Node, enqueue: Enqueue, now: Now, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attempts.Attempt, "run", lambda _: Ending(reason=Reason.WORKER_STOPPED, handed_back=True))
    node.publish = broker = Broker()
    session_id = enqueue("true", on_lost=OnLost.REQUEUE)
    run_session(node, session_id)
    assert now(session_id).status is Status.QUEUED
    assert broker.sent == [session_id]


def test_a_worker_that_stops_while_the_database_is_away_does_not_wait_for_ever(
    node: Node, enqueue: Enqueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its session is left to the lease, and its spool stays: nobody else has what stands in it."""

    def away(*_: object, **__: object) -> Any:
        node.stop_claiming()
        raise DatabaseUnavailable("away")

    monkeypatch.setattr(settling, "settle", away)
    monkeypatch.setattr(hold, "AWAY_S", 0.01)
    monkeypatch.setattr(hold, "LAST_WORDS_S", 0.1)
    session_id = enqueue("echo", "x")
    thread = threading.Thread(target=run_session, args=(node, session_id), daemon=True)
    thread.start()
    thread.join(BOUND_S)
    assert not thread.is_alive()
    assert read_exit(node.spools.of(session_id, 1).folder) is not None


def _noting_pid(launch: Callable[..., Any], note: Path) -> Callable[..., Any]:
    def launching(*args: Any, **kwargs: Any) -> Any:
        launched = launch(*args, **kwargs)
        note.write_text(str(launched.child_pid))
        return launched

    return launching


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
def test_a_worker_whose_disk_is_full_fails_no_session_for_it(
    database_url: str, redis_url: str, settings: Settings, tmp_path: Path, enqueue: Enqueue, now: Now
) -> None:
    """It claims nothing; and what it had claimed when the disk became full is queued again."""
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "none", str(disk)], check=True)
    full = settings.model_copy(update={"state_dir": disk})
    node = Node(full, database_url=database_url, redis_url=redis_url, publish=unsaid, name="gsd@full", slots=1)
    try:
        node.start()
        with (disk / "ballast").open("wb", buffering=0) as ballast, suppress(OSError):
            while True:
                ballast.write(bytes(4096))
        first = enqueue("true")
        run_session(node, first)
        assert (now(first).status, now(first).attempt) == (Status.QUEUED, 0)

        node.spools.have_room = lambda: True  # type: ignore[method-assign]
        run_session(node, first)
        assert (now(first).status, now(first).reason, now(first).attempt) == (Status.QUEUED, Reason.SPOOL_FAILED, 1)
    finally:
        node.stop()
        subprocess.run(["umount", "-l", str(disk)], check=True)
