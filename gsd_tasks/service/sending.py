"""What a process says through Redis: messages to workers, bells to whoever waits; in one round trip, where it can be.

Neither is ever needed: what Redis does not take, the re-publisher sends, and who hears no bell looks by himself.

Redis's client is loaded by who says something: `gsd-tasks ps` does not, and has a `Sender` all the same.
"""

from __future__ import annotations

import contextlib
import time
from functools import cached_property
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias

from gsd_tasks.domain.errors import BrokerUnavailable
from gsd_tasks.service.announcing import say_it_waits
from gsd_tasks.service.one_by_one import OneByOne

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    import redis

    from gsd_tasks.domain.session import SessionId

#: Channel and message.
Bell: TypeAlias = tuple[str, str]
#: The list that it is to stand in, and itself.
_Message: TypeAlias = tuple[str, str]
#: Sent at once: a message is about a kilobyte.
PAGE_MESSAGES: Final = 1000
#: For how long an unused connection is kept: whatever lies between may have forgotten it without a word.
KEPT_S: Final = 30.0


class Write(Protocol):
    """Writes the message that lets a worker look at a session, as it stands in the queue's list."""

    def __call__(self, session_id: SessionId, *, queue: str, priority: int) -> str: ...


class Sender:
    """Keeps a connection from one time to the next. Safe to share among threads, and to have over a fork.

    Where Redis hangs, one thread at a time waits for it, for `broker.TIMEOUT_S`; the others do without it.
    """

    def __init__(self, redis_url: str, write: Write) -> None:
        self._redis_url = redis_url
        self._write = write
        self._asking = OneByOne()
        self._used_at: float | None = None

    @cached_property
    def _redis(self) -> redis.Redis:
        from gsd_tasks.service.broker import connect

        return connect(self._redis_url)

    def publish(self, session_id: SessionId, *, queue: str, priority: int) -> None:
        """A `Publish`: send the message of one session. Raises `BrokerUnavailable`."""
        self._send([self._written(session_id, queue, priority)], ())

    def ring(self, *bells: Bell) -> None:
        """Ring these (channel, message), and return when it is done. Never fails."""
        with contextlib.suppress(BrokerUnavailable):
            self._send((), bells)

    @contextlib.contextmanager
    def together(self) -> Iterator[Parcel]:
        """What is given to the parcel is sent at the end of the block, whatever becomes of that. Never fails."""
        parcel = Parcel()
        try:
            yield parcel
        finally:
            self._send_off(parcel)

    def close(self) -> None:
        """Keep no connection."""
        if "_redis" in vars(self):
            self._redis.close()

    def _send_off(self, parcel: Parcel) -> None:
        try:
            self._send([self._written(*named) for named in parcel.messages], parcel.bells)
        except BrokerUnavailable as error:
            for session_id, _, _ in parcel.messages[:1]:
                say_it_waits(session_id, error)

    def _written(self, session_id: SessionId, queue: str, priority: int) -> _Message:
        from gsd_tasks.service.messages import list_of

        return list_of(queue, priority), self._write(session_id, queue=queue, priority=priority)

    def _send(self, messages: Sequence[_Message], bells: Sequence[Bell]) -> None:
        if not messages and not bells:
            return
        from redis import RedisError

        from gsd_tasks.service.broker import no_answer

        try:
            with self._asking.attempt() as may_try:
                if may_try:
                    self._try_twice(messages, bells)
                    return
        except RedisError as error:
            raise BrokerUnavailable(no_answer(error, self._redis_url)) from error
        raise BrokerUnavailable("Redis did not answer just now")

    def _try_twice(self, messages: Sequence[_Message], bells: Sequence[Bell]) -> None:
        """A connection that was kept may have been closed meanwhile. What is sent twice does nothing."""
        from redis import ConnectionError as Closed

        used_at, self._used_at = self._used_at, None
        if used_at is not None and time.monotonic() - used_at > KEPT_S:
            self._redis.connection_pool.disconnect(inuse_connections=False)
        try:
            self._try(messages, bells)
        except Closed:
            if used_at is None:
                raise
            self._try(messages, bells)
        self._used_at = time.monotonic()

    def _try(self, messages: Sequence[_Message], bells: Sequence[Bell]) -> None:
        for start in range(0, max(1, len(messages)), PAGE_MESSAGES):
            page = messages[start : start + PAGE_MESSAGES]
            is_last = start + PAGE_MESSAGES >= len(messages)
            with self._redis.pipeline(transaction=False) as pipeline:
                for name, several in _by_list(page).items():
                    pipeline.lpush(name, *several)
                # Who hears a bell may look for what was said before it.
                for channel, message in bells if is_last else ():
                    pipeline.publish(channel, message)
                pipeline.execute()


class Parcel:
    """What is to be sent together: messages first, then bells."""

    def __init__(self) -> None:
        self.messages: list[tuple[SessionId, str, int]] = []
        self.bells: list[Bell] = []

    def publish(self, session_id: SessionId, *, queue: str, priority: int) -> None:
        """A `Publish` that never fails."""
        self.messages.append((session_id, queue, priority))

    def ring(self, *bells: Bell) -> None:
        """Ring these (channel, message), too."""
        self.bells += bells


def _by_list(messages: Iterable[_Message]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, message in messages:
        found.setdefault(name, []).append(message)
    return found
