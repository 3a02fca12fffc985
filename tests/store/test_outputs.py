"""What rows are made of comes back as it was, byte for byte and moment for moment."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from gsd_tasks.domain.session import Stream
from gsd_tasks.store import Claim, Database, outputs
from gsd_tasks.store.leases import Progress

#: A run of lines that were read together, and which of them is text that Postgres can hold.
TEXT = {b"plain": True, b"": True, "é, 😀 and \\ \"'{},".encode(): True, b"\r\t\x1b[31m": True, b"NULL": True}
NO_TEXT = {b"\0": False, b"\xff\xfe": False, "é".encode()[:1]: False, "é".encode()[1:]: False}


@pytest.mark.parametrize(
    "kinds",
    [
        TEXT,
        NO_TEXT,
        {**TEXT, **NO_TEXT},
        {b"x" * 100_000: True},
        {str(number).encode(): True for number in range(3000)},
    ],
    ids=["text", "no text", "both", "a long one", "many"],
)
def test_a_run_comes_back_as_it_was(database: Database, claim: Callable[..., Claim], kinds: dict[bytes, bool]) -> None:
    held, bodies = claim(), list(kinds)
    early = datetime(1999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)
    late = early + timedelta(days=20_000, microseconds=1)
    batch = outputs.Batch()
    batch.extend(Stream.STDOUT, early, bodies, eol=True)
    batch.extend(Stream.STDERR, late, bodies[::-1], eol=False)

    with database.connection() as connection:
        assert outputs.append(connection, held, batch, Progress(0), Progress(2 * len(bodies), 1, 1))
        rows = outputs.read(connection, held.session.id, limit=2 * len(bodies))

    assert [row.seq for row in rows] == list(range(1, 2 * len(bodies) + 1))
    assert [row.body for row in rows] == bodies + bodies[::-1]
    assert [row.data is not None for row in rows] == [kinds[body] for body in bodies + bodies[::-1]]
    first, second = rows[: len(bodies)], rows[len(bodies) :]
    assert {(row.stream, row.written_at, row.eol) for row in first} == {(Stream.STDOUT, early, True)}
    assert {(row.stream, row.written_at, row.eol) for row in second} == {(Stream.STDERR, late, False)}
