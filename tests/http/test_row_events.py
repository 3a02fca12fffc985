"""Rows are told in the same words as everything else, though written out by hand."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

import pytest

from gsd_tasks.domain.events import OUTPUT
from gsd_tasks.domain.session import OutputRow, SessionId, Stream
from gsd_tasks.http.live import sse
from gsd_tasks.http.live.row_events import row_event
from gsd_tasks.http.live.story import Position
from gsd_tasks.wire.plain import plain

SESSION = SessionId(UUID(int=7))
MOMENTS = (datetime(2026, 1, 31, 12, 0, 0, 123456, tzinfo=UTC), datetime(2026, 1, 31, 12, tzinfo=UTC))
BODIES = [
    ("", None),
    ("a line", None),
    ('quotes " and \\, \t, \x1b, \x7f, \u2028, ü and \N{PARTY POPPER}', None),
    (None, b"\0\xff no text"),
]


@pytest.mark.parametrize(("data", "raw"), BODIES)
@pytest.mark.parametrize("stream", Stream)
@pytest.mark.parametrize("eol", [True, False])
def test_a_row_is_told_as_everything_else_is(data: str | None, raw: bytes | None, stream: Stream, *, eol: bool) -> None:
    for moment in MOMENTS:
        row = OutputRow(SESSION, 12, 3, stream, moment, data, raw, eol=eol)
        assert row_event(Position(12, 5), row) == sse.event(OUTPUT, Position(12, 5), plain(row))
