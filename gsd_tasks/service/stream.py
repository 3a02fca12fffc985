"""From the spool into Postgres: read, hide secrets, cut into rows, commit in guarded batches.

A batch is committed at once when the last one is 20 ms old, or when it is large; so a single line is not kept
waiting, and a torrent costs 50 commits a second. Nothing is trimmed from the spool that is not committed.
"""

from __future__ import annotations

import time
from collections import deque
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final, NamedTuple

from gsd_tasks.domain.cutting import Cutter, Run
from gsd_tasks.domain.errors import Fenced
from gsd_tasks.domain.masking import CONTEXT_BYTES
from gsd_tasks.domain.session import Stream
from gsd_tasks.process.spool.reader import Record, SpoolReader
from gsd_tasks.service.veil import Veil, reread_from
from gsd_tasks.store import leases, outputs
from gsd_tasks.store.leases import Progress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from gsd_tasks.domain.masking import Masker
    from gsd_tasks.process.spool.exits import ExitRecord
    from gsd_tasks.store import Claim, Database

BATCH_INTERVAL_S: Final = 0.020
#: From so many on a batch is full. A slice is not divided: there may be as many more as it has bytes.
BATCH_ROWS: Final = 5_000
BATCH_BYTES: Final = 2 * 1024 * 1024
READ_BYTES: Final = 128 * 1024
#: Cut at a time: a megabyte may be a million empty lines.
SLICE_BYTES: Final = 16 * 1024
TRIM_BYTES: Final = 8 * 1024 * 1024
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Ready(NamedTuple):
    """Pieces that wait for their batch."""

    stream: Stream
    run: Run
    size: int


