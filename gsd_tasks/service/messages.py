"""The messages that wait on Redis, as Celery's transport lays them out: a list per queue and priority."""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import redis

from gsd_tasks.domain.errors import BrokerUnavailable
from gsd_tasks.domain.session import LOWEST_PRIORITY
from gsd_tasks.service.broker import connect, no_answer

if TYPE_CHECKING:
    from collections.abc import Iterator

#: What a message asks for: to run the session whose id is its one argument; of maintenance, to sweep.
RUN_SESSION: Final = "gsd_tasks.run_session"
SWEEP: Final = "gsd_tasks.sweep"
#: Every process of the cluster must name its lists alike: this is also the transport's `priority_steps`.
PRIORITY_STEPS: Final = list(range(LOWEST_PRIORITY + 1))
#: What stands between the queue's name and the step; the first step's list has the bare name.
SEPARATOR: Final = "\x06\x16"
#: A message is about a kilobyte, and a hundred thousand of them may wait.
PAGE_MESSAGES: Final = 1000


class QueuedMessages:
    """Counts the messages, and says which sessions they speak of. Every method may raise `BrokerUnavailable`."""

    def __init__(self, redis_url: str) -> None:
        self._redis_url = redis_url

    def count(self, queue: str) -> int:
        """How many messages wait in this queue."""
        with self._client() as client, client.pipeline(transaction=False) as pipeline:
            for key in _lists(queue):
                pipeline.llen(key)
            return sum(pipeline.execute())

    def session_ids(self, queue: str) -> set[str]:
        """The sessions that this queue's messages speak of."""
        with self._client() as client:
            return {_session_of(message) for key in _lists(queue) for message in _messages(client, key)}

    @contextmanager
    def _client(self) -> Iterator[redis.Redis]:
        try:
            with connect(self._redis_url) as client:
                yield client
        except redis.RedisError as error:
            raise BrokerUnavailable(no_answer(error, self._redis_url)) from error


def list_of(queue: str, priority: int) -> str:
    """The list in which the messages of this priority wait."""
    return f"{queue}{SEPARATOR}{priority}" if priority else queue


def _lists(queue: str) -> list[str]:
    return [list_of(queue, step) for step in PRIORITY_STEPS]


def _messages(client: redis.Redis, key: str) -> Iterator[str | bytes]:
    """Page by page from the newest: what is added or taken meanwhile moves none past us unseen."""
    begin = 0
    while page := client.lrange(key, begin, begin + PAGE_MESSAGES - 1):
        yield from page
        begin += PAGE_MESSAGES


def _session_of(message: str | bytes) -> str:
    """Ours carry the session's id as their own; whatever else stands in the queue is nobody's."""
    try:
        return str(json.loads(message)["headers"]["id"])
    except (ValueError, KeyError, TypeError):
        return ""
