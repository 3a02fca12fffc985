"""What a starting worker has found and its slots have not taken up yet."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from gsd_tasks.domain.session import SessionId
    from gsd_tasks.process.spool.owner import Owner
    from gsd_tasks.service.spools import Spool


class Heirloom(NamedTuple):
    """A spool that is ours now, and waits for its slot."""

    spool: Spool
    owner: Owner


class Inherited:
    """One of these per worker, for any thread."""

    def __init__(self) -> None:
        self._waiting: dict[SessionId, Heirloom] = {}
        self._lock = threading.Lock()

    def add(self, heirloom: Heirloom) -> None:
        """From here on, whoever runs this session goes on with it."""
        with self._lock:
            self._waiting[heirloom.spool.session_id] = heirloom

    def take(self, session_id: SessionId) -> Heirloom | None:
        """What there is of this session, for one taker."""
        with self._lock:
            return self._waiting.pop(session_id, None)

    def let_go(self, session_id: SessionId | None = None) -> None:
        """What no slot has taken up, of this session or of all, is left to another worker."""
        with self._lock:
            for waiting in [session_id] if session_id else list(self._waiting):
                if (heirloom := self._waiting.pop(waiting, None)) is not None:
                    heirloom.owner.let_go()
