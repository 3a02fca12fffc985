"""All that is followed in this process: a tail for each, for as long as somebody follows it."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from gsd_tasks.domain.state import Status
from gsd_tasks.http.live.cache import Cache
from gsd_tasks.http.live.tail import Tail
from gsd_tasks.store.heads import Head

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from concurrent.futures import Executor

    from gsd_tasks.domain.session import SessionId
    from gsd_tasks.http.live.bells import Bells
    from gsd_tasks.http.live.pages import Pages

CACHE_BYTES: Final = 32 * 1024 * 1024
#: Between two wake-ups, at least; and for each follower there is, if that is more, as serving one takes some 0.2 ms.
GAP_S: Final = 0.020
GAP_OF_ONE_S: Final = 0.000_25
_UNSEEN: Final = Head(-1, -1, Status.QUEUED)

#: A kind, and whose.
What: TypeAlias = "tuple[str, SessionId | None]"


@dataclass(slots=True, eq=False)
class Followed:
    """A tail and its bell; how many follow it; and what was last seen of a session from afar."""

    tail: Tail[Any]
    session_id: SessionId | None
    channel: str
    followers: int = 0
    seen: Head | None = _UNSEEN


class Tails:
    """Gives out tails, and rings those that a bell is for. For the thread of the event loop."""

    def __init__(self, readers: Executor) -> None:
        self._readers = readers
        self._cache = Cache(CACHE_BYTES)
        self._followed: dict[What, Followed] = {}
        self._by_channel: dict[str, set[Followed]] = {}
        self._followers = 0

    @property
    def all(self) -> Collection[Followed]:
        """What is followed just now."""
        return list(self._followed.values())

    def heard(self, channel: str) -> None:
        """Its bell has rung."""
        for followed in self._by_channel.get(channel, ()):
            followed.tail.ring()

    @contextmanager
    def follow(self, what: What, pages: Pages[Any], channel: str, bells: Bells) -> Iterator[Tail[Any]]:
        """The tail of this, new where nobody follows it yet."""
        followed = self._followed.get(what)
        if followed is None:
            followed = self._followed[what] = Followed(self._tail(what, pages), what[1], channel)
            self._by_channel.setdefault(channel, set()).add(followed)
            bells.want(channel)
        followed.followers += 1
        self._followers += 1
        try:
            yield followed.tail
        finally:
            followed.followers -= 1
            self._followers -= 1
            if not followed.followers:
                self._leave(what, followed, bells)

    def _leave(self, what: What, followed: Followed, bells: Bells) -> None:
        del self._followed[what]
        followed.tail.close()
        others = self._by_channel[followed.channel]
        others.discard(followed)
        if not others:
            del self._by_channel[followed.channel]
            bells.leave(followed.channel)

    def _tail(self, what: What, pages: Pages[Any]) -> Tail[Any]:
        return Tail(what, pages, self._cache, self._readers, self._gap_s)

    def _gap_s(self) -> float:
        return max(GAP_S, GAP_OF_ONE_S * self._followers)
