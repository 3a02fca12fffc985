"""What followers of one thing share: reads, wake-ups and bytes; over pages that a test writes by hand.

Time passes only when nobody is at work: after a pause, all that was begun has come to where it waits.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from gsd_tasks.domain.errors import DatabaseUnavailable
from gsd_tasks.http.live import tail as tail_module
from gsd_tasks.http.live.cache import OVERHEAD_BYTES, Cache
from gsd_tasks.http.live.pages import Page
from gsd_tasks.http.live.sse import HEARTBEAT
from gsd_tasks.http.live.tail import Tail
from tests.http import clockwork
from tests.http.clockwork import Clockwork
from tests.waiting import BOUND_S

GAP_S = 0.05


class Letters:
    """A text that grows; a position is a number of letters. A page has at most `most` of them.

    Reads are held up between `hold` and `let_go`.
    """

    def __init__(self, text: bytes = b"", *, most: int = 99) -> None:
        self.text = text
        self.most = most
        self.reads: list[tuple[int, int | None]] = []
        self._may_read = threading.Event()
        self._may_read.set()
        self._loop: Clockwork | None = None
        self.is_away = False
        self.has_ended = False

    def hold(self) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, Clockwork)
        self._loop = loop
        self._may_read.clear()

    def let_go(self) -> None:
        assert self._loop is not None
        self._loop.held, self._loop = 0, None
        self._may_read.set()

    def check(self, position: int) -> None:
        pass

    def read(self, position: int, bound: int | None) -> Page[int]:
        self.reads.append((position, bound))
        text = self.text[position:bound]
        if (loop := self._loop) is not None:
            loop.call_soon_threadsafe(self._held_up)
        self._may_read.wait(BOUND_S)
        if self.is_away:
            raise DatabaseUnavailable
        body = text[: self.most]
        return Page(body, position + len(body), is_last=body == text, has_ended=self.has_ended and body == text)

    def is_behind(self, position: int, other: int) -> bool:
        return position < other

    def _held_up(self) -> None:
        if self._loop is not None:
            self._loop.held += 1


def _run(letters: Letters, test: Callable[[Tail[int]], Awaitable[None]], cache: Cache | None = None) -> None:
    async def run() -> None:
        with ThreadPoolExecutor(4) as readers:
            tail = Tail("letters", letters, cache or Cache(1 << 20), readers, lambda: GAP_S)
            async with asyncio.timeout(10):
                await test(tail)

    clockwork.run(run())


async def _soon(*coroutines: Coroutine[Any, Any, Page[int]]) -> list[asyncio.Task[Page[int]]]:
    """Begun, and come to where they wait."""
    tasks = [asyncio.create_task(coroutine) for coroutine in coroutines]
    await asyncio.sleep(GAP_S)
    return tasks


def test_all_who_stand_at_the_same_place_share_one_read_and_its_bytes() -> None:
    letters = Letters(b"abc")

    async def test(tail: Tail[int]) -> None:
        pages = await asyncio.gather(*(tail.after(0) for _ in range(100)))
        assert {id(page.body) for page in pages} == {id(pages[0].body)}
        assert (await tail.after(0)).body == b"abc"
        assert letters.reads == [(0, None)]

    _run(letters, test)


def test_all_who_wait_at_the_end_share_one_read_a_wake_up() -> None:
    letters = Letters(b"abc")

    async def test(tail: Tail[int]) -> None:
        await tail.after(0)
        for number in range(3, 6):
            waiting = await _soon(*(tail.after(number) for _ in range(100)))
            letters.text += b"x"
            tail.ring()
            pages = await asyncio.gather(*waiting)
            assert {(page.body, page.position) for page in pages} == {(b"x", number + 1)}
        assert letters.reads == [(0, None), (3, None), (4, None), (5, None)]

    _run(letters, test)


def test_what_a_wake_up_brings_is_read_before_anybody_is_woken(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand who wake to wait for the same read cost far more than that read."""
    monkeypatch.setattr(tail_module, "AHEAD_S", 10)
    letters = Letters(b"abc")

    async def test(tail: Tail[int]) -> None:
        await tail.after(0)
        waiting = await _soon(tail.after(3), tail.after(3))
        letters.text += b"d"
        letters.hold()
        tail.ring()
        while letters.reads == [(0, None)]:  # noqa: ASYNC110 (a thread does it)
            await asyncio.sleep(0.001)
        assert len(asyncio.all_tasks()) == 2 + 3  # the two, this test, the read, and the one who waits for it
        letters.let_go()
        assert [page.body for page in await asyncio.gather(*waiting)] == [b"d"] * 2
        assert letters.reads == [(0, None), (3, None)]

    _run(letters, test)


def test_a_read_that_was_begun_before_a_wake_up_is_not_taken_for_what_came_since() -> None:
    letters = Letters()

    async def test(tail: Tail[int]) -> None:
        letters.hold()
        (early,) = await _soon(tail.after(0))
        letters.text = b"a"
        tail.ring()
        await asyncio.sleep(2 * GAP_S)
        (late,) = await _soon(tail.after(0))
        letters.let_go()
        assert (await late).body == b"a"
        assert (await early).body == b"a"

    _run(letters, test)


