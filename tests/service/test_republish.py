"""No message that stands in Redis, and nobody takes, keeps another session waiting."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

import pytest
import redis

from gsd_tasks.celery_app import make_publish
from gsd_tasks.domain.graph import Item
from gsd_tasks.domain.session import SessionId, Submission
from gsd_tasks.service import republish as sweeping
from gsd_tasks.service.announcing import Publish
from gsd_tasks.service.graph import submit_many
from gsd_tasks.service.messages import QueuedMessages
from gsd_tasks.service.republish import republish
from gsd_tasks.service.submit import submit
from gsd_tasks.store import Database


class Sent(list[str]):
    """A publisher that notes whom it was asked to send for."""

    def __call__(self, session_id: SessionId, *, queue: str, priority: int) -> None:
        self.append(str(session_id))


def _submit(database: Database, publish: Publish, queue: str, number: int = 1) -> list[str]:
    return [str(submit(database, publish, _request(queue)).id) for _ in range(number)]


def _request(queue: str) -> Submission:
    return Submission(command=("true",), working_dir="/", queue=queue)


def test_old_messages_of_a_queue_that_nobody_takes_hide_no_lost_one(database: Database, redis_url: str) -> None:
    publish = make_publish(redis_url)
    (waiting,) = _submit(database, publish, "nobody")
    for _ in range(9):
        publish(SessionId(UUID(waiting)), queue="nobody", priority=5)
    (lost,) = _submit(database, Sent(), "sessions")

    sent = Sent()
    assert republish(database, QueuedMessages(redis_url), sent).published == 1
    assert sent == [lost]


def test_a_sweep_reaches_beyond_the_sessions_of_a_queue_that_nobody_takes(
    database: Database, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweeping, "SWEEP_SESSIONS", 3)
    _submit(database, make_publish(redis_url), "nobody", 4)
    lost = _submit(database, Sent(), "sessions", 2)
    sent = Sent()
    republish(database, QueuedMessages(redis_url), sent)
    assert sent == lost


def test_what_stands_in_redis_is_not_sent_again(database: Database, redis_url: str) -> None:
    publish = make_publish(redis_url)
    for _ in range(2):
        submit_many(database, publish, [Item(request=_request("sessions"))] * 600)
    (lost,) = _submit(database, Sent(), "sessions")
    sent = Sent()
    republish(database, QueuedMessages(redis_url), sent)
    assert sent == [lost]


def test_a_redis_that_takes_no_messages_does_not_lose_a_session(database: Database, redis_url: str) -> None:
    """Full, or made a replica: it answers, with an error. The session is written, and the sweep will send it."""
    publish = make_publish(redis_url)
    with _without_writes(redis_url):
        (queued,) = _submit(database, publish, "sessions")
    sent = Sent()
    republish(database, QueuedMessages(redis_url), sent)
    assert sent == [queued]


@contextmanager
def _without_writes(redis_url: str) -> Iterator[None]:
    with redis.Redis.from_url(redis_url) as server:
        server.config_set("maxmemory", 1)
        try:
            yield
        finally:
            server.config_set("maxmemory", 0)
