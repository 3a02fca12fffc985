"""Saying to the workers that a session may be claimed: a message, which the re-publisher sends where it is missing."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol

from gsd_tasks.domain.errors import BrokerUnavailable
from gsd_tasks.telemetry import get_log

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gsd_tasks.domain.session import Session, SessionId
    from gsd_tasks.store.dependencies import LetGo


class Publish(Protocol):
    """Sends the message that lets a worker look at a session. Raises `BrokerUnavailable`."""

    def __call__(self, session_id: SessionId, *, queue: str, priority: int) -> None: ...


def announce(publish: Publish, claimable: Iterable[Session | LetGo]) -> None:
    """Send the messages of those that are due. Once Redis does not answer, it is not asked for each of the others."""
    now = datetime.now(UTC)
    for session in claimable:
        if session.run_at is not None and session.run_at > now:
            continue
        try:
            publish(session.id, queue=session.queue, priority=session.priority)
        except BrokerUnavailable as error:
            say_it_waits(session.id, error)
            return


def say_it_waits(session_id: SessionId, error: BrokerUnavailable) -> None:
    """That the message of this session, and of those after it, is left to the re-publisher."""
    get_log("submit").warning("queued without a message", session=str(session_id), why=str(error))
