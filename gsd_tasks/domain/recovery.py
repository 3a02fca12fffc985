"""What the reaper took from silent holders at one go, as everybody hears of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from gsd_tasks.domain.session import SessionId


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovery:
    """The sessions of one recovery, by what became of each. `id` orders it among the entries of the history."""

    id: int
    requeued: tuple[SessionId, ...]
    failed: tuple[SessionId, ...]
    cancelled: tuple[SessionId, ...]
    paused: tuple[SessionId, ...]
    at: datetime

    @property
    def session_ids(self) -> tuple[SessionId, ...]:
        """All of them."""
        return (*self.requeued, *self.failed, *self.cancelled, *self.paused)
