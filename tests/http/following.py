"""A live tail without a server before it, and those who follow it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from gsd_tasks.http.live import LiveTail
from gsd_tasks.http.live.story import BEGINNING, Position
from gsd_tasks.http.live.tail import Tail
from tests.http.events import Told, read_events, seqs

BOUND_S = 30


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
