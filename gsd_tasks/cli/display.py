"""How output rows look to a person: a command's as it wrote them, a Claude session's as what it did."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from gsd_tasks.cli.screen import Screen
from gsd_tasks.domain.session import Kind, OutputRow, Stream
from gsd_tasks.domain.units import print_time

# One event of Claude's may be this long; more is not held in memory to be shown in a few words.
_LONGEST_EVENT: Final = 16 * 1024 * 1024


class Display:
    """Shows rows in the order of their `seq`, on `screen`; with `timestamps`, each line begins with its time."""

    def __init__(self, screen: Screen, kind: Kind, *, timestamps: bool = False) -> None:
        self._screen = screen
        self._kind = kind
        self._timestamps = timestamps
        self._mid_line: set[Stream] = set()
        self._event = _Event()

    def show(self, row: OutputRow) -> None:
        """Show `row`, or keep it until the event that it is a piece of is complete."""
        if self._kind is Kind.CLAUDE and row.stream is Stream.STDOUT:
            for line in self._event.add(row):
                self._screen.write(row.stream, self._stamp(row) + line)
        else:
            stamp = "" if row.stream in self._mid_line else self._stamp(row)
            # The CR of a CRLF moves the cursor nowhere that the newline would not.
            text = row.as_text().removesuffix("\r") if row.eol else row.as_text()
            self._screen.write(row.stream, stamp + text, eol=row.eol)
            (self._mid_line.discard if row.eol else self._mid_line.add)(row.stream)

    def finish(self) -> None:
        """Show what is left of an event that was cut off."""
        for line in self._event.flush():
            self._screen.write(Stream.STDOUT, line)

    def _stamp(self, row: OutputRow) -> str:
        return f"{print_time(row.written_at)} " if self._timestamps else ""


class _Event:
    """Puts the pieces of one line of stream-json together again."""

    def __init__(self) -> None:
        self._pieces: list[str] = []
        self._size = 0
        self._attempt = 0

    def add(self, row: OutputRow) -> Iterator[str]:
        if row.attempt != self._attempt:
            yield from self.flush()
            self._attempt = row.attempt
        if self._size <= _LONGEST_EVENT:
            self._pieces.append(row.as_text())
        self._size += len(self._pieces[-1])
        if row.eol:
            yield from self.flush()

    def flush(self) -> Iterator[str]:
        line, size = "".join(self._pieces), self._size
        self._pieces, self._size = [], 0
        if size > _LONGEST_EVENT:
            yield f"[an event of more than {size} characters: `gsd-tasks logs --raw` has it]"
        elif line:
            yield from _in_words(line)


def _in_words(line: str) -> list[str]:
    from gsd_tasks.domain.claude_rendering import render

    return render(line) if line.lstrip().startswith("{") else [line.removesuffix("\r")]
