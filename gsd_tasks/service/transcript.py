"""From the CLI's own record into Postgres, entry by entry, while the session runs.

As with the output, each batch is one guarded statement whose guard is the offset: it is committed once only, and by the
holder alone. Unlike there, what is read again at an offset is the same by itself, the file only grows: after an unknown
outcome the offset is asked for, and it goes on from that.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from gsd_tasks.domain.errors import DatabaseUnavailable, Fenced
from gsd_tasks.domain.transcript import read_entry
from gsd_tasks.process.record import RecordBroken, RecordReader
from gsd_tasks.store import transcript
from gsd_tasks.telemetry import get_log

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from gsd_tasks.process.record import RecordLine
    from gsd_tasks.store import Claim, Database

#: How long after the last look there is the next one: an entry is at most a second behind.
LOOK_S: Final = 0.25
#: The CLI writes none: a file of such lines alone would keep a slot busy for hours.
MOST_JUNK_LINES: Final = 100_000


class Transcriber:
    """Follows one attempt's record, from wherever Postgres stands. `mask` hides what must not be written down."""

    def __init__(
        self,
        database: Database,
        claim: Claim,
        private_dir: Path,
        *,
        begin: int,
        most_bytes: int,
        mask: Callable[[bytes], bytes] = bytes,
    ) -> None:
        self._database = database
        self._claim = claim
        self._private_dir = private_dir
        self._mask = mask
        self._end = begin + most_bytes
        self._committed = begin
        self._reader: RecordReader | None = RecordReader(private_dir, claim.session.id, begin)
        self._is_unsure = False
        self._junk_lines = 0
        self._looked_at = 0.0
        self._log = get_log("transcript").bind(session=str(claim.session.id), attempt=claim.attempt)

    def close(self) -> None:
        """Let go of the file."""
        if self._reader is not None:
            self._reader.close()

    @property
    def is_due(self) -> bool:
        """It is time to look again."""
        return time.monotonic() >= self._looked_at + LOOK_S

    def pump(self, *, at_end: bool = False) -> bool:
        """Commit what is new, some megabytes at most. True: call again at once, there may be more.

        Raises:
            Fenced: the session is somebody else's.
            DatabaseUnavailable: try again later; nothing is lost.
        """
        if self._is_unsure:
            self._find_out()
        self._looked_at = time.monotonic()
        try:
            lines = self._reader.read(at_end=at_end) if self._reader is not None else []
        except (RecordBroken, OSError) as error:
            self._give_up(str(error))
            return False
        if not lines:
            return False
        if lines[-1].end > self._end:
            self._give_up("it is longer than the session's output may be")
            return False
        self._commit(lines)
        if self._junk_lines > MOST_JUNK_LINES:
            self._give_up("it is full of lines that are no entries")
        return True

    def _commit(self, lines: list[RecordLine]) -> None:
        batch = transcript.Entries()
        for line in lines:
            text = self._mask(line.body).decode(errors="replace").replace("\0", "\N{REPLACEMENT CHARACTER}")
            entry = read_entry(text)
            # An empty line, or a last one that was torn as its writer was killed, is no entry: it stays where it is.
            if entry.kind is not None:
                batch.add(line.position, entry, text)
            else:
                self._junk_lines += 1
        try:
            with self._database.connection() as connection:
                is_ours = (
                    transcript.append(connection, self._claim, batch, before=self._committed, after=lines[-1].end)
                    if len(batch)
                    else True
                )
        except DatabaseUnavailable:
            self._is_unsure = True
            raise
        if is_ours:
            self._committed = lines[-1].end if len(batch) else self._committed
        else:
            # Somebody else's session; or a batch that was sent before has come in only now.
            self._find_out()

    def _find_out(self) -> None:
        with self._database.connection() as connection:
            position = transcript.position(connection, self._claim)
        if position is None:
            raise Fenced(f"session {self._claim.session.id} is no longer ours")
        self._is_unsure = False
        self._committed = position
        if self._reader is not None:
            self._reader.close()
            self._reader = RecordReader(self._private_dir, self._claim.session.id, position)

    def _give_up(self, why: str) -> None:
        """The session goes on; its conversation can be resumed from what is committed."""
        self._log.error("the transcript is not followed any more", why=why)
        self.close()
        self._reader = None
