"""The live tail as a whole: what the app starts and stops, and what a stream asks."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from gsd_tasks.http.farewell import hear_of_stop
from gsd_tasks.http.live.bells import Bells
from gsd_tasks.http.live.lookout import Lookout
from gsd_tasks.http.live.pages import HistoryPages, SessionPages, StatusPages
from gsd_tasks.http.live.tails import Tails
from gsd_tasks.http.live.visits import Visits
from gsd_tasks.service.bell import HISTORY, session_channel

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from gsd_tasks.domain.session import SessionId
    from gsd_tasks.http.live.story import Position
    from gsd_tasks.http.live.tail import Tail
    from gsd_tasks.settings import Settings
    from gsd_tasks.store import Database
    from gsd_tasks.store.history import Cursor

#: Each uses a connection at a time, as does the lookout; `http.app` reckons with four of the client's fifteen.
READERS: Final = 3
#: A bell for the history may ring before its transition can be read, while somebody older is at work. Then look again.
LATER_S: Final = (0.05, 0.25)


class LiveTail:
    """Gives followers their tails. Start and stop it on the event loop that they are on, and use it in between.

    `visits` are the open streams. They and all waits end when this process is told to stop (`farewell`).
    """

    def __init__(self, settings: Settings, database: Database, redis_url: str) -> None:
        self.visits = Visits(settings.api_streams)
        self._database = database
        self._redis_url = redis_url

    async def start(self) -> None:
        """Begin to listen and to look."""
        self._loop = asyncio.get_running_loop()
        self._over = asyncio.Event()
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="gsd-reader")
        self._tails = Tails(self._readers)
        self._bells = Bells(self._redis_url, self._heard)
        self._lookout = Lookout(self._database, self._tails, self.visits)
        self._bells.start()
        self._lookout.start()
        self._undo = hear_of_stop(partial(self._loop.call_soon_threadsafe, self.say_farewell))

    def say_farewell(self) -> None:
        """End every stream and every wait, politely and at once; what comes yet is ended as it begins."""
        self._over.set()
        self.visits.end_all()

    async def stop(self) -> None:
        """Let go of everything. Streams are ended, if they are not yet."""
        self._undo()
        self.say_farewell()
        await self._lookout.stop()
        await self._bells.stop()
        self._readers.shutdown(wait=False, cancel_futures=True)

    def session(self, session_id: SessionId) -> AbstractContextManager[Tail[Position]]:
        """The rows and transitions of one session."""
        pages = SessionPages(self._database, session_id)
        return self._tails.follow(("session", session_id), pages, session_channel(session_id), self._bells)

    def history(self) -> AbstractContextManager[Tail[Cursor]]:
        """The transitions and recoveries of all sessions."""
        return self._tails.follow(("history", None), HistoryPages(self._database), HISTORY, self._bells)

    def now(self) -> Awaitable[Cursor]:
        """Where the history of all stands."""
        return self._loop.run_in_executor(self._readers, HistoryPages(self._database).now)

    async def wait_for_end(self, session_id: SessionId, timeout_s: float) -> None:
        """Return when the session has ended, is gone, or the time is over; or at once when the API stops."""
        pages = StatusPages(self._database, session_id)
        following = self._tails.follow(("status", session_id), pages, session_channel(session_id), self._bells)
        with following as tail:
            either = [asyncio.create_task(_until_ended(tail)), asyncio.create_task(self._over.wait())]
            try:
                await asyncio.wait(either, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in either:
                    task.cancel()

    def _heard(self, channel: str) -> None:
        self._tails.heard(channel)
        if channel == HISTORY:
            for later_s in LATER_S:
                self._loop.call_later(later_s, self._tails.heard, channel)


async def _until_ended(tail: Tail[Any]) -> None:
    while not (await tail.after(None)).has_ended:
        pass
