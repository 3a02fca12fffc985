"""Conversations as Postgres has them, for tests that need no CLI to have written them."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from sqlalchemy import Connection, func, insert, select, text

from gsd_tasks.domain.session import SessionId
from gsd_tasks.domain.state import FINAL, Status
from gsd_tasks.store.tables import transcript


def line(number: int) -> str:
    """An entry; none is like another."""
    return json.dumps({"type": "user" if number % 2 else "assistant", "words": f"naïve ✓ {number}"}, ensure_ascii=False)


def converse(connection: Connection, session_id: SessionId, number: int, *, attempt: int = 1) -> int:
    """So many more entries; the number of the last one."""
    last: int = connection.execute(
        select(func.coalesce(func.max(transcript.c.seq), 0)).where(transcript.c.session_id == session_id)
    ).scalar_one()
    for seq in range(last + 1, last + number + 1):
        add_entry(connection, session_id, seq, line(seq), attempt=attempt)
    return last + number


def add_entry(connection: Connection, session_id: SessionId, seq: int, body: str, *, attempt: int = 1) -> None:
    """This entry, whatever it holds."""
    sha256 = hashlib.sha256(body.encode()).digest()
    values = {"session_id": session_id, "seq": seq, "attempt": attempt, "position": seq * 1000, "kind": "user"}
    connection.execute(insert(transcript).values(entry=body, sha256=sha256, **values))


def print_rows(connection: Connection, session_id: SessionId, first: int, last: int, *, attempt: int = 1) -> None:
    """Output rows with these numbers, a second after each other. Nothing counts them."""
    spoil(
        connection,
        "INSERT INTO session_outputs (session_id, seq, attempt, stream, written_at, data, eol)"
        " SELECT :id, n, :attempt, 'stdout', timestamptz 'epoch' + n * interval '1 s', 'line', true"
        "   FROM generate_series(CAST(:first AS bigint), :last) AS n",
        id=session_id,
        attempt=attempt,
        first=first,
        last=last,
    )


def put(connection: Connection, session_id: SessionId, status: Status) -> None:
    """Let it stand so, however it may have come there: past the trigger, and without a line in the history."""
    connection.execute(text("SET session_replication_role = replica"))
    spoil(
        connection,
        "UPDATE sessions SET status = :status, ended_at = CASE WHEN :ended THEN now() END,"
        " worker_id = gen_random_uuid(), slot = 1, attempt = 1 WHERE id = :id",
        id=session_id,
        status=status.value,
        ended=status in FINAL,
    )
    connection.execute(text("SET session_replication_role = origin"))


def spoil(connection: Connection, statement: str, **values: Any) -> int:
    """Change something by hand; how many rows were."""
    return connection.execute(text(statement), values).rowcount
