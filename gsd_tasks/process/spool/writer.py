"""Appending to a spool. The shim alone does this."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from gsd_tasks.process.spool.frames import SEGMENT_BYTES, STDOUT, Counts, pack_header, pack_record, segment_path


class SpoolWriter:
    """A new spool in `folder`, which must hold no segment yet.

    After a failed `append` the file ends with the last whole record, and the writer must not be used again: what it
    holds is an exact prefix, and a record behind a gap would not be.
    """

    def __init__(self, folder: Path, segment_bytes: int = SEGMENT_BYTES) -> None:
        self._folder = folder
        self._segment_bytes = segment_bytes
        self._number = 0
        self._fd = -1
        self._size = 0
        self.counts = Counts()
        self._next_segment()

    def append(self, stream: int, payload: bytes | memoryview, written_at_ns: int) -> None:
        """Add one record of at most MAX_PAYLOAD bytes; on return a reader can see it.

        Raises:
            OSError: the disk is full or broken, or a file-size limit was met (the process must ignore SIGXFSZ).
        """
        if self._size >= self._segment_bytes:
            self._next_segment()
        head = pack_record(stream, payload, written_at_ns)
        try:
            _write_all(self._fd, [memoryview(head), memoryview(payload)])
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(self._fd, self._size)
            raise
        self._size += len(head) + len(payload)
        stdout, stderr = self.counts
        self.counts = (
            Counts(stdout + len(payload), stderr) if stream == STDOUT else Counts(stdout, stderr + len(payload))
        )

    def close(self) -> None:
        os.close(self._fd)

    def _next_segment(self) -> None:
        path = segment_path(self._folder, self._number + 1)
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
        header = pack_header(self.counts)
        try:
            _write_all(fd, [memoryview(header)])
        except OSError:
            os.close(fd)
            os.unlink(path)
            raise
        if self._fd >= 0:
            os.close(self._fd)
        self._fd, self._number, self._size = fd, self._number + 1, len(header)


def _write_all(fd: int, parts: list[memoryview]) -> None:
    """A write to a filling disk comes back short first; only the next one says why."""
    while parts:
        written = os.writev(fd, parts)
        while parts and written >= len(parts[0]):
            written -= len(parts.pop(0))
        if parts:
            parts[0] = parts[0][written:]
