"""One slow look for all that is followed: what a bell did not tell, who waits too long, whose token is good no more.

Nobody is more than a second late where Redis is away, and a thousand sessions that are followed cost one statement a
second. Where nobody follows, nothing is asked.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final

from gsd_tasks.domain.errors import DatabaseUnavailable
from gsd_tasks.http.live import tail
from gsd_tasks.service import tokens
from gsd_tasks.store import heads, history
from gsd_tasks.telemetry import get_log

if TYPE_CHECKING:
    from collections.abc import Collection

    from gsd_tasks.domain.session import SessionId
    from gsd_tasks.http.live.tails import Followed, Tails
    from gsd_tasks.http.live.visits import Visits
    from gsd_tasks.store import Database
    from gsd_tasks.store.heads import Head
    from gsd_tasks.store.history import Cursor

LOOK_S: Final = 1.0
#: A stream whose reader takes nothing for so long is cut; he can go on where he was.
STALL_S: Final = 60.0
TOKENS_S: Final = 10.0


class Lookout:
    """Looks once a second, in a thread of its own, so that no reader holds it up."""

    def __init__(self, database: Database, tails: Tails, visits: Visits) -> None:
        self._database = database
        self._tails = tails
        self._visits = visits
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="gsd-lookout")
        self._loop = asyncio.get_running_loop()
        self._checked_at = self._loop.time()
        self._log = get_log("lookout")

    def start(self) -> None:
        """Begin to look."""
        # Two tasks: a look waits for a database that hangs, and who follows must hear of somebody all the same.
        self._tasks = [
            asyncio.create_task(self._watch(), name="gsd-watch"),
            asyncio.create_task(self._run(), name="gsd-lookout"),
        ]

    async def stop(self) -> None:
        """Look no more."""
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            self._visits.end_stalled(STALL_S)
            for followed in self._tails.all:
                if followed.tail.silent_s >= tail.HEARTBEAT_S:
                    followed.tail.beat()

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            try:
                await self._look()
                await self._check_tokens()
            except DatabaseUnavailable:
                pass  # what was missed is seen when it is back
            except Exception:  # noqa: BLE001 (the loop's boundary: logged, and the next turn comes)
                self._log.exception("a look failed")

    async def _look(self) -> None:
        session_ids = {followed.session_id for followed in self._tails.all if followed.session_id is not None}
        found = await self._loop.run_in_executor(self._thread, self._heads, session_ids) if session_ids else {}
        for followed in self._tails.all:
            if followed.session_id in session_ids:
                self._compare(followed, found.get(followed.session_id))
            elif followed.session_id is None and await self._has_moved(followed):
                followed.tail.ring()

    def _compare(self, followed: Followed, head: Head | None) -> None:
        if head != followed.seen or followed.tail.has_missed:
            followed.seen = head
            followed.tail.ring()

    async def _has_moved(self, followed: Followed) -> bool:
        cursor: Cursor | None = followed.tail.foremost
        if cursor is None or followed.tail.has_missed:
            return True
        return await self._loop.run_in_executor(self._thread, self._moved, cursor)

    async def _check_tokens(self) -> None:
        if not self._visits.token_ids or self._loop.time() - self._checked_at < TOKENS_S:
            return
        self._checked_at = self._loop.time()
        asked = frozenset(self._visits.token_ids)
        good = await self._loop.run_in_executor(self._thread, tokens.still_good, self._database, asked)
        self._visits.end_of_tokens(asked - good)

    def _heads(self, session_ids: Collection[SessionId]) -> dict[SessionId, Head]:
        with self._database.connection() as connection:
            return heads.of_sessions(connection, session_ids)

    def _moved(self, cursor: Cursor) -> bool:
        with self._database.connection() as connection:
            return history.moved(connection, cursor)
