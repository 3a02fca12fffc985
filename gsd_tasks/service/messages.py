"""The messages that wait on Redis, as Celery's transport lays them out: a list per queue and priority."""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import redis

from gsd_tasks.domain.errors import BrokerUnavailable
from gsd_tasks.domain.session import LOWEST_PRIORITY
from gsd_tasks.service.bell import connect

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

#: Every process of the cluster must name its lists alike: this is also the transport's `priority_steps`.
PRIORITY_STEPS: Final = list(range(LOWEST_PRIORITY + 1))
#: What stands between the queue's name and the step; the first step's list has the bare name.
SEPARATOR: Final = "\x06\x16"


class QueuedMessages:
    """Counts the messages, and says which sessions they speak of."""

    def __init__(self, redis_url: str) -> None:
        self._redis_url = redis_url

    def count(self, queues: Collection[str]) -> int:
        """How many messages wait in these queues. Raises `BrokerUnavailable`."""
        with self._client() as client, client.pipeline(transaction=False) as pipeline:
            for key in _lists(queues):
                pipeline.llen(key)
            return sum(pipeline.execute())

    def session_ids(self, queues: Collection[str]) -> set[str]:
        """The sessions that these queues' messages speak of. Raises `BrokerUnavailable`."""
        ids: set[str] = set()
        with self._client() as client:
            for key in _lists(queues):
                ids.update(_session_of(message) for message in client.lrange(key, 0, -1))
        return ids

    @contextmanager
    def _client(self) -> Iterator[redis.Redis]:
        try:
            with connect(self._redis_url) as client:
                yield client
        except redis.RedisError as error:
            raise BrokerUnavailable(f"Redis does not answer: {error}") from error


def _lists(queues: Collection[str]) -> list[str]:
    return [f"{queue}{SEPARATOR}{step}" if step else queue for queue in queues for step in PRIORITY_STEPS]


def _session_of(message: str | bytes) -> str:
    """Ours carry the session's id as their own; whatever else stands in the queue is nobody's."""
    try:
        return str(json.loads(message)["headers"]["id"])
    except (ValueError, KeyError, TypeError):
        return ""
