"""From an event with its values to the line that stands in the log. `docs/logs.md` has the fields."""

from __future__ import annotations

import json
import re
import socket
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from gsd_tasks.domain.sanitize import visible

if TYPE_CHECKING:
    from collections.abc import Mapping

    from structlog.typing import EventDict as Event

#: What stands first, in this order; the rest follows as it was given.
FIRST: Final = ("time", "level", "part", "worker", "host", "logger", "event", "session", "attempt", "slot")
#: `user:password@` of an address, wherever one is quoted.
_PASSWORD: Final = re.compile(r"(?<=://)([^\s/@:]*):[^\s/]*@")
#: Where Postgres quotes the row that it refuses: its values are people's. Up to what an error may say after it.
_QUOTED: Final = re.compile(
    r"^DETAIL: .*?(?=^(?:HINT|CONTEXT|\[SQL|\(Background|Traceback|\s+File |The above|During )|\Z)",
    re.MULTILINE | re.DOTALL,
)


class Place:
    """Which process this is: part of every line of it."""

    fields: Mapping[str, str] = {}

    @classmethod
    def set(cls, part: str, worker: str | None) -> None:
        cls.fields = {"part": part, **({"worker": worker} if worker else {}), "host": socket.gethostname()}


def complete(_logger: object, _method: str, event: Event) -> Event:
    """With the time, the process, and what went wrong as text, which never has local variables."""
    from structlog.processors import format_exc_info

    event["time"] = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    for name, value in Place.fields.items():
        event.setdefault(name, value)
    if "logger_name" in event:
        event["logger"] = event.pop("logger_name")
    event = format_exc_info(_logger, _method, event)
    return {name: _without_secrets(value) if isinstance(value, str) else value for name, value in event.items()}


def as_json(_logger: object, _method: str, event: Event) -> str:
    """One line of ASCII, whatever is in it."""
    ordered = {name: event[name] for name in FIRST if name in event}
    ordered |= event
    return json.dumps(ordered, default=repr, ensure_ascii=True)


class AsText:
    """For people: an event a line, its traceback below it, and nothing that a terminal obeys."""

    def __init__(self) -> None:
        from structlog.dev import ConsoleRenderer, plain_traceback

        self._render = ConsoleRenderer(
            colors=sys.stderr is not None and sys.stderr.isatty(),
            exception_formatter=plain_traceback,
            timestamp_key="time",
        )

    def __call__(self, logger: Any, method: str, event: Event) -> str:
        shown = {
            name: visible(value) if isinstance(value, str) and name != "exception" else value
            for name, value in event.items()
            # A worker's name has its host in it.
            if not (name == "host" and "worker" in event)
        }
        return self._render(logger, method, shown)


def _without_secrets(text: str) -> str:
    return _QUOTED.sub("DETAIL: (left out)\n", _PASSWORD.sub(r"\1:***@", text)) if ":" in text else text
