"""A broker that nobody hears."""

from __future__ import annotations

from gsd_tasks.domain.session import SessionId


def unsaid(session_id: SessionId, *, queue: str, priority: int) -> None:
    """Publishes nothing: where it matters, the test says what is published."""
