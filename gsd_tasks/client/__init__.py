"""The client: enqueue, follow and control sessions from code.

What it takes to talk to Postgres, or over HTTP, is imported by whoever does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gsd_tasks.client.contract import Client
from gsd_tasks.client.request import NewSession
from gsd_tasks.domain.events import Event

if TYPE_CHECKING:
    from gsd_tasks.client.asynchronous import AsyncClient

__all__ = ["AsyncClient", "Client", "Event", "NewSession"]


def __getattr__(name: str) -> Any:
    if name == "AsyncClient":
        from gsd_tasks.client.asynchronous import AsyncClient

        return AsyncClient
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
