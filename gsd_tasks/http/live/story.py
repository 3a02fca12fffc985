"""A session's rows and transitions as one story, in an order that everybody is told the same.

An attempt's start comes before its rows, and its end after all of them. An adoption, in the middle of an attempt, comes
before the rows that its child wrote later.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, NamedTuple, Self

from gsd_tasks.domain.errors import InvalidValue
from gsd_tasks.domain.state import Status
from gsd_tasks.store.history import DIGITS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from gsd_tasks.domain.session import HistoryEntry, OutputRow


class Position(NamedTuple):
    """A place in a session's story: the last row that was told, and the last transition. Written `seq.history_id`."""

    seq: int
    history_id: int

    def __str__(self) -> str:
        return f"{self.seq}.{self.history_id}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """The position that `str` gave. Raises `InvalidValue` for anything else."""
        parts = text.split(".")
        if len(parts) != 2 or not all(part.isascii() and part.isdigit() and len(part) <= DIGITS for part in parts):
            raise InvalidValue("after", f"{text!r} is no position of a session's events, as their ids are")
        return cls(*map(int, parts))


BEGINNING = Position(0, 0)


def tell(
    position: Position,
    stood: HistoryEntry | None,
    entries: Iterable[HistoryEntry],
    rows: Iterable[OutputRow],
    *,
    has_all_rows: bool,
    has_all_entries: bool,
) -> Iterator[tuple[Position, HistoryEntry | OutputRow]]:
    """What follows `position`, each with the position after it, as far as it can be told by now.

    `stood` is the transition that it stood at, `entries` those that follow, `rows` what was read *after* them: so an
    attempt whose end is among the entries has all of its rows among the rows, unless these were cut off. Rows of an
    attempt whose start is not among the entries, as it began in between, are left for the next time.
    """
    waiting = deque(rows)
    seq, last_id = position
    attempt = 0 if stood is None else stood.attempt
    for entry in entries:
        while waiting and _is_before(waiting[0], entry):
            row = waiting.popleft()
            seq = row.seq
            yield Position(seq, last_id), row
        if not waiting and not has_all_rows:
            return
        attempt, last_id = entry.attempt, entry.id
        yield Position(seq, last_id), entry
    if has_all_entries:
        while waiting and waiting[0].attempt <= attempt:
            row = waiting.popleft()
            yield Position(row.seq, last_id), row


def _is_before(row: OutputRow, entry: HistoryEntry) -> bool:
    if entry.to_status is not Status.RUNNING:
        return row.attempt <= entry.attempt
    if entry.from_status is Status.RUNNING and row.attempt == entry.attempt:
        return row.written_at < entry.at
    return row.attempt < entry.attempt
