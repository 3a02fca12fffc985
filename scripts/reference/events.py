"""`docs/reference/events.md`: what those hear of who listen."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any, Final

from gsd_tasks.domain import events
from gsd_tasks.domain.events import NAMES, name_of
from gsd_tasks.domain.recovery import Recovery
from gsd_tasks.domain.session import HistoryEntry, OutputRow
from gsd_tasks.domain.state import TRANSITIONS, Status
from scripts.reference import markdown

if TYPE_CHECKING:
    from collections.abc import Iterable

_BEGINNING: Final = """\
# Events

What happens to sessions, told to whoever listens: `Client.on` and `Client.listen` in Python, `GET /v1/events` (all
sessions) and `GET /v1/sessions/{id}/events` (one of them, with its rows) over [HTTP](../api.md), as Server-Sent Events.
`GSD_ON_RECOVERY` ([settings](../settings.md#maintenance)) runs a command for `recovery:complete`.

Transitions come from the history in Postgres, in the order in which they were committed, each of them once, with Redis
or without. `cursor` (over HTTP: the event's `id`) goes on after any of them.

## Names
"""
_NO_TRANSITIONS: Final = """\
`session:output` and `recovery:complete` are no transitions: the first brings new rows of a session that runs, the
second tells what a sweep has taken from silent workers, after the transitions that it consists of.
[The states of a session](../state-machine.md) says who makes each transition, and why.
"""

_RECOVERY: Final = """\
In Python `event.recovery`; on the standard input of `GSD_ON_RECOVERY` as JSON, with `event` and `count`.
"""


def page(_before: str) -> str:
    """The page."""
    listed = sorted(_ways().items(), key=lambda item: list(Status).index(item[1][-1][1]))
    rows = [(f"`{name}`", "; ".join(_way(*way) for way in ways)) for name, ways in listed]
    if missing := NAMES - {name for name, _ in listed} - {events.OUTPUT, events.RECOVERED}:
        raise ValueError(f"no transition has these names: {sorted(missing)}")
    parts = [
        markdown.MADE,
        _BEGINNING.strip(),
        markdown.table(("event", "a session goes"), rows),
        _NO_TRANSITIONS.strip(),
        "## What comes with a transition",
        *_members(HistoryEntry, "In Python `event.entry`; over HTTP the event's `data`, with times in ISO 8601 (UTC)."),
        "## What comes with rows",
        *_members(OutputRow, "In Python `event.rows`, one or more; over HTTP an event for each. Bytes are in base64."),
        "## What comes with a recovery",
        *_members(
            Recovery,
            _RECOVERY,
        ),
    ]
    return "\n\n".join(parts) + "\n"


def _ways() -> dict[str, list[tuple[Status | None, Status]]]:
    """Every transition that there can be, by the name of its event."""
    every: Iterable[tuple[Status | None, Status]] = [
        (None, Status.QUEUED),
        (Status.RUNNING, Status.RUNNING),
        *sorted(TRANSITIONS, key=lambda way: [list(Status).index(status) for status in way]),
    ]
    found: dict[str, list[tuple[Status | None, Status]]] = {}
    for before, after in every:
        found.setdefault(name_of(_entry(before, after)), []).append((before, after))
    return found


def _entry(before: Status | None, after: Status) -> HistoryEntry:
    values: dict[str, Any] = dict.fromkeys((field.name for field in fields(HistoryEntry)), None)
    return HistoryEntry(**(values | {"from_status": before, "to_status": after}))


def _way(before: Status | None, after: Status) -> str:
    return f"{before or '(new)'} to {after}"


def _members(kind: Any, words: str) -> tuple[str, str]:
    rows = [(f"`{field.name}`", f"`{field.type}`") for field in fields(kind)]
    return markdown.paragraph(words), markdown.table(("member", "type"), rows)
