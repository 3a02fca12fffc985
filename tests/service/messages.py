"""Brokers of tests: one that nobody hears, and one that notes what it was told."""

from __future__ import annotations

from dataclasses import dataclass, field

from gsd_tasks.domain.errors import BrokerUnavailable
from gsd_tasks.domain.session import SessionId


def unsaid(session_id: SessionId, *, queue: str, priority: int) -> None:
    """Publishes nothing: where it matters, the test says what is published."""


@dataclass
class Broker:
    """What was published, in order. A list that only grows needs no lock."""

    sent: list[SessionId] = field(default_factory=list)
    is_away: bool = False
    asked: int = 0

    def __call__(self, session_id: SessionId, *, queue: str, priority: int) -> None:
        self.asked += 1
        if self.is_away:
            raise BrokerUnavailable("away")
        self.sent.append(session_id)
