"""How output rows look to a person: a command's as it wrote them, a Claude session's as what it did."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from gsd_tasks.cli.screen import Screen
from gsd_tasks.domain.session import Kind, OutputRow, Stream
from gsd_tasks.domain.units import print_time

# One event of Claude's may be this long; more is not held in memory to be shown in a few words.
_LONGEST_EVENT: Final = 16 * 1024 * 1024
_SHOWN_OF_REST: Final = 80


class Display:
    """Shows rows in the order of their `seq`, on `screen`; with `timestamps`, each line begins with its time.

    The first one is that after `after_seq`: what begins there may be the rest of an event.
    """

    def __init__(self, screen: Screen, kind: Kind, *, timestamps: bool = False, after_seq: int = 0) -> None:
        self._screen = screen
        self._kind = kind
        self._timestamps = timestamps
        self._mid_line: set[Stream] = set()
        self._event = _Event(is_rest=after_seq > 0)

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

    def __init__(self, *, is_rest: bool) -> None:
        self._is_rest = is_rest
        self._pieces: list[str] = []
        self._size = 0
        self._attempt = 0

    def add(self, row: OutputRow) -> Iterator[str]:
        if row.attempt != self._attempt:
            yield from self.flush()
            self._is_rest = self._is_rest and not self._attempt
            self._attempt = row.attempt
        text = row.as_text()
        if self._size <= _LONGEST_EVENT:
            self._pieces.append(text)
        self._size += len(text)
        if row.eol:
            yield from self.flush()
            self._is_rest = False

    def flush(self) -> Iterator[str]:
        line, size = "".join(self._pieces), self._size
        self._pieces, self._size = [], 0
        if self._is_rest and line and not line.lstrip().startswith("{"):
            yield f"… {line}" if size <= _SHOWN_OF_REST else f"… [the rest of an event: {size} characters]"
        elif size > _LONGEST_EVENT:
            yield f"[an event of {size} characters: `gsd-tasks logs --raw` has it]"
        elif line:
            from gsd_tasks.domain.claude_rendering import render_line

            yield from render_line(line)
