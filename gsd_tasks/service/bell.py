"""Bells: Redis messages that say "look". What there is to see is always read from Postgres.

A bell that is not heard costs time, never correctness: everybody who waits for one also looks by itself, slowly. So
ringing never fails and never blocks, and listening without Redis is just waiting.

Redis's client is loaded by who rings or listens: `gsd-tasks ps` does neither, and knows this module by its names.
"""

from __future__ import annotations

import contextlib
import threading
import time
from typing import TYPE_CHECKING, Final, Self

from gsd_tasks.service.loop import Loop
from gsd_tasks.service.one_by_one import OneByOne

if TYPE_CHECKING:
    from redis import Redis
    from redis.client import PubSub

    from gsd_tasks.domain.session import SessionId

#: Somebody wants something of a running session; the message is its id.
WANTED: Final = "gsd:wanted"
#: A transition was written.
HISTORY: Final = "gsd:history"
#: How long nothing is tried after Redis did not answer.
PAUSE_S: Final = 1.0
#: The longest silence of a listener: what is due by itself is looked for this often.
REST_S: Final = 60.0
_ringing: Final = OneByOne()


def session_channel(session_id: SessionId) -> str:
    """Rings for new output rows and for every transition of one session."""
    return f"gsd:session:{session_id}"


class Bell:
    """The ringing side. `ring` only notes the message; a thread of its own sends it, many in one go."""

    def __init__(self, redis_url: str) -> None:
        from gsd_tasks.service.broker import connect

        self._redis = connect(redis_url)
        self._noted: dict[tuple[str, str], None] = {}
        self._lock = threading.Lock()
        self._loop = Loop("bell", self._send, interval_s=REST_S)

    def start(self) -> None:
        """Begin to send."""
        self._loop.start()

    def stop(self) -> None:
        """Send what is noted, and no more."""
        import redis

        self._loop.stop()
        with contextlib.suppress(redis.RedisError):
            self._publish()
        self._redis.close()

    def ring(self, channel: str, message: str = "") -> None:
        """Never blocks, never fails; the same bell noted twice is rung once."""
        with self._lock:
            self._noted[channel, message] = None
        self._loop.hurry()

    def _send(self) -> None:
        import redis

        try:
            self._publish()
        except redis.RedisError:
            # Dropped on purpose: an old bell says nothing that a look does not.
            time.sleep(PAUSE_S)

    def _publish(self) -> None:
        with self._lock:
            noted, self._noted = self._noted, {}
        if noted:
            with self._redis.pipeline(transaction=False) as pipeline:
                for channel, message in noted:
                    pipeline.publish(channel, message)
                pipeline.execute()


class Ear:
    """The listening side, for one thread. Usable as a context manager.

    Until it listens it costs nothing: who finds at the first look what it came for never does.
    """

    def __init__(self, redis_url: str, *channels: str) -> None:
        self._redis_url = redis_url
        self._redis: Redis | None = None
        self._channels = channels
        self._subscription: PubSub | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def listen(self) -> bool:
        """Subscribe, if that is not done: what rings from now on is heard. False: Redis does not answer."""
        import redis

        if self._subscription is not None:
            return True
        try:
            subscription = self._client().pubsub()  # type: ignore[no-untyped-call]
            subscription.subscribe(*self._channels)
            # Subscribed is what the server has confirmed, not what was sent.
            for _ in self._channels:
                subscription.get_message(timeout=2)
        except redis.RedisError:
            return False
        self._subscription = subscription
        return True

    @property
    def is_listening(self) -> bool:
        """Whether it is subscribed, as far as it knows."""
        return self._subscription is not None

    def wait(self, timeout_s: float) -> str | None:
        """The next message, or None when none came in time or Redis is away.

        Or, at once, when this begins to listen: it may have rung until now, so there may be something to see.
        """
        import redis

        if self._subscription is None:
            if not self.listen():
                time.sleep(min(timeout_s, PAUSE_S))
            return None
        try:
            return self._next(timeout_s)
        except redis.RedisError:
            self._unsubscribe()
            return None

    def close(self) -> None:
        """Hear nothing more."""
        self._unsubscribe()
        if self._redis is not None:
            self._redis.close()

    def _client(self) -> Redis:
        from gsd_tasks.service.broker import connect

        self._redis = self._redis or connect(self._redis_url)
        return self._redis

    def _next(self, timeout_s: float) -> str | None:
        assert self._subscription is not None  # noqa: S101  (listen has seen to it)
        message = self._subscription.get_message(ignore_subscribe_messages=True, timeout=timeout_s)
        return None if message is None else str(message["data"])

    def _unsubscribe(self) -> None:
        import redis

        if self._subscription is not None:
            with contextlib.suppress(redis.RedisError):
                self._subscription.close()
            self._subscription = None


def ring_once(redis_url: str, *bells: tuple[str, str]) -> None:
    """Ring from a process that has no loop for it, and return when it is done. Never fails.

    Where Redis hangs, one thread at a time waits for it, and the bells of the others are not rung.
    """
    import redis

    from gsd_tasks.service.broker import connect

    with contextlib.suppress(redis.RedisError), _ringing.attempt() as may_try:
        if may_try:
            with connect(redis_url) as client:
                for channel, message in bells:
                    client.publish(channel, message)


def answers(redis_url: str) -> bool:
    """Whether Redis does, within some 2 s."""
    import redis

    from gsd_tasks.service.broker import connect

    try:
        with connect(redis_url) as client:
            return bool(client.ping())
    except redis.RedisError:
        return False