class Streamer:
    """Carries one attempt's output from its spool into Postgres, from wherever Postgres stands.

    `on_run` sees each piece once, in order, before it is committed, with what `masker` hides.
    """

    def __init__(
        self,
        database: Database,
        claim: Claim,
        folder: Path,
        on_run: Callable[[Stream, Run], None],
        begin: Progress,
        masker: Masker | None = None,
    ) -> None:
        self._database = database
        self._claim = claim
        self._on_run = on_run
        committed = {Stream.STDOUT: begin.stdout_bytes, Stream.STDERR: begin.stderr_bytes}
        start = reread_from(folder, committed, masker.context_bytes) if masker else committed
        self._reader = SpoolReader(folder, start[Stream.STDOUT], start[Stream.STDERR])
        self._veils = {stream: Veil(masker, committed[stream] - start[stream]) for stream in Stream} if masker else {}
        self._cutters = {Stream.STDOUT: Cutter(), Stream.STDERR: Cutter()}
        self._read: deque[Record] = deque()
        self._ready: deque[Ready] = deque()
        self._ready_rows = 0
        self._ready_bytes = 0
        self._committed = begin
        self._unsure: tuple[outputs.Batch, Progress] | None = None
        self._committed_at = 0.0
        self._trimmed_bytes = 0

    @property
    def committed(self) -> Progress:
        """What Postgres is known to have."""
        return self._committed

    @property
    def backlog_bytes(self) -> int:
        """What the spool has that Postgres has not, or nearly: what is read counts exactly, the rest as it lies there.

        For any thread.
        """
        read, committed = self._reader.counts, self._committed
        pending = read.stdout + read.stderr - committed.stdout_bytes - committed.stderr_bytes
        return max(0, pending) + self._reader.unread_bytes

    def close(self) -> None:
        """Let go of the spool."""
        self._reader.close()

    def has_all(self, ended: ExitRecord) -> bool:
        """Everything that the child wrote is committed."""
        return (self._committed.stdout_bytes, self._committed.stderr_bytes) == (ended.stdout_bytes, ended.stderr_bytes)

    def pump(self, *, at_end: bool = False) -> bool:
        """Read what there is and commit a batch if one is due. True: call again at once, there is more.

        Raises:
            Fenced: the session is somebody else's.
            DatabaseUnavailable: try again later; nothing is lost.
            SpoolCorrupt: the spool cannot be read on.
        """
        more = self._fill()
        if at_end and not more:
            self._close_lines()
        if self._unsure is not None:
            self._send_again(*self._unsure)
        if not self._ready or not self._is_due(at_end=at_end):
            return more
        self._commit()
        return more or bool(self._ready)

    def wait_s(self, longest_s: float) -> float:
        """How long one may wait for news before `pump` has something to do by itself."""
        waits = [longest_s]
        if self._ready:
            waits.append(self._committed_at + BATCH_INTERVAL_S - time.monotonic())
        due = [cutter.due_ns for cutter in self._cutters.values() if cutter.due_ns is not None]
        if due:
            waits.append((min(due) - time.time_ns()) / 1e9)
        return max(0.0, min(waits))

    def _fill(self) -> bool:
        while self._ready_rows < BATCH_ROWS and self._ready_bytes < BATCH_BYTES:
            if not self._read:
                self._read.extend(_slices(self._reader.read(READ_BYTES)))
            if not self._read:
                for stream, cutter in self._cutters.items():
                    self._take(stream, cutter.overdue(time.time_ns()))
                return False
            record = self._read.popleft()
            veil = self._veils.get(record.stream)
            if veil is None:
                self._cut(record.stream, record.payload, record.written_at_ns)
                continue
            for payload, at_ns in veil.feed(record.payload, record.written_at_ns):
                self._cut(record.stream, payload, at_ns)
        return True

    def _close_lines(self) -> None:
        for stream, veil in self._veils.items():
            for payload, at_ns in veil.close():
                self._cut(stream, payload, at_ns)
        for stream, cutter in self._cutters.items():
            self._take(stream, cutter.close())

    def _cut(self, stream: Stream, payload: bytes, at_ns: int) -> None:
        self._take(stream, self._cutters[stream].feed(payload, at_ns))

    def _take(self, stream: Stream, runs: list[Run]) -> None:
        for run in runs:
            self._on_run(stream, run)
            size = run.size
            self._ready.append(Ready(stream, run, size))
            self._ready_rows += len(run.bodies)
            self._ready_bytes += size

    def _is_due(self, *, at_end: bool) -> bool:
        return (
            at_end
            or self._ready_rows >= BATCH_ROWS
            or self._ready_bytes >= BATCH_BYTES
            or time.monotonic() - self._committed_at >= BATCH_INTERVAL_S
        )

    def _commit(self) -> None:
        self._send(*self._next_batch())

    def _send(self, batch: outputs.Batch, after: Progress) -> None:
        self._unsure = (batch, after)
        with self._database.connection() as connection:
            # Refused, it is somebody else's session; or this very batch, sent before, was committed only now.
            if (
                not outputs.append(connection, self._claim, batch, self._committed, after)
                and leases.progress(connection, self._claim) != after
            ):
                raise Fenced(f"session {self._claim.session.id} is no longer ours: {len(batch)} rows were not written")
        self._has_committed(after)

    def _next_batch(self) -> tuple[outputs.Batch, Progress]:
        batch, size = outputs.Batch(), 0
        counts = {Stream.STDOUT: self._committed.stdout_bytes, Stream.STDERR: self._committed.stderr_bytes}
        for stream, run, run_size in self._ready:
            if len(batch) >= BATCH_ROWS or size >= BATCH_BYTES:
                break
            batch.extend(stream, EPOCH + timedelta(microseconds=run.at_ns // 1000), run.bodies, eol=run.eol)
            counts[stream] += run_size
            size += run_size
        return batch, Progress(self._committed.last_seq + len(batch), counts[Stream.STDOUT], counts[Stream.STDERR])

    def _send_again(self, batch: outputs.Batch, after: Progress) -> None:
        """The last batch was sent and not answered: ask what became of it, never send it blindly.

        The server may still be at it. So what is sent again is the same batch: whichever of the two comes first
        moves the offset, and that is how the other one is known to be there.
        """
        with self._database.connection() as connection:
            found = leases.progress(connection, self._claim)
        if found == after:
            self._has_committed(after)
        elif found == self._committed:
            self._send(batch, after)
        else:
            raise Fenced(f"session {self._claim.session.id} is no longer ours")

    def _has_committed(self, after: Progress) -> None:
        left = self._ready_rows - (after.last_seq - self._committed.last_seq)
        while self._ready_rows > left:
            _, run, size = self._ready.popleft()
            self._ready_rows -= len(run.bodies)
            self._ready_bytes -= size
        self._committed, self._unsure = after, None
        self._committed_at = time.monotonic()
        total = after.stdout_bytes + after.stderr_bytes
        if total - self._trimmed_bytes >= TRIM_BYTES:
            # Whoever goes on from here must know what was before (`veil`).
            self._reader.trim(max(0, after.stdout_bytes - CONTEXT_BYTES), max(0, after.stderr_bytes - CONTEXT_BYTES))
            self._trimmed_bytes = total


def _slices(records: list[Record]) -> Iterator[Record]:
    for record in records:
        for at in range(0, len(record.payload), SLICE_BYTES):
            yield record._replace(payload=record.payload[at : at + SLICE_BYTES])
