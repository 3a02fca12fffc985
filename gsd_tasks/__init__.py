"""gsd-tasks: Claude Code sessions and commands as jobs that outlive crashes.

The public names are imported on first use, so that a short-lived command or the shim does not pay for what it does not
need.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gsd_tasks.client import AsyncClient, Client, Event
    from gsd_tasks.domain.errors import (
        AccessDenied,
        AmbiguousId,
        ApiUnavailable,
        BrokerUnavailable,
        ConfigurationError,
        DatabaseUnavailable,
        GsdError,
        InvalidValue,
        KeyReused,
        NewerFormat,
        NoCredentials,
        NoSuchSession,
        NoSuchSnapshot,
        NotAllowed,
        NotPermitted,
        SchemaMismatch,
        TooLarge,
        TooMany,
        Unauthenticated,
        Unavailable,
        UsageError,
    )
    from gsd_tasks.domain.session import OutputRow, Session
    from gsd_tasks.domain.state import Reason, Status

_HOMES = {
    "gsd_tasks.client": ("AsyncClient", "Client", "Event"),
    "gsd_tasks.domain.errors": (
        "AccessDenied",
        "AmbiguousId",
        "ApiUnavailable",
        "BrokerUnavailable",
        "ConfigurationError",
        "DatabaseUnavailable",
        "GsdError",
        "InvalidValue",
        "KeyReused",
        "NewerFormat",
        "NoCredentials",
        "NoSuchSession",
        "NoSuchSnapshot",
        "NotAllowed",
        "NotPermitted",
        "SchemaMismatch",
        "TooLarge",
        "TooMany",
        "Unauthenticated",
        "Unavailable",
        "UsageError",
    ),
    "gsd_tasks.domain.session": ("OutputRow", "Session"),
    "gsd_tasks.domain.state": ("Reason", "Status"),
}

__version__ = "0.1.0"
__all__ = [
    "AccessDenied",
    "AmbiguousId",
    "ApiUnavailable",
    "AsyncClient",
    "BrokerUnavailable",
    "Client",
    "ConfigurationError",
    "DatabaseUnavailable",
    "Event",
    "GsdError",
    "InvalidValue",
    "KeyReused",
    "NewerFormat",
    "NoCredentials",
    "NoSuchSession",
    "NoSuchSnapshot",
    "NotAllowed",
    "NotPermitted",
    "OutputRow",
    "Reason",
    "SchemaMismatch",
    "Session",
    "Status",
    "TooLarge",
    "TooMany",
    "Unauthenticated",
    "Unavailable",
    "UsageError",
]


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(home), name)
    raise AttributeError(f"module 'gsd_tasks' has no attribute {name!r}")
