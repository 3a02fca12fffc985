"""What a monitor of Celery's events sees of a session: the truth, and no prompt."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

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


def test_celery_shows_how_each_session_ended(cluster: Cluster, redis_url: str) -> None:
    secret = "the-prompt-itself"
    with watching(redis_url) as events:
        process = cluster.worker()
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
