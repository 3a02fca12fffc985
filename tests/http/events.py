"""Reading Server-Sent Events, as the HTML standard has it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, NamedTuple


class Told(NamedTuple):
    """An event."""

    id: str
    name: str
    data: Any


def read_events(body: bytes) -> list[Told]:
    """The whole events of `body`; what has no data (comments, `retry`) is passed over, as is what is cut off."""
    *blocks, _ = body.decode("ascii").split("\n\n")
    return [told for block in blocks if (told := _read_event(block)) is not None]


def _read_event(block: str) -> Told | None:
    fields = dict(line.split(": ", 1) for line in block.split("\n") if ": " in line and not line.startswith(":"))
    return Told(fields["id"], fields["event"], json.loads(fields["data"])) if "data" in fields else None


def seqs(events: Iterable[Told]) -> list[int]:
    """Of the rows among them."""
    return [event.data["seq"] for event in events if event.name == "session:output"]
