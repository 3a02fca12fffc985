"""Who has a stream open: how many with which token, and ending what must not go on."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import contextmanager
from enum import StrEnum
from typing import TYPE_CHECKING

import anyio

from gsd_tasks.domain.errors import TooMany

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator


class Ending(StrEnum):
    """Why a stream ends before all is told, in words that its reader may see."""

    STOPPING = "the API stops: go on at the next one"
    TOKEN = "the token is no longer good"  # noqa: S105 (a reason, not a password)
    STALLED = "nothing was taken for too long"
    GONE = "nobody is there"
    BODY = "the request has a body, which is too large or comes too slowly"


class Visit:
    """One open stream. What runs within `scope` is broken off by `end`."""

    def __init__(self, token_id: str) -> None:
        self.token_id = token_id
        self.scope = anyio.CancelScope()
        self.ending: Ending | None = None
        #: Since when it waits for the reader to take something.
        self.offered_at: float | None = None

    def end(self, ending: Ending) -> None:
        """For this reason; the first one counts."""
        if self.ending is None:
            self.ending = ending
            self.scope.cancel()


class Visits:
    """All of them. For the thread of the event loop."""

    def __init__(self, most_of_a_token: int) -> None:
        self._most = most_of_a_token
        self._open: set[Visit] = set()
        self._of_token: Counter[str] = Counter()
        self._is_over = False

    def __len__(self) -> int:
        return len(self._open)

    @property
    def token_ids(self) -> Collection[str]:
        """The tokens that they were let in with."""
        return self._of_token.keys()

    @contextmanager
    def visit(self, token_id: str) -> Iterator[Visit]:
        """Let one more in. Raises `TooMany`."""
        if self._of_token[token_id] >= self._most:
            raise TooMany("streams", self._most)
        visit = Visit(token_id)
        if self._is_over:
            visit.end(Ending.STOPPING)
        self._open.add(visit)
        self._of_token[token_id] += 1
        try:
            yield visit
        finally:
            self._open.discard(visit)
            self._of_token[token_id] -= 1
            if not self._of_token[token_id]:
                del self._of_token[token_id]

    def end_all(self) -> None:
        """The API stops: end all there are, and those that come."""
        self._is_over = True
        for visit in list(self._open):
            visit.end(Ending.STOPPING)

    def end_of_tokens(self, token_ids: Collection[str]) -> None:
        """End those that were let in with one of these."""
        for visit in list(self._open):
            if visit.token_id in token_ids:
                visit.end(Ending.TOKEN)

    def end_stalled(self, longest_s: float) -> None:
        """End those that have waited longer for their reader."""
        since = asyncio.get_running_loop().time() - longest_s
        for visit in list(self._open):
            if visit.offered_at is not None and visit.offered_at < since:
                visit.end(Ending.STALLED)
