"""How a session worker's Celery talks to Redis: fewer words for each message than it is used to.

A message is a hint here. Celery notes each in Redis as it takes it, and crosses it out as a slot begins with it, two
transactions, so that somebody sends it again whose worker died in between; but what is queued and has no message is
sent again anyway. What a worker has taken and does not begin, as it stops, it puts back itself. And it sends the events
of tasks as they happen: here a few at a time.
"""

from __future__ import annotations

import contextlib
import math
import time
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from celery import bootsteps
from kombu.transport import virtual
from vine import promise  # type: ignore[import-untyped]

if TYPE_CHECKING:
    from collections.abc import Callable

#: Who watches events hears of them so much later at most.
EVENTS_EVERY_S: Final = 0.1


class Frugal(bootsteps.StartStopStep):
    """A step of the consumer's start, which comes again with each new connection."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def start(self, consumer: Any) -> None:
        """Before the first message is taken."""
        qos = consumer.task_consumer.channel.qos
        # In memory alone, where it is known which of them are in hand.
        qos.append = partial(virtual.QoS.append, qos)
        qos.ack = partial(virtual.QoS.ack, qos)
        qos.restore_unacked = partial(put_back, qos)
        flush = Paced(consumer._flush_events, consumer.hub.call_later)  # noqa: SLF001  (Celery has no other way)
        # What is called soon after something has happened, once however much that was.
        consumer._flush_events_promise = promise(flush)  # noqa: SLF001  (likewise)

    def stop(self, consumer: Any) -> None:
        """What has happened by now is told, before the connection goes."""
        self._tell(consumer)

    def shutdown(self, consumer: Any) -> None:
        """So is what has happened since: Celery waits for what runs, and by then no loop calls anything later."""
        self._tell(consumer)

    @staticmethod
    def _tell(consumer: Any) -> None:
        with contextlib.suppress(*consumer.connection_errors):
            consumer._flush_events()  # noqa: SLF001  (likewise)


def put_back(qos: Any) -> None:
    """What was taken, and not begun, goes to where it is taken next: in one transaction, from what is in memory."""
    qos._flush()  # noqa: SLF001  (Celery has no other way; so below)
    taken, channel = qos._delivered, qos.channel  # noqa: SLF001
    with channel.conn_or_acquire() as client, client.pipeline() as pipe:
        for message in taken.values():
            info = message.delivery_info
            channel._do_restore_message(message._raw, info["exchange"], info["routing_key"], pipe)  # noqa: SLF001
        pipe.execute()
    taken.clear()


class Paced:
    """Calls `do`, at most every `EVENTS_EVERY_S`: at once if it was not called of late, else later. For one thread."""

    def __init__(self, do: Callable[[], object], call_later: Callable[[float, Callable[[], None]], object]) -> None:
        self._do = do
        self._call_later = call_later
        self._done_at = self._due_at = -math.inf

    def __call__(self) -> None:
        now = time.monotonic()
        if now >= self._done_at + EVENTS_EVERY_S:
            self._run()
        elif self._due_at <= now:
            # Timers are lost with a connection: a call that comes when this one is overdue does without it.
            self._due_at = self._done_at + EVENTS_EVERY_S
            self._call_later(self._due_at - now, self._run)

    def _run(self) -> None:
        self._done_at, self._due_at = time.monotonic(), -math.inf
        self._do()
