"""Following a spool while it is being written, and deleting what is no longer needed of it."""

from __future__ import annotations

import os
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Final, NamedTuple, Self

from gsd_tasks.domain.session import Stream
from gsd_tasks.process.spool import frames
from gsd_tasks.process.spool.frames import HEADER_BYTES, MAX_PAYLOAD, RECORD_BYTES, Counts, SpoolCorrupt

_CHUNK_BYTES: Final = 256 * 1024
_STREAMS: Final = {frames.STDOUT: Stream.STDOUT, frames.STDERR: Stream.STDERR}


class Record(NamedTuple):
    """A piece of one stream, as the shim read it from the pipe: it may begin and end anywhere in a line."""

    stream: Stream
    written_at_ns: int
    payload: bytes


class SpoolReader:
    """What the spool holds beyond the first `stdout_bytes` and `stderr_bytes`: each byte once, in order of arrival.

    Memory is bounded by `read`'s `max_bytes` and a record, however long the spool is. The reader owns one file
    descriptor: close it. Not for several threads at once.
    """

    def __init__(self, folder: Path, stdout_bytes: int = 0, stderr_bytes: int = 0) -> None:
        self._folder = folder
        self._skip = Counts(stdout_bytes, stderr_bytes)
        self._passed = Counts()
        self._fd = -1
        self._number = 0
        self._offset = 0

    @property
    def counts(self) -> Counts:
        """How far `read` has come in each stream, counted from the attempt's beginning."""
        return Counts(max(self._passed.stdout, self._skip.stdout), max(self._passed.stderr, self._skip.stderr))

    @property
    def unread_bytes(self) -> int:
        """What lies on the disk beyond the present place, headers of records included. For any thread."""
        number, offset = self._number, self._offset
        unread = 0
        for one in frames.segment_numbers(self._folder):
            if one >= number:
                with suppress(OSError):  # trimmed, or gone with the rest
                    size = os.stat(frames.segment_path(self._folder, one)).st_size
                    unread += max(0, size - (offset if one == number else HEADER_BYTES))
        return unread

    def read(self, max_bytes: int = MAX_PAYLOAD) -> list[Record]:
        """Records of about `max_bytes` of payload (one record more at most); empty when there is nothing new yet.

        Never waits. A last record that is still being written is left for later.

        Raises:
            SpoolCorrupt: a checksum is wrong, or bytes are missing that were written.
        """
        records: list[Record] = []
        room = max_bytes
        while room > 0 and (self._fd >= 0 or self._open_first()):
            data = self._peek()
            if data:
                room -= self._take(data, room, records)
            elif not self._open_next():
                break
        return records

    def trim(self, stdout_bytes: int, stderr_bytes: int) -> int:
        """Delete the segments that lie wholly within what is committed; how many. The newest always stays."""
        committed = Counts(stdout_bytes, stderr_bytes)
        numbers = frames.segment_numbers(self._folder)
        trimmed = 0
        for number, following in pairwise(numbers):
            end = self._header(following)
            if end is None or not end.within(committed):
                break
            frames.segment_path(self._folder, number).unlink(missing_ok=True)
            trimmed += 1
        return trimmed

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _peek(self) -> bytes:
        """What stands at the present place, if that is at least one whole record."""
        data = os.pread(self._fd, _CHUNK_BYTES, self._offset)
        if len(data) < RECORD_BYTES:
            return b""
        size = RECORD_BYTES + self._frame(data, 0).length
        if size > len(data):
            data = os.pread(self._fd, size, self._offset)
        return data if size <= len(data) else b""

    def _take(self, data: bytes, room: int, records: list[Record]) -> int:
        """Move over the whole records in `data`, until `room` is filled; how much of it was."""
        view = memoryview(data)
        at = taken = 0
        while taken < room and len(data) - at >= RECORD_BYTES:
            frame = self._frame(data, at)
            end = at + RECORD_BYTES + frame.length
            if end > len(data):
                break
            payload = view[at + RECORD_BYTES : end]
            if frames.checksum(data, at, payload) != frame.crc:
                raise SpoolCorrupt(self._path, f"the record at byte {self._offset + at} has a wrong checksum")
            fresh = self._pass(frame.stream, payload)
            if fresh:
                records.append(Record(_STREAMS[frame.stream], frame.written_at_ns, bytes(fresh)))
            taken += len(fresh)
            at = end
        self._offset += at
        return taken

    def _frame(self, data: bytes, at: int) -> frames.Frame:
        frame = frames.unpack_record(data, at)
        if frame.length > MAX_PAYLOAD or frame.stream not in _STREAMS:
            raise SpoolCorrupt(self._path, f"no record at byte {self._offset + at}")
        return frame

    def _pass(self, stream: int, payload: memoryview) -> memoryview:
        """Count the payload; what of it is not to be skipped."""
        stdout, stderr = self._passed
        if stream == frames.STDOUT:
            self._passed = Counts(stdout + len(payload), stderr)
            return payload[max(0, self._skip.stdout - stdout) :]
        self._passed = Counts(stdout, stderr + len(payload))
        return payload[max(0, self._skip.stderr - stderr) :]

    def _open_first(self) -> bool:
        """Open the last segment that begins within what is to be skipped. False: the shim has written none yet."""
        numbers = frames.segment_numbers(self._folder)
        for number in reversed(numbers):
            before = self._header(number)
            if before is not None and before.within(self._skip):
                return self._open(number, before)
        if numbers and self._header(numbers[0]) is not None:
            raise SpoolCorrupt(self._folder, f"trimmed beyond {self._skip}: the bytes that follow are gone")
        return False

    def _open_next(self) -> bool:
        """Go on to the following segment, which the shim begins only when it will append no more to this one."""
        if not frames.segment_path(self._folder, self._number + 1).exists():
            return False
        if self._peek():  # written between our last look and the shim's move
            return True
        if os.fstat(self._fd).st_size > self._offset:
            raise SpoolCorrupt(self._path, f"the record at byte {self._offset} is cut off")
        before = self._header(self._number + 1)
        if before is None:
            return False
        if before != self._passed:
            raise SpoolCorrupt(self._path, f"ends at {self._passed}, the next begins at {before}")
        return self._open(self._number + 1, before)

    def _open(self, number: int, before: Counts) -> bool:
        self.close()
        self._number = number
        self._fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        self._offset = HEADER_BYTES
        self._passed = before
        return True

    def _header(self, number: int) -> Counts | None:
        return _read_header(self._folder, number)

    @property
    def _path(self) -> Path:
        return frames.segment_path(self._folder, self._number)


def oldest(folder: Path) -> Counts:
    """How many bytes of each stream are not in the spool any more: they were trimmed."""
    numbers = frames.segment_numbers(folder)
    return (_read_header(folder, numbers[0]) if numbers else None) or Counts()


def _read_header(folder: Path, number: int) -> Counts | None:
    """None: the shim has made the file and not written the header yet."""
    path = frames.segment_path(folder, number)
    with path.open("rb") as segment:
        head = segment.read(HEADER_BYTES)
    return frames.unpack_header(head, path) if len(head) == HEADER_BYTES else None
