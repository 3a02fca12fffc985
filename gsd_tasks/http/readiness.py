"""Whether the API can do its work, found out once for all who ask at the same time."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from fastapi.concurrency import run_in_threadpool

if TYPE_CHECKING:
    from gsd_tasks.client.database import DatabaseClient


class Readiness:
    """Anybody may ask, and a server that hangs is waited for: so it takes one thread, however many do."""

    def __init__(self, client: DatabaseClient) -> None:
        self._client = client
        self._looking: asyncio.Task[bool] | None = None

    async def look(self) -> bool:
        """Whether Redis answers; the database does.

        Raises:
            DatabaseUnavailable, SchemaMismatch: it does not, or has another schema.
        """
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(run_in_threadpool(self._look))
        # Whoever is cancelled while he waits must not take it from the others.
        return await asyncio.shield(self._looking)

    def _look(self) -> bool:
        self._client.check()
        return self._client.hears_redis()
