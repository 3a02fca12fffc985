"""A session's whole way, through the processes that a user starts."""

from __future__ import annotations

import hashlib
import os
import signal
import sys
import threading
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest
import redis

from gsd_tasks.client import Event
from gsd_tasks.domain.session import Session
from gsd_tasks.domain.state import Reason, Status
from gsd_tasks.testing import ApiError, OfflineModel, Text, ToolCall, Turn, by_prompt
from tests.claude_cli import BUNDLED_CLAUDE
from tests.cluster import Cluster
from tests.waiting import BOUND_S, until

#: Six of each kind, three of them with the real CLI, and fifteen times the slots.
MIXED = int(os.environ.get("GSD_TEST_MIXED", "40"))
#: What the last of them prints, more than the 64 KiB of a pipe; each before it a little less.
LONGEST_BYTES = 100_000
BYTES = """
import hashlib, os, random, sys
seed, size = int(sys.argv[1]), int(sys.argv[2])
chance = random.Random(seed)
sums = {1: hashlib.sha256(), 2: hashlib.sha256()}
while size > 0:
    piece = bytes(chance.choices([0, 10, 13, 65, 0xC3, 0xA9, 0xFF], [1, 6, 2, 60, 4, 4, 1], k=min(size, 997)))
    fd = chance.choice([1, 1, 2])
    os.write(fd, piece)
    sums[fd].update(piece)
    size -= len(piece)
with open(sys.argv[3], "w") as out:
    out.write(sums[1].hexdigest() + " " + sums[2].hexdigest())
sys.exit(int(sys.argv[4]))
"""


def notes_of_messages(redis_url: str) -> int:
    """How often somebody noted in Redis which messages he has in hand."""
    with redis.Redis.from_url(redis_url) as server:
        told = server.info("commandstats")
    return sum(told.get(f"cmdstat_{command}", {"calls": 0})["calls"] for command in ("hset", "hdel"))


def test_what_a_command_prints_is_followed_live_and_its_end_is_known(cluster: Cluster, redis_url: str) -> None:
    noted_before = notes_of_messages(redis_url)
    cluster.worker()
    gate = cluster.folder / "gate"
    script = "echo first; while [ ! -e gate ]; do sleep 0.05; done; echo last >&2; printf tail; exit 3"
    session = cluster.client.enqueue(command=["sh", "-c", script], working_dir=cluster.folder)

    rows = cluster.client.follow(session.id)
    first = next(rows)
    assert (first.seq, first.stream, first.data, first.eol) == (1, "stdout", "first", True)
    assert cluster.client.get(session.id).status is Status.RUNNING
    gate.touch()
    rest = list(rows)

    assert {(row.stream, row.data, row.eol) for row in rest} == {("stderr", "last", True), ("stdout", "tail", False)}
    ended = cluster.client.wait(session.id, timeout_s=BOUND_S)
    assert (ended.status, ended.reason, ended.exit_code) == (Status.FAILED, Reason.EXIT_CODE, 3)
    assert [(h.from_status, h.to_status, h.reason) for h in cluster.client.history(session.id)] == [
        (None, "queued", "enqueued"),
        ("queued", "running", "claimed"),
        ("running", "failed", "exit_code"),
    ]
    cluster.wait_until_clean()
    # Its message was taken, and not noted on the way: what is lost with a worker is sent again all the same.
    assert notes_of_messages(redis_url) == noted_before


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_many_mixed_sessions_each_end_as_they_should_with_every_byte(cluster: Cluster) -> None:
    """Plain, failing, killed, missing, expired, timed out and Claude sessions through one worker of three slots."""
    script = by_prompt({"answer": [Text("forty-two")], "fail": [ApiError(403, "permission_error", "not for you")]})
    (cluster.folder / "bytes.py").write_text(BYTES)
    with OfflineModel(script) as model:
        cluster.worker(env=model.env | {"GSD_CLAUDE_BIN": str(BUNDLED_CLAUDE)})
        expected = {session.id: outcome for session, outcome in _enqueue_mixed(cluster)}
        for session_id, (status, reason, code) in expected.items():
            ended = cluster.client.wait(session_id, timeout_s=300)
            assert (ended.status, ended.reason, ended.exit_code) == (status, reason, code), ended
            rows = list(cluster.client.follow(session_id))
            assert [row.seq for row in rows] == list(range(1, ended.seq + 1))
            _check_bytes(cluster, ended)
    assert len(expected) == MIXED


