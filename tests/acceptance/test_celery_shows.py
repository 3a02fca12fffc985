"""What a monitor of Celery's events sees of a session: the truth, and no prompt."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import redis
from celery import Celery

from gsd_tasks.domain.state import Status
from tests.cluster import Cluster
from tests.waiting import BOUND_S, until

Events = list[dict[str, Any]]


@contextmanager
def watching(redis_url: str) -> Iterator[Events]:
    """The task events of the cluster, as Flower gets them: all of them, from the beginning of the block on."""
    app, events = Celery(broker=redis_url), []  # type: ignore[var-annotated]
    with app.connection_for_read() as connection, redis.Redis.from_url(redis_url) as server:
        receiver = app.events.Receiver(connection, handlers={"*": events.append})
        # Without a timeout: after one it would subscribe anew, and what is said in between is heard by nobody.
        thread = threading.Thread(target=receiver.capture, kwargs={"limit": None, "timeout": None, "wakeup": False})
        thread.start()
        try:
            until(server.pubsub_numpat, what="a subscription")
            yield events
        finally:
            receiver.should_stop = True
            thread.join()


def states(events: Events, session_id: object) -> list[str]:
    return [event["type"] for event in list(events) if event.get("uuid") == str(session_id)]


@pytest.fixture
def seldom(cluster: Cluster) -> list[str]:
    """Options of a worker that sends its events when it is told to stop, but for the first."""
    module = "from gsd_tasks import celery_consumer\n\ncelery_consumer.EVENTS_EVERY_S = 600\n"
    (cluster.folder / "seldom.py").write_text(module)
    return ["-I", "seldom"]


@pytest.mark.parametrize("is_seldom", [False, True])
def test_celery_shows_how_each_session_ended(
    cluster: Cluster, redis_url: str, seldom: list[str], *, is_seldom: bool
) -> None:
    secret = "the-prompt-itself"
    with watching(redis_url) as events:
        process = cluster.worker("gsd", *(seldom if is_seldom else ()))
        folder, client = cluster.folder, cluster.client
        done = client.enqueue(command=["sh", "-c", f": {secret}"], working_dir=folder)
        failed = client.enqueue(command=["sh", "-c", "exit 4"], working_dir=folder, env={"SECRET": secret})
        client.wait(done.id, timeout_s=BOUND_S)
        client.wait(failed.id, timeout_s=BOUND_S)
        cancelled = client.enqueue(command=["sleep", "600"], working_dir=folder)
        until(lambda: client.get(cancelled.id).status is Status.RUNNING)
        client.cancel(cancelled.id)
        client.wait(cancelled.id, timeout_s=BOUND_S)
        requeued = client.enqueue(command=["sleep", "600"], working_dir=folder, on_lost="requeue")
        until(lambda: client.get(requeued.id).status is Status.RUNNING)
        process.send_signal(signal.SIGINT)
        process.wait(BOUND_S)

        wanted = {
            done.id: "task-succeeded",
            failed.id: "task-failed",
            cancelled.id: "task-revoked",
            requeued.id: "task-retried",
        }
        for session_id, last in wanted.items():
            until(lambda s=session_id, e=last: e in states(events, s), what=f"{last} of {session_id}")  # type: ignore[misc]
            assert states(events, session_id)[-1] == last
        reason = next(event["exception"] for event in events if event["type"] == "task-failed")
        assert "exit_code: the child exited with code 4" in reason
        assert secret not in json.dumps(events, default=str)


def test_celery_shows_what_ended_while_its_worker_waited_for_it(
    cluster: Cluster, redis_url: str, seldom: list[str]
) -> None:
    """By then its loop has ended, which a message wakes for that, and nobody calls what was to be called later."""
    with watching(redis_url) as events:
        process = cluster.worker("gsd", *seldom)
        folder, client = cluster.folder, cluster.client
        slow = ["sh", "-c", "trap '' INT; echo ready; while :; do sleep 0.1; done"]
        session = client.enqueue(command=slow, working_dir=folder, on_lost="requeue")
        until(lambda: client.output(session.id))
        process.send_signal(signal.SIGINT)
        client.enqueue(command=["true"], working_dir=folder)
        process.wait(BOUND_S)

        until(lambda: "task-retried" in states(events, session.id), what="the last event")
