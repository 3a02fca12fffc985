"""What all who follow the same thing share: one read, one encoding and one wake-up, however many they are.

A follower is a position, and asks for the page after it. Pages are kept by the position that they begin at, and a page
that is being read is waited for, not read again. Whoever is at the end waits for the next wake-up with all others.

So that followers who came from different places stay together from then on, nobody reads past the place that the
foremost one has read to, until he is there himself: from there, one goes ahead for all.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from gsd_tasks.domain.errors import DatabaseUnavailable
from gsd_tasks.http.live.pages import Page
from gsd_tasks.http.live.sse import HEARTBEAT

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable
    from concurrent.futures import Executor

    from gsd_tasks.http.live.cache import Cache
    from gsd_tasks.http.live.pages import Pages

P = TypeVar("P")

#: The longest silence of a stream.
HEARTBEAT_S: Final = 15.0
#: How long a wake-up may wait for what it brings. Later than this, whoever follows waits for it by himself.
AHEAD_S: Final = 0.25


class Tail(Generic[P]):
    """Of one session, or of the history of all. For the thread of its event loop; reads go to `readers`.

    `gap_s` tells how much time there is to be between two wake-ups: what a wake-up brings has to be served.
    """

    def __init__(
        self, what: Hashable, pages: Pages[P], cache: Cache, readers: Executor, gap_s: Callable[[], float]
    ) -> None:
        self._what = what
        self._pages = pages
        self._cache = cache
        self._readers = readers
        self._gap_s = gap_s
        self._loop = asyncio.get_running_loop()
        # A wake-up begins a generation: what was found out in one about the end holds for that one alone.
        self._generation = 0
        self._ends: dict[P, Page[P]] = {}
        self._reads: dict[P, asyncio.Task[Page[P]]] = {}
        self._foremost: P | None = None
        self._called = asyncio.Event()
        self._beats = 0
        self._waiting = 0
        self._ahead: asyncio.Task[None] | None = None
        self._woken_at = self._spoke_at = self._loop.time()
        self._due: asyncio.TimerHandle | None = None
        self._missed = False

    @property
    def foremost(self) -> P | None:
        """The furthest that anybody has read to."""
        return self._foremost

    @property
    def has_missed(self) -> bool:
        """Whether a read failed since the last wake-up."""
        return self._missed

    @property
    def silent_s(self) -> float:
        """How long those who wait at the end have been told nothing."""
        return self._loop.time() - self._spoke_at

    async def first(self, position: P) -> Page[P]:
        """The page after a position that somebody comes with, without waiting for there to be any.

        Raises:
            InvalidValue: nobody can have been given this position.
            DatabaseUnavailable: nothing is known.
        """
        await self._loop.run_in_executor(self._readers, self._pages.check, position)
        return self._found(position) or await self._read_once(position)

    async def after(self, position: P) -> Page[P]:
        """The next page that says something, or that says that all has ended; or a comment, after a long silence.

        A database that does not answer is waited for.
        """
        while True:
            generation, beats, called = self._generation, self._beats, self._called
            page = self._found(position)
            if page is None:
                try:
                    async with asyncio.timeout(HEARTBEAT_S):
                        page = await self._read_once(position)
                except TimeoutError:
                    # A database that hangs: the read goes on, and who comes back here waits for the same one.
                    return Page(HEARTBEAT, position)
                except DatabaseUnavailable:
                    # Nothing says what was missed: the next look that succeeds wakes all.
                    self._missed = True
                    page = Page(b"", position)
            if page.body or page.has_ended:
                return page
            position = page.position
            if page.is_last and generation == self._generation:
                await self._wait(called)
                if generation == self._generation and beats != self._beats:
                    return Page(HEARTBEAT, position)

    def ring(self) -> None:
        """There may be something new: wake those who wait, as soon as it is time."""
        if self._due is None:
            self._due = self._loop.call_at(self._woken_at + self._gap_s(), self._wake)

    def beat(self) -> None:
        """Tell those who wait that they are not forgotten."""
        self._spoke_at = self._loop.time()
        self._beats += 1
        self._call()

    def close(self) -> None:
        """Nobody follows any more."""
        if self._due is not None:
            self._due.cancel()
        if self._ahead is not None:
            self._ahead.cancel()

    def _wake(self) -> None:
        self._due = None
        self._woken_at = self._loop.time()
        self._generation += 1
        self._missed = False
        self._ends.clear()
        # What was begun before may have missed what is new: those who wait for it get it, and nobody else.
        self._reads = {}
        if self._foremost is None or not self._waiting:
            self._call()
        elif self._ahead is None or self._ahead.done():
            self._ahead = self._loop.create_task(self._read_ahead(self._foremost))

    async def _read_ahead(self, position: P) -> None:
        """Have the page that nearly all wait for before they are woken: a thousand who wait for a read cost twice."""
        await asyncio.wait([self._reading(position)], timeout=AHEAD_S)
        self._call()

    async def _wait(self, called: asyncio.Event) -> None:
        self._waiting += 1
        try:
            await called.wait()
        finally:
            self._waiting -= 1

    def _call(self) -> None:
        self._called.set()
        self._called = asyncio.Event()

    def _found(self, position: P) -> Page[P] | None:
        return self._ends.get(position) or self._cache.get((self._what, position))

    async def _read_once(self, position: P) -> Page[P]:
        # Whoever is cancelled while he waits must not take the read from the others.
        return await asyncio.shield(self._reading(position))

    def _reading(self, position: P) -> asyncio.Task[Page[P]]:
        read = self._reads.get(position)
        if read is None:
            read = self._reads[position] = self._loop.create_task(self._read(position))
            read.add_done_callback(partial(self._has_read, position))
        return read

    def _has_read(self, position: P, read: asyncio.Task[Page[P]]) -> None:
        if self._reads.get(position) is read:
            del self._reads[position]
        if not read.cancelled():
            # Asked for, so that a failure is not reported as one that nobody saw, where all have left meanwhile.
            read.exception()

    async def _read(self, position: P) -> Page[P]:
        generation, bound = self._generation, self._foremost
        if bound is not None and not self._pages.is_behind(position, bound):
            bound = None
        page = await self._loop.run_in_executor(self._readers, self._pages.read, position, bound)
        if page.body and not page.has_ended:
            self._cache.put((self._what, position), page)
        if page.is_last and bound is None:
            self._has_read_all(position, page, generation)
        return page

    def _has_read_all(self, position: P, page: Page[P], generation: int) -> None:
        if self._foremost is None or not self._pages.is_behind(page.position, self._foremost):
            self._foremost = page.position
        if page.body:
            self._spoke_at = self._loop.time()
        if generation != self._generation:
            return
        if page.has_ended or not page.body:
            self._ends[position] = page
        else:
            self._ends[page.position] = Page(b"", page.position)