def _enqueue_mixed(cluster: Cluster) -> list[tuple[Session, tuple[Status, Reason, int | None]]]:
    enqueue, folder, python = cluster.client.enqueue, cluster.folder, sys.executable
    failed, done = Status.FAILED, Status.COMPLETED
    mixed: list[tuple[Session, tuple[Status, Reason, int | None]]] = []
    outcome: tuple[Status, Reason, int | None]
    for number in range(MIXED):
        name, size = f"s{number}", str(LONGEST_BYTES * number // MIXED)
        match number % 10:
            case 0 | 1 | 2 | 3:
                command = [python, "bytes.py", str(number), size, f"sums-{name}", "0"]
                outcome = (done, Reason.FINISHED, 0)
            case 4:
                command = [python, "bytes.py", str(number), size, f"sums-{name}", "9"]
                outcome = (failed, Reason.EXIT_CODE, 9)
            case 5:
                command, outcome = ["sh", "-c", "echo x; kill -9 $$"], (failed, Reason.SIGNALLED, None)
            case 6:
                command, outcome = ["no-such-program"], (failed, Reason.START_FAILED, None)
            case 7:
                session = enqueue(command=["true"], working_dir="/no/such/folder", name=name)
                mixed.append((session, (failed, Reason.WORKING_DIR, None)))
                continue
            case 8:
                session = enqueue(command=["sleep", "60"], working_dir=folder, name=name, timeout_s=0.2)
                mixed.append((session, (failed, Reason.TIMEOUT, None)))
                continue
            case _ if number % 20 == 9:
                answers = number % 40 == 9
                session = enqueue(prompt="answer" if answers else "fail", working_dir=folder, name=name)
                outcome = (done, Reason.FINISHED, 0) if answers else (failed, Reason.UNAUTHENTICATED, 1)
                mixed.append((session, outcome))
                continue
            case _:
                command, outcome = ["true"], (done, Reason.FINISHED, 0)
        mixed.append((enqueue(command=command, working_dir=folder, name=name), outcome))
    return mixed


def _check_bytes(cluster: Cluster, session: Session) -> None:
    sums = cluster.folder / f"sums-{session.name}"
    if not sums.exists():
        return
    got = []
    for stream in ("stdout", "stderr"):
        checksum = hashlib.sha256()
        for piece in cluster.client.raw_output(session.id, stream):
            checksum.update(piece)
        got.append(checksum.hexdigest())
    assert got == sums.read_text().split()


def test_a_claude_session_changes_a_file_and_its_answer_is_kept(cluster: Cluster) -> None:
    """The real CLI, the model played: its prompt stands in no process list, its session id is ours."""
    target = cluster.folder / "greeting.txt"
    script: list[Turn] = [ToolCall("Write", {"file_path": str(target), "content": "hello\n"}), Text("Done: it greets.")]
    with OfflineModel(script) as model:
        cluster.worker(env=model.env | {"GSD_CLAUDE_BIN": str(BUNDLED_CLAUDE)})
        session = cluster.client.enqueue(prompt="Write a greeting", working_dir=cluster.folder)
        ended = cluster.client.wait(session.id, timeout_s=BOUND_S)

    assert (ended.status, ended.reason) == (Status.COMPLETED, Reason.FINISHED), ended
    assert target.read_text() == "hello\n"
    assert ended.result is not None
    assert ended.result["text"] == "Done: it greets."
    assert any(f'"session_id":"{session.id}"' in (row.data or "") for row in cluster.client.output(session.id))
    cluster.wait_until_clean()


def test_a_cancel_ends_the_child_and_then_the_session(cluster: Cluster) -> None:
    cluster.worker()
    session = cluster.client.enqueue(command=["sh", "-c", "echo $$; exec sleep 600"], working_dir=cluster.folder)
    next(cluster.client.follow(session.id))

    asked = cluster.client.cancel(session.id)
    assert asked.status is Status.RUNNING
    ended = cluster.client.wait(session.id, timeout_s=BOUND_S)

    assert (ended.status, ended.reason) == (Status.CANCELLED, Reason.CANCELLED)
    assert cluster.client.cancel(session.id).status is Status.CANCELLED


def test_a_queued_session_is_cancelled_at_once(cluster: Cluster) -> None:
    session = cluster.client.enqueue(command=["true"], working_dir=cluster.folder)
    assert cluster.client.cancel(session.id).status is Status.CANCELLED


def test_a_worker_takes_no_more_than_it_has_slots_for(cluster: Cluster) -> None:
    cluster.worker()
    gate = cluster.folder / "gate"
    script = "echo up; while [ ! -e gate ]; do sleep 0.05; done"
    sessions = [cluster.client.enqueue(command=["sh", "-c", script], working_dir=cluster.folder) for _ in range(5)]

    def running() -> Sequence[Session]:
        return cluster.client.list(status=Status.RUNNING)

    until(lambda: len(running()) == 3)

    assert {session.slot for session in running()} == {1, 2, 3}
    assert len(cluster.client.list(status=Status.QUEUED)) == 2
    gate.touch()
    for session in sessions:
        assert cluster.client.wait(session.id, timeout_s=BOUND_S).status is Status.COMPLETED


def test_priority_zero_runs_first(cluster: Cluster) -> None:
    client, folder = cluster.client, cluster.folder
    wanted = [client.enqueue(command=["true"], working_dir=folder, priority=p, name=str(p)) for p in (9, 5, 1, 0, 3)]
    cluster.worker("gsd", "-c", "1")
    ended = [client.wait(session.id, timeout_s=BOUND_S) for session in wanted]
    assert [s.name for s in sorted(ended, key=lambda s: str(s.started_at))] == ["0", "1", "3", "5", "9"]


@pytest.mark.parametrize(("number", "drain", "code"), [(signal.SIGTERM, "finish", 0), (signal.SIGINT, "handover", 1)])
def test_a_worker_that_finishes_hands_back_claude_and_fails_a_command(
    cluster: Cluster, number: signal.Signals, drain: str, code: int
) -> None:
    """`on_lost` says which: a session that is queued again runs on the next worker, from the next row on.

    An interrupt is a person's: it finishes, whatever the setting says.
    """
    process = cluster.worker(env={"GSD_DRAIN": drain})
    again = cluster.client.enqueue(
        command=["sh", "-c", "echo up; exec sleep 600"], working_dir=cluster.folder, on_lost="requeue"
    )
    never = cluster.client.enqueue(command=["sh", "-c", "echo up; exec sleep 600"], working_dir=cluster.folder)
    for session in (again, never):
        next(cluster.client.follow(session.id))

    process.send_signal(number)
    assert process.wait(BOUND_S) == code
    assert cluster.client.get(never.id).reason is Reason.WORKER_STOPPED
    assert cluster.client.get(never.id).status is Status.FAILED
    assert cluster.client.get(again.id).status is Status.QUEUED

    cluster.worker("second")
    cluster.maintenance()
    until(lambda: cluster.client.get(again.id).attempt == 2, timeout_s=BOUND_S)
    until(lambda: len(cluster.client.output(again.id)) == 2)
    assert [(row.seq, row.attempt) for row in cluster.client.output(again.id)] == [(1, 1), (2, 2)]
    cluster.client.cancel(again.id)
    assert cluster.client.wait(again.id, timeout_s=BOUND_S).status is Status.CANCELLED


def test_what_redis_lost_and_what_is_due_later_is_published_by_maintenance(cluster: Cluster, redis_url: str) -> None:

    client = cluster.client
    lost = [client.enqueue(command=["true"], working_dir=cluster.folder) for _ in range(5)]
    soon = client.enqueue(command=["true"], working_dir=cluster.folder, run_at=datetime.now(UTC) + timedelta(seconds=3))
    stale = client.enqueue(
        command=["true"],
        working_dir=cluster.folder,
        queue="nobody",
        expires_at=datetime.now(UTC) + timedelta(seconds=1),
    )
    with redis.Redis.from_url(redis_url) as server:
        server.flushall()
    cluster.maintenance()
    cluster.worker()

    for session in (*lost, soon):
        ended = client.wait(session.id, timeout_s=BOUND_S)
        assert (ended.status, ended.attempt) == (Status.COMPLETED, 1)
    assert soon.run_at is not None
    assert (client.get(soon.id).started_at or soon.run_at) >= soon.run_at
    assert client.wait(stale.id, timeout_s=BOUND_S).reason is Reason.EXPIRED


def test_listening_from_a_cursor_misses_nothing(cluster: Cluster) -> None:
    cluster.worker()
    stop = threading.Event()
    heard: list[str] = []

    @cluster.client.on("session:completed")
    def _completed(event: object) -> None:
        heard.append("completed")
        stop.set()

    @cluster.client.on("session:output")
    def _output(event: object) -> None:
        heard.append("output")

    events = cluster.client.listen(stop=stop)
    collected: list[Event] = []

    def collect() -> None:
        for event in events:
            collected.append(event)  # noqa: PERF402 (each as it comes)

    thread = threading.Thread(target=collect)
    thread.start()
    # It begins at some moment from now on: when it hears of one of these, it has.

    def has_begun() -> bool:
        cluster.client.enqueue(command=["true"], working_dir=cluster.folder, queue="nobody")
        return bool(collected)

    until(has_begun, what="listening")
    session = cluster.client.enqueue(command=["echo", "hi"], working_dir=cluster.folder)
    thread.join(BOUND_S)
    assert not thread.is_alive()

    names = [event.name for event in collected if event.session_id == session.id]
    assert names == ["session:enqueued", "session:started", "session:output", "session:completed"]
    assert heard == ["output", "completed"]
    again, stop_again = [], threading.Event()
    enqueued = next(event for event in collected if event.session_id == session.id)
    for event in cluster.client.listen(after=enqueued.cursor, stop=stop_again):
        again.append(event.name)
        if event.name == "session:completed":
            stop_again.set()
    assert again == ["session:started", "session:output", "session:completed"]


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["-P", "solo"], "-P solo"),
        (["--autoscale", "5,1"], "--autoscale"),
        (["-B"], "-B"),
        (["-c", "4"], "-c 4"),
        (["-Q", "sessions,maint"], "-Q sessions,maint"),
    ],
)
def test_a_worker_that_could_not_work_is_refused_in_one_line(
    cluster: Cluster, arguments: list[str], problem: str
) -> None:
    process = cluster.celery("worker", *arguments)
    assert process.wait(BOUND_S) == 125
    lines = [line for line in cluster.logs().splitlines() if line.startswith("gsd-tasks: ")]
    assert len(lines) == 1
    assert problem in lines[0]


def test_a_worker_without_workspace_roots_is_refused(cluster: Cluster) -> None:
    process = cluster.plain_celery("worker", env={"GSD_WORKSPACE_ROOTS": ""})
    assert process.wait(BOUND_S) == 125
    assert "GSD_WORKSPACE_ROOTS" in cluster.logs()


def test_sending_a_prompt_as_a_task_says_what_to_use(cluster: Cluster) -> None:
    from gsd_tasks.domain.errors import UsageError
    from gsd_tasks.tasks import run_session

    with pytest.raises(UsageError, match=r"Client\(\)\.enqueue"):
        run_session.delay("some prompt")
