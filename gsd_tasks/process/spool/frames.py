"""How a spool's bytes are laid out: segment files of framed records.

    000001.seg:  header | record | record | ...
    header:      magic "gsdspool", version, stdout bytes before this segment, stderr bytes before it, CRC-32
    record:      time (ns since 1970), payload length, stream, CRC-32 over these and the payload; then the payload

Little-endian, unaligned. Two counters in the header, not one offset: what is committed is counted per stream, so a
reader finds its segment from the pair without reading those before it.
"""

from __future__ import annotations

import contextlib
import os
import struct
import time
import zlib
from pathlib import Path
from typing import Final, NamedTuple

STDOUT: Final = 1
STDERR: Final = 2
VERSION: Final = 1
MAX_PAYLOAD: Final = 1024 * 1024
SEGMENT_BYTES: Final = 8 * 1024 * 1024

_MAGIC: Final = b"gsdspool"
_HEADER: Final = struct.Struct("<8sHQQ")
_RECORD: Final = struct.Struct("<QIB")
_CRC: Final = struct.Struct("<I")

HEADER_BYTES: Final = _HEADER.size + _CRC.size
RECORD_BYTES: Final = _RECORD.size + _CRC.size


class SpoolCorrupt(Exception):
    """The spool holds something that no shim wrote, or lacks what one did. `path` is the segment (or the folder)."""

    def __init__(self, path: Path, problem: str) -> None:
        super().__init__(f"{path}: {problem}")
        self.path = path
        self.problem = problem


class Counts(NamedTuple):
    """Payload bytes per stream."""

    stdout: int = 0
    stderr: int = 0

    def within(self, other: Counts) -> bool:
        """Neither stream is further than in `other`."""
        return self.stdout <= other.stdout and self.stderr <= other.stderr


class Frame(NamedTuple):
    """A record's header, as read."""

    written_at_ns: int
    length: int
    stream: int
    crc: int


def pack_header(before: Counts) -> bytes:
    """The first HEADER_BYTES of a segment."""
    head = _HEADER.pack(_MAGIC, VERSION, before.stdout, before.stderr)
    return head + _CRC.pack(zlib.crc32(head))


def unpack_header(data: bytes, path: Path) -> Counts:
    """Raises SpoolCorrupt if these are not the first HEADER_BYTES of a segment that this version reads."""
    magic, version, stdout, stderr = _HEADER.unpack_from(data)
    if magic != _MAGIC or _CRC.unpack_from(data, _HEADER.size)[0] != zlib.crc32(data[: _HEADER.size]):
        raise SpoolCorrupt(path, "not a spool segment")
    if version != VERSION:
        raise SpoolCorrupt(path, f"spool version {version}, this code reads {VERSION}")
    return Counts(stdout, stderr)


def pack_record(stream: int, payload: bytes | memoryview, written_at_ns: int) -> bytes:
    """The record's header; the payload follows it in the file."""
    head = _RECORD.pack(written_at_ns, len(payload), stream)
    return head + _CRC.pack(zlib.crc32(payload, zlib.crc32(head)))


def unpack_record(data: bytes, at: int) -> Frame:
    """The record's header that stands at `at`, unchecked."""
    written_at_ns, length, stream = _RECORD.unpack_from(data, at)
    return Frame(written_at_ns, length, stream, _CRC.unpack_from(data, at + _RECORD.size)[0])


def checksum(data: bytes, at: int, payload: memoryview) -> int:
    """The CRC that the record whose header stands at `at` ought to have."""
    return zlib.crc32(payload, zlib.crc32(data[at : at + _RECORD.size]))


def segment_path(folder: Path, number: int) -> Path:
    """Where the segment of that number is; they count from 1."""
    return folder / f"{number:06}.seg"


def segment_numbers(folder: Path) -> list[int]:
    """Those there are, ascending. A folder that is gone has none."""
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return []
    return sorted(int(name[:-4]) for name in names if name.endswith(".seg") and name[:-4].isdigit())


def holds_output(folder: Path) -> bool:
    """Whether anything that a child wrote is still in it."""
    with contextlib.suppress(OSError):
        return any(segment_path(folder, number).stat().st_size > HEADER_BYTES for number in segment_numbers(folder))
    return False


def is_abandoned(folder: Path, idle_s: float) -> bool:
    """Whether it holds nothing that a child wrote, or nothing was written to it for so long."""
    segments = [segment_path(folder, number) for number in segment_numbers(folder)]
    try:
        written = [path.stat() for path in segments]
    except FileNotFoundError:
        return False  # somebody is at it
    if all(one.st_size <= HEADER_BYTES for one in written):
        return True
    return time.time() - max(one.st_mtime for one in written) > idle_s
