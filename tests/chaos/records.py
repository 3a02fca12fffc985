"""What the children have noted of themselves, read back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

STREAM_OF: Final = {"o": "stdout", "e": "stderr"}


@dataclass(slots=True)
class Life:
    """One process of a session, by its own account. A child and its helper share `name`, and are at work as one.

    `began_bytes`: what it was about to write, at most; `wrote_bytes`: what it has written, at least.
    """

    session: str
    attempt: int
    name: str
    is_helper: bool = False
    moments: list[int] = field(default_factory=list)
    began_bytes: dict[str, int] = field(default_factory=dict)
    wrote_bytes: dict[str, int] = field(default_factory=dict)
    exit_code: int | None = None

    def note(self, mark: str, at_ns: int, number: int) -> None:
        self.moments.append(at_ns)
        if mark in STREAM_OF:
            self.began_bytes[STREAM_OF[mark]] = number
        elif mark.lower() in STREAM_OF:
            self.wrote_bytes[STREAM_OF[mark.lower()]] = number
        elif mark == "x":
            self.exit_code = number


def read_lives(records: Path) -> list[Life]:
    """Every process that has left a record, in no order."""
    return [_read(path) for path in sorted(records.glob("*/*"))]


def _read(path: Path) -> Life:
    attempt, name, *helper = path.name.split(".")
    life = Life(path.parent.name, int(attempt), name, is_helper=bool(helper))
    for mark, at_ns, number in _notes(path):
        life.note(mark, at_ns, number)
    return life


def _notes(path: Path) -> Iterator[tuple[str, int, int]]:
    *whole, _torn = path.read_text().split("\n")  # the last word of a process that was killed is cut short
    for note in whole:
        mark, at_ns, *number = note.split()
        yield mark, int(at_ns), int(number[0]) if number else 0
