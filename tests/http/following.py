"""A live tail without a server before it, and those who follow it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
import redis

from gsd_tasks.http.live import LiveTail
from gsd_tasks.http.live.lookout import Lookout
from gsd_tasks.http.live.story import BEGINNING, Position
from gsd_tasks.http.live.tail import Tail
from tests.http.events import Told, read_events, seqs
from tests.waiting import BOUND_S, FIRST_LOOK_S


class Follower:
    """Follows until the end, or until it is broken off, and keeps what it was told."""

    def __init__(self, tail: Tail[Position], position: Position = BEGINNING) -> None:
        self.bodies: list[bytes] = []
        self.told: list[Told] = []
        self._more = asyncio.Event()
        self._task = asyncio.create_task(self._follow(tail, position))

    @property
    def seqs(self) -> list[int]:
        """The rows that it was told."""
        return seqs(self.told)

    async def until(self, seq: int) -> None:
        """It has been told this row."""
        while not seqs(self.told[-1:]) or seqs(self.told[-1:])[0] < seq:
            self._more.clear()
            await self._more.wait()

    async def end(self) -> list[Told]:
        """All that it was told."""
        await self._task
        return self.told

    async def _follow(self, tail: Tail[Position], position: Position) -> None:
        page = await tail.first(position)
        self._keep(page.body)
        while not page.has_ended:
            page = await tail.after(page.position)
            self._keep(page.body)

    def _keep(self, body: bytes) -> None:
        self.bodies.append(body)
        self.told += read_events(body)
        self._more.set()


class Looks:
    """Counts what the lookout does once a second."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.done = 0
        look = Lookout._look

        async def counted(lookout: Lookout) -> None:
            await look(lookout)
            self.done += 1

        monkeypatch.setattr(Lookout, "_look", counted)

    async def more(self, number: int) -> None:
        """So many have been done. Of two, one has begun after the call."""
        wanted = self.done + number
        while self.done < wanted:  # noqa: ASYNC110 (the lookout knows nothing of tests)
            await asyncio.sleep(FIRST_LOOK_S)


async def listened_at(redis_url: str, *channels: str) -> None:
    """Bells that ring from now on are heard."""
    with redis.Redis.from_url(redis_url) as client:
        while not all(listeners for _, listeners in client.pubsub_numsub(*channels)):  # noqa: ASYNC110 (it is Redis that knows)
            await asyncio.sleep(FIRST_LOOK_S)


def running(live: LiveTail, test: Callable[[LiveTail], Awaitable[None]]) -> None:
    """Run a test beside a live tail, with a bound on its time."""

    async def run() -> None:
        await live.start()
        try:
            async with asyncio.timeout(BOUND_S):
                await test(live)
        finally:
            await live.stop()

    asyncio.run(run())