def test_a_wake_up_waits_for_a_database_that_hangs_no_longer_than_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then each waits by himself, and his silence is broken all the same."""
    monkeypatch.setattr(tail_module, "AHEAD_S", GAP_S)
    monkeypatch.setattr(tail_module, "HEARTBEAT_S", GAP_S)
    letters = Letters(b"abc")

    async def test(tail: Tail[int]) -> None:
        await tail.after(0)
        (waiting,) = await _soon(tail.after(3))
        letters.hold()
        tail.ring()
        assert (await waiting).body == HEARTBEAT
        letters.let_go()

    _run(letters, test)


def test_bells_that_ring_often_wake_no_more_often_than_once_a_gap() -> None:
    letters = Letters()

    async def test(tail: Tail[int]) -> None:
        (waiting,) = await _soon(tail.after(0))
        letters.reads.clear()
        for _ in range(60):
            tail.ring()
            await asyncio.sleep(GAP_S / 10)
        assert len(letters.reads) == 6
        waiting.cancel()

    _run(letters, test)


def test_followers_who_come_from_different_places_share_reads_from_then_on() -> None:
    """Each wake-up finds the text longer than the one before, also between two reads of the same wake-up."""
    letters = Letters(b"abcdefgh")

    async def test(tail: Tail[int]) -> None:
        await tail.after(0)
        letters.text += b"ijk"
        tail.ring()
        await asyncio.sleep(2 * GAP_S)
        pages = await asyncio.gather(*(tail.after(position) for position in (2, 4, 6, 8)))
        letters.text += b"lm"
        assert {page.position for page in pages[:3]} == {8}
        assert pages[3].position == 11
        before = len(letters.reads)
        tail.ring()
        caught_up = await asyncio.gather(*(tail.after(page.position) for page in pages))
        assert {page.position for page in caught_up} == {11, 13}
        assert len(letters.reads) == before + 1

    _run(letters, test)


def test_what_comes_while_it_is_read_is_not_slept_through() -> None:
    letters = Letters()

    async def test(tail: Tail[int]) -> None:
        letters.hold()
        (waiting,) = await _soon(tail.after(0))
        tail.ring()
        await asyncio.sleep(2 * GAP_S)
        letters.text = b"a"
        letters.let_go()
        assert (await waiting).body == b"a"

    _run(letters, test)


def test_who_reads_up_to_where_others_were_hears_of_what_came_since() -> None:
    """The foremost place was found out before the wake-up: who comes there has to look on, not to wait."""
    letters = Letters(b"abc")

    async def test(tail: Tail[int]) -> None:
        await tail.after(0)
        letters.text += b"d"
        tail.ring()
        await asyncio.sleep(2 * GAP_S)
        assert (await tail.after(1)).position == 3
        assert (await tail.after(3)).body == b"d"

    _run(letters, test)


def test_who_leaves_while_it_is_read_takes_the_read_from_nobody() -> None:
    letters = Letters(b"abc")

    async def test(tail: Tail[int]) -> None:
        letters.hold()
        first, second = await _soon(tail.after(0), tail.after(0))
        first.cancel()
        await asyncio.sleep(0)
        letters.let_go()
        assert (await second).body == b"abc"
        assert letters.reads == [(0, None)]

    _run(letters, test)


def test_silence_is_broken_for_all_who_wait() -> None:
    async def test(tail: Tail[int]) -> None:
        waiting = await _soon(tail.after(0), tail.after(0))
        assert tail.silent_s == pytest.approx(GAP_S)
        tail.beat()
        assert [(page.body, page.position) for page in await asyncio.gather(*waiting)] == [(HEARTBEAT, 0)] * 2
        assert tail.silent_s == 0

    _run(Letters(), test)


def test_a_database_that_is_away_is_waited_for() -> None:
    letters = Letters(b"abc")

    async def test(tail: Tail[int]) -> None:
        letters.is_away = True
        (waiting,) = await _soon(tail.after(0))
        missed = tail.has_missed
        letters.is_away = False
        tail.ring()
        assert (await waiting).body == b"abc"
        assert (missed, tail.has_missed) == (True, False)
        letters.is_away = True
        with pytest.raises(DatabaseUnavailable):
            await tail.first(1)

    _run(letters, test)


def test_an_end_holds_only_until_the_next_wake_up() -> None:
    """What has ended may be queued again, and whoever comes then must hear of it."""
    letters = Letters(b"abc")

    async def test(tail: Tail[int]) -> None:
        letters.has_ended = True
        pages = await asyncio.gather(*(tail.after(0) for _ in range(5)))
        assert all(page.has_ended for page in pages)
        assert (await tail.after(0)).has_ended
        assert len(letters.reads) == 1
        letters.text, letters.has_ended = b"abcd", False
        tail.ring()
        await asyncio.sleep(2 * GAP_S)
        assert not (await tail.after(0)).has_ended

    _run(letters, test)


def test_what_is_kept_is_bounded_and_the_longest_unused_goes_first() -> None:
    letters = Letters(b"abcdef", most=1)

    async def test(tail: Tail[int]) -> None:
        for position in (0, 1, 0, 2):
            await tail.after(position)
        assert letters.reads == [(0, None), (1, None), (2, None)]
        await tail.after(0)
        assert len(letters.reads) == 3
        await tail.after(1)
        assert len(letters.reads) == 4

    cache = Cache(2 * (OVERHEAD_BYTES + 1))
    _run(letters, test, cache)
    assert cache.size_bytes <= 2 * (OVERHEAD_BYTES + 1)
