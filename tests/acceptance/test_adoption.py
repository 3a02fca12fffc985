"""Sessions outlive their workers: a worker that starts goes on with what the last one of its host was running."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Sequence

import psycopg
import pytest

from gsd_tasks.domain.session import SLOTS, Session, SessionId
from gsd_tasks.domain.state import Reason, Status
from gsd_tasks.process.contain import marked_processes
from gsd_tasks.testing import OfflineModel, Text, ToolCall, Turn
from tests.claude_cli import BUNDLED_CLAUDE
from tests.cluster import Cluster
from tests.waiting import BOUND_S, until

#: So many workers are started anew one by one, with more sessions than slots: something waits all the time.
ROLLING = int(os.environ.get("GSD_TEST_ROLLING", "2"))
#: Says who it is, and then a line every 100 ms, for as long as the test wants.
UNTIL_TOLD = "echo $$; i=0; until [ -e gate ] && [ $i -ge 5 ]; do i=$((i+1)); echo $i; sleep 0.1; done; echo end"


def test_a_new_worker_streams_on_what_a_killed_one_was_running(cluster: Cluster) -> None:
    """Same attempt, same child, no gap; and three adopted sessions leave no place for a message."""
    worker = cluster.worker()
    sessions = [_start(cluster, UNTIL_TOLD) for _ in range(3)]
    waiting = cluster.client.enqueue(command=["true"], working_dir=cluster.folder)

    worker.kill()
    worker.wait()
    standing = {session.id: cluster.client.get(session.id).seq for session in sessions}
    started_at = time.monotonic()
    cluster.start_worker()
    for session in sessions:
        until(lambda s=session: cluster.client.get(s.id).seq > standing[s.id], timeout_s=BOUND_S)  # type: ignore[misc]
    took_s = time.monotonic() - started_at
    # It streams before its consumer begins to answer, and to take messages, if it has room.
    until(lambda: len(_active(cluster)) == 3)
    assert cluster.client.get(waiting.id).status is Status.QUEUED
    (cluster.folder / "gate").touch()

    for session in sessions:
        ended = cluster.client.wait(session.id, timeout_s=BOUND_S)
        assert (ended.status, ended.attempt, ended.recoveries) == (Status.COMPLETED, 1, 0)
        _check_whole(cluster, session)
        assert _reasons(cluster, session) == [Reason.ENQUEUED, Reason.CLAIMED, Reason.ADOPTED, Reason.FINISHED]
    assert cluster.client.wait(waiting.id, timeout_s=BOUND_S).status is Status.COMPLETED
    cluster.wait_until_clean()
    print(f"streaming again {took_s:.1f} s after the start of the new worker")  # noqa: T201  (a figure for docs/reliability.md)


def test_what_ended_while_no_worker_lived_is_settled_and_not_run_again(cluster: Cluster) -> None:
    worker = cluster.worker()
    session = _start(cluster, "echo $$; until [ -e gate ]; do sleep 0.05; done; echo last; exit 3")
    worker.kill()
    worker.wait()
    (cluster.folder / "gate").touch()
    until(lambda: list(cluster.state_dir.glob("spool/*/*/1/exit.json")), what="the child's end")

    cluster.worker()
    ended = cluster.client.wait(session.id, timeout_s=BOUND_S)
    assert (ended.reason, ended.exit_code, ended.attempt) == (Reason.EXIT_CODE, 3, 1)
    assert _printed(cluster, session)[1:] == ["last"]


def test_a_worker_never_takes_what_another_one_of_its_host_is_running(cluster: Cluster) -> None:
    """Not even while that one stands still: it may go on, and its lock goes only with its process."""
    first = cluster.worker("first", "-c", "1")
    session = _start(cluster, UNTIL_TOLD)
    first.send_signal(signal.SIGSTOP)
    cluster.worker("second", "-c", "1")
    first.send_signal(signal.SIGCONT)
    (cluster.folder / "gate").touch()

    assert cluster.client.wait(session.id, timeout_s=BOUND_S).status is Status.COMPLETED
    assert Reason.ADOPTED not in _reasons(cluster, session)
    _check_whole(cluster, session)


def test_a_worker_that_is_told_to_stop_hands_over_and_interrupts_nothing(cluster: Cluster) -> None:
    """A rolling restart of some workers under load: every session ends in its first attempt, and whole."""
    workers = {name: cluster.start_worker(name) for name in map("w{}".format, range(ROLLING))}
    for worker in workers.values():
        until(lambda w=worker: cluster.is_up(w), timeout_s=BOUND_S)  # type: ignore[misc]
    # However long the restarts take, there is something to hand over.
    command = ["sh", "-c", UNTIL_TOLD]
    sessions = [cluster.client.enqueue(command=command, working_dir=cluster.folder) for _ in range(8 * ROLLING)]
    for name, worker in workers.items():
        # What is claimed in the moment in which its worker is told to stop is handed back, and begins elsewhere.
        until(lambda n=name: _at_work_on(cluster, n) == SLOTS, timeout_s=BOUND_S)  # type: ignore[misc]
        worker.terminate()
        assert worker.wait(BOUND_S) == 0
        cluster.worker(name)
    (cluster.folder / "gate").touch()

    for session in sessions:
        ended = cluster.client.wait(session.id, timeout_s=BOUND_S)
        assert (ended.status, ended.attempt) == (Status.COMPLETED, 1)
        _check_whole(cluster, session)
    assert any(Reason.ADOPTED in _reasons(cluster, session) for session in sessions)


def test_the_child_of_an_attempt_that_is_over_is_ended_by_the_next_worker_of_its_host(cluster: Cluster) -> None:
    lease = {"GSD_LEASE_S": "6", "GSD_HEARTBEAT_S": "1"}
    cluster.maintenance(env=lease)
    worker = cluster.worker(env=lease)
    session = _start(cluster, "echo $$; exec sleep 600")
    worker.kill()
    worker.wait()
    # Nobody adopts it in time, so its lease runs out. Its child stands still, and would for ten minutes.
    until(lambda: cluster.client.get(session.id).status is Status.FAILED, timeout_s=BOUND_S)
    assert _marked(session.id)

    cluster.worker(env=lease)
    until(lambda: not _marked(session.id), what="the end of the child")
    cluster.wait_until_clean()


def test_a_session_cancelled_while_no_worker_lived_is_ended_by_the_one_that_adopts_it(cluster: Cluster) -> None:
    worker = cluster.worker()
    session = _start(cluster, "echo $$; exec sleep 600")
    worker.kill()
    worker.wait()
    cluster.client.cancel(session.id)

    cluster.worker()
    assert cluster.client.wait(session.id, timeout_s=BOUND_S).status is Status.CANCELLED
    assert not _marked(session.id)


def test_a_shim_that_was_killed_with_its_worker_costs_its_session_and_nothing_else(cluster: Cluster) -> None:
    """The adopter finds a spool that nobody writes: its rows are kept, and by `on_lost` it has failed."""
    worker = cluster.worker()
    session = _start(cluster, "echo $$; exec sleep 600")
    worker.kill()
    worker.wait()
    cluster.kill_shims()

    cluster.worker()
    ended = cluster.client.wait(session.id, timeout_s=BOUND_S)
    assert (ended.status, ended.reason) == (Status.FAILED, Reason.CHILD_LOST)
    assert len(_printed(cluster, session)) == 1
    assert not _marked(session.id)


def test_a_shim_that_stands_still_holds_up_its_session_no_longer_than_two_leases(cluster: Cluster) -> None:
    """Its worker lives and renews, but nobody would ever thaw the child: so the shim is killed, and its tree."""
    cluster.worker(env={"GSD_LEASE_S": "2", "GSD_HEARTBEAT_S": "0.5"})
    session = _start(cluster, "echo $$; exec sleep 600")
    (lock,) = cluster.state_dir.glob("spool/*/*/*/shim.lock")
    os.kill(json.loads(lock.read_bytes())["pid"], signal.SIGSTOP)

    ended = cluster.client.wait(session.id, timeout_s=BOUND_S)
    assert (ended.status, ended.reason) == (Status.FAILED, Reason.CHILD_LOST)
    assert not _marked(session.id)


def test_adoption_needs_no_redis(cluster: Cluster) -> None:
    worker = cluster.worker()
    session = _start(cluster, UNTIL_TOLD)
    worker.kill()
    worker.wait()

    cluster.start_worker(env={"GSD_REDIS_URL": "redis://127.0.0.1:1/0"})
    until(lambda: Reason.ADOPTED in _reasons(cluster, session), timeout_s=BOUND_S, what="the adoption")
    (cluster.folder / "gate").touch()
    assert cluster.client.wait(session.id, timeout_s=BOUND_S).status is Status.COMPLETED
    _check_whole(cluster, session)


def test_a_lock_of_the_former_worker_delays_nobody(cluster: Cluster) -> None:
    """A backend whose worker was killed in mid-statement may still hold the lease's row for a while."""
    worker = cluster.worker()
    session = _start(cluster, UNTIL_TOLD)
    with psycopg.connect(cluster.env["GSD_DATABASE_URL"]) as other:
        other.execute("SELECT 1 FROM leases FOR UPDATE")
        worker.kill()
        worker.wait()
        cluster.start_worker()
        until(lambda: len(_active(cluster)) == 1, timeout_s=BOUND_S)
    (cluster.folder / "gate").touch()
    assert cluster.client.wait(session.id, timeout_s=BOUND_S).status is Status.COMPLETED


