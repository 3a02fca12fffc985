"""Sessions, attempts and rows as a worker would write them, without one."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import uuid4

import uuid_utils.compat as uuid_utils

from gsd_tasks.domain.policy import Ending, decide
from gsd_tasks.domain.session import Holder, OnLost, SessionId, Stream, Submission
from gsd_tasks.domain.state import Reason
from gsd_tasks.domain.submission import digest
from gsd_tasks.store import Claim, Database, outputs, transitions
from gsd_tasks.store.leases import Progress
from tests.workers import register_worker

DONE = decide(Ending(reason=Reason.FINISHED, succeeded=True, exit_code=0), wanted=None, on_lost=OnLost.FAIL)
BACK = decide(Ending(reason=Reason.WORKER_STOPPED, handed_back=True), wanted=None, on_lost=OnLost.REQUEUE)


def enqueue(database: Database) -> SessionId:
    """A queued session."""
    request = Submission(command=("true",), working_dir="/")
    session_id = SessionId(uuid_utils.uuid7())
    with database.connection() as connection:
        transitions.enqueue(connection, session_id, request, digest(request))
    return session_id


class Attempt:
    """One attempt of a session, in a slot of a worker of its own."""

    def __init__(self, database: Database, session_id: SessionId) -> None:
        self._database = database
        with database.connection() as connection:
            claim = transitions.claim(
                connection,
                session_id,
                holder=Holder(uuid4()),
                worker_id=register_worker(connection),
                slot=1,
                lease_s=60,
            )
        assert claim is not None
        self.claim: Claim = claim
        self._done = Progress(claim.session.seq)

    def write(self, *lines: bytes) -> None:
        """Rows, in one batch."""
        batch = outputs.Batch()
        for line in lines:
            batch.add(Stream.STDOUT, datetime.now(UTC), line, eol=True)
        written = sum(len(line) + 1 for line in lines)
        after = Progress(self._done.last_seq + len(lines), self._done.stdout_bytes + written)
        with self._database.connection() as connection:
            assert outputs.append(connection, self.claim, batch, self._done, after)
        self._done = after

    def complete(self) -> None:
        """The end of the session."""
        with self._database.connection() as connection:
            assert transitions.settle(connection, self.claim, DONE)

    def hand_back(self) -> None:
        """The end of the attempt: the session is queued again."""
        with self._database.connection() as connection:
            assert transitions.settle(connection, self.claim, BACK)
