"""Sessions that came to their end as sessions do, and as long ago as a test wants."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID, uuid4

import uuid_utils.compat as uuid_utils
from sqlalchemy import text

from gsd_tasks.domain.policy import Ending, decide
from gsd_tasks.domain.session import Holder, OnLost, OutputRow, SessionId, Stream, Submission, WorkerId
from gsd_tasks.domain.state import Reason
from gsd_tasks.domain.submission import digest
from gsd_tasks.store import Claim, Database, outputs, transitions
from gsd_tasks.store.leases import Progress

DAY_S: Final = 24 * 3600
#: What a child writes: a line, and whether its newline is there.
Piece = tuple[Stream, bytes, bool]
LINES: Final[tuple[Piece, ...]] = ((Stream.STDOUT, b"one", True), (Stream.STDERR, b"two", True))
_TABLES: Final = (
    "sessions",
    "attempts",
    "session_history",
    "session_outputs",
    "dependencies",
    "messages",
    "transcript",
    "snapshots",
    "turns",
    "leases",
)


class Scenery:
    """What there is in a database."""

    def __init__(self, database: Database, worker: WorkerId) -> None:
        self.database = database
        self.worker = worker

    def queued(self, **request: Any) -> SessionId:
        """A session that waits to run."""
        session_id = SessionId(uuid_utils.uuid7())
        submission = Submission(**({"command": ("true",), "working_dir": "/"} | request))
        with self.database.connection() as connection:
            transitions.enqueue(connection, session_id, submission, digest(submission))
        return session_id

    def running(self, session_id: SessionId | None = None, **request: Any) -> Claim:
        """A session that runs, whatever else does."""
        with self.database.connection() as connection:
            claim = transitions.claim(
                connection,
                session_id or self.queued(**request),
                holder=Holder(uuid4()),
                worker_id=WorkerId(uuid4()),
                slot=1,
                lease_s=30,
            )
        assert claim is not None
        return claim

    def ended(
        self,
        session_id: SessionId | None = None,
        *,
        days_ago: float = 100,
        lines: Iterable[Piece] = LINES,
        succeeded: bool = True,
        **request: Any,
    ) -> SessionId:
        """A session that ran, wrote these lines, and ended so long ago."""
        claim = self.running(session_id, **request)
        self.write(claim, lines)
        self.settle(claim, succeeded=succeeded)
        self.age(claim.session.id, days_ago)
        return claim.session.id

    def write(self, claim: Claim, lines: Iterable[Piece]) -> None:
        batch = outputs.Batch()
        for stream, body, eol in lines:
            batch.add(stream, datetime.now(UTC), body, eol=eol)
        if not len(batch):
            return
        begun = claim.session.seq
        with self.database.connection() as connection:
            after = Progress(begun + len(batch), 0, 0)
            assert outputs.append(connection, claim, batch, Progress(begun, 0, 0), after)

    def settle(self, claim: Claim, *, succeeded: bool = True) -> None:
        ending = Ending(
            reason=Reason.FINISHED if succeeded else Reason.EXIT_CODE, succeeded=succeeded, exit_code=int(not succeeded)
        )
        with self.database.connection() as connection:
            assert transitions.settle(connection, claim, decide(ending, wanted=None, on_lost=OnLost.FAIL))

    def age(self, session_id: SessionId, days: float) -> None:
        """As if it had ended so long ago."""
        self.execute(
            "UPDATE sessions SET ended_at = ended_at - :seconds * interval '1 s' WHERE id = :id",
            seconds=days * DAY_S,
            id=session_id,
        )

    def execute(self, statement: str, **values: Any) -> None:
        with self.database.connection() as connection:
            connection.execute(text(statement), values)

    def value(self, query: str, **values: Any) -> Any:
        with self.database.connection() as connection:
            return connection.execute(text(query), values).scalar_one()

    def ids(self) -> set[UUID]:
        """The sessions that there are."""
        with self.database.connection() as connection:
            return set(connection.execute(text("SELECT id FROM sessions")).scalars())

    def rows(self, session_id: SessionId) -> list[OutputRow]:
        """All rows of one, also of one that is gone."""
        with self.database.connection() as connection:
            return outputs.read(connection, session_id, limit=1_000_000, largest_bytes=1 << 40)

    def traces(self, session_id: SessionId) -> dict[str, int]:
        """How many rows each table has of it, where there are any."""
        columns = {"sessions": "id"}
        counts = {
            table: self.value(
                f"SELECT count(*) FROM {table} WHERE {columns.get(table, 'session_id')} = :id", id=session_id
            )
            for table in _TABLES
        }
        return {table: count for table, count in counts.items() if count}