@pytest.mark.slow
def test_a_claude_session_outlives_its_worker(cluster: Cluster) -> None:
    wait = ToolCall("Bash", {"command": "touch began; while [ ! -e gate ]; do sleep 0.1; done; echo through"})
    script: list[Turn] = [wait, Text("Done: it is open.")]
    with OfflineModel(script) as model:
        env = model.env | {"GSD_CLAUDE_BIN": str(BUNDLED_CLAUDE)}
        worker = cluster.worker(env=env)
        session = cluster.client.enqueue(prompt="Wait for the gate", working_dir=cluster.folder, allowed_tools=["Bash"])
        until((cluster.folder / "began").exists, timeout_s=BOUND_S)
        worker.kill()
        worker.wait()
        cluster.start_worker(env=env)
        (cluster.folder / "gate").touch()
        ended = cluster.client.wait(session.id, timeout_s=BOUND_S)

    assert (ended.status, ended.attempt) == (Status.COMPLETED, 1), ended
    assert ended.result is not None
    assert ended.result["text"] == "Done: it is open."
    cluster.wait_until_clean()


def test_what_a_conversation_said_before_its_adoption_counts(cluster: Cluster) -> None:
    """Its result is committed by the one worker, its end is seen by the other."""
    claude = cluster.folder / "claude"
    result = '{"type": "result", "subtype": "success", "is_error": false, "result": "All done.", "num_turns": 1}'
    claude.write_text(f"#!/bin/sh\necho '{result}'\nwhile [ ! -e gate ]; do sleep 0.05; done\n")
    claude.chmod(0o700)
    env = {"GSD_CLAUDE_BIN": str(claude), "ANTHROPIC_API_KEY": "none is needed"}
    worker = cluster.worker(env=env)
    session = cluster.client.enqueue(prompt="Do it", working_dir=cluster.folder)
    next(cluster.client.follow(session.id))
    worker.kill()
    worker.wait()
    (cluster.folder / "gate").touch()

    cluster.start_worker(env=env)
    ended = cluster.client.wait(session.id, timeout_s=BOUND_S)
    assert (ended.status, ended.attempt) == (Status.COMPLETED, 1), ended
    assert ended.result is not None
    assert ended.result["text"] == "All done."


