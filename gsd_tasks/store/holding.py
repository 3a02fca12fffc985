"""Who holds a session, as values."""

from __future__ import annotations

from dataclasses import dataclass

from gsd_tasks.domain.session import Holder, Session, SessionId, WorkerId
from gsd_tasks.store import words


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """The right to run a session, as every later write must prove it."""

    session: Session
    attempt: int
    holder: Holder
    worker_id: WorkerId
    slot: int
    traceparent: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A lease as whoever watches all of them sees it."""

    session_id: SessionId
    holder: Holder
    renewals: int
    is_expired: bool

    @property
    def state(self) -> str:
        """As `leases.states` writes it."""
        return words.of(self.holder, self.renewals)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovered:
    """What was taken from silent holders at one go, by what became of it. `id` orders it among the transitions."""

    id: int | None = None
    requeued: tuple[SessionId, ...] = ()
    failed: tuple[SessionId, ...] = ()
    cancelled: tuple[SessionId, ...] = ()
    paused: tuple[SessionId, ...] = ()

    def __len__(self) -> int:
        return len(self.requeued) + len(self.failed) + len(self.cancelled) + len(self.paused)
