"""Server-Sent Events as bytes (the HTML standard, section 9.2)."""

from __future__ import annotations

import json
from typing import Any, Final

MEDIA_TYPE: Final = "text/event-stream"
#: How long an `EventSource` waits before it connects again.
RETRY: Final = b"retry: 1000\n\n"
#: Says nothing, and shows that somebody is there.
HEARTBEAT: Final = b":\n\n"
#: The name of what comes last, when a session has ended and all is told.
END: Final = "end"


def event(name: str, event_id: object, data: Any) -> bytes:
    """One event; `data` is what JSON has. In ASCII, as clients differ in what ends a line."""
    body = json.dumps(data, separators=(",", ":"))
    return f"id: {event_id}\nevent: {name}\ndata: {body}\n\n".encode("ascii")


def comment(text: str) -> bytes:
    """What a person who looks at the stream may want to know, and no client reads."""
    return f": {text}\n\n".encode("ascii")


def place(event_id: object) -> bytes:
    """Where the stream begins: whoever loses it before the first event goes on there. It is no event itself."""
    return f"id: {event_id}\n\n".encode("ascii")