def _check_whole(cluster: Cluster, session: Session) -> None:
    _, *numbers, end = _printed(cluster, session)
    assert end == "end"
    assert numbers == [str(number) for number in range(1, len(numbers) + 1)]


def _start(cluster: Cluster, script: str) -> Session:
    """It has printed its first line."""
    session = cluster.client.enqueue(command=["sh", "-c", script], working_dir=cluster.folder)
    next(cluster.client.follow(session.id))
    return session


def _at_work_on(cluster: Cluster, name: str) -> int:
    """How many sessions of this worker have a child that has said something."""
    running = cluster.client.list(status=Status.RUNNING)
    return sum(session.seq > 0 and (session.worker or "").startswith(f"{name}@") for session in running)


def _printed(cluster: Cluster, session: Session) -> list[str]:
    rows = list(cluster.client.follow(session.id))
    assert [row.seq for row in rows] == list(range(1, len(rows) + 1))
    return [row.as_text() for row in rows]


def _reasons(cluster: Cluster, session: Session) -> Sequence[Reason]:
    return [entry.reason for entry in cluster.client.history(session.id)]


def _active(cluster: Cluster) -> Sequence[object]:
    """What Celery itself says that its workers are at."""
    answers = cluster.app().control.inspect(timeout=2).active() or {}
    return [request for requests in answers.values() for request in requests]


def _marked(session_id: SessionId) -> list[int]:
    found = [marked.pid for marked in marked_processes() if marked.session_id == str(session_id)]
    return [pid for pid in found if pid != os.getpid()]
