"""One subscription for all that is followed here: bells of Redis, heard on the event loop."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from redis.exceptions import RedisError

from gsd_tasks.service.bell import PAUSE_S
from gsd_tasks.service.broker import connect_async
from gsd_tasks.telemetry import get_log

if TYPE_CHECKING:
    from collections.abc import Callable

    from redis.asyncio.client import PubSub

#: After so long without a bell Redis is asked whether it is there.
SILENCE_S: Final = 30.0


class Bells:
    """Calls `heard` with the channel of each bell, and once more as soon as a channel is listened at.

    Without Redis nothing is heard, and it is tried again once a second. Nothing is connected before the first channel
    is wanted.
    """

    def __init__(self, redis_url: str, heard: Callable[[str], None]) -> None:
        self._redis_url = redis_url
        self._heard = heard
        self._wanted: set[str] = set()
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._log = get_log("bells")

    def start(self) -> None:
        """Listen from now on."""
        self._task = asyncio.create_task(self._run(), name="gsd-bells")

    async def stop(self) -> None:
        """Hear nothing more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    def want(self, channel: str) -> None:
        """Listen at this one too."""
        self._wanted.add(channel)
        self._changed.set()

    def leave(self, channel: str) -> None:
        """Listen at this one no more."""
        self._wanted.discard(channel)
        self._changed.set()

    async def _run(self) -> None:
        while True:
            await self._changed.wait()
            try:
                await self._listen()
            except* (RedisError, OSError):
                pass  # whoever follows looks by himself
            except* Exception:  # noqa: BLE001 (the loop's boundary: logged, and tried again)
                self._log.exception("listening failed")
            self._changed.set()
            await asyncio.sleep(PAUSE_S)

    async def _listen(self) -> None:
        async with connect_async(self._redis_url) as client, client.pubsub() as subscription:
            subscribed = await self._subscribe(subscription, set())
            async with asyncio.TaskGroup() as both:
                both.create_task(self._keep_subscribed(subscription, subscribed))
                both.create_task(self._hear(subscription))

    async def _keep_subscribed(self, subscription: PubSub, subscribed: set[str]) -> None:
        while True:
            await self._changed.wait()
            subscribed = await self._subscribe(subscription, subscribed)

    async def _subscribe(self, subscription: PubSub, subscribed: set[str]) -> set[str]:
        self._changed.clear()
        wanted = set(self._wanted)
        if more := wanted - subscribed:
            await subscription.subscribe(*more)
        if less := subscribed - wanted:
            await subscription.unsubscribe(*less)
        return wanted

    async def _hear(self, subscription: PubSub) -> None:
        while True:
            message = await subscription.get_message(timeout=SILENCE_S)
            if message is None:
                # A host that is gone without a word is found out only by who asks it.
                await subscription.ping()
                message = await subscription.get_message(timeout=SILENCE_S)
                if message is None:
                    raise ConnectionError
            if message["type"] in {"message", "subscribe"}:
                self._heard(message["channel"])
