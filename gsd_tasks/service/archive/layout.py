"""What a volume of the archive consists of: JSON lines, compressed so that any row is found without those before it.

    member:  {"format": 1, "record": {...}}                       the session, its attempts, history and turns
    member:  {"seq": 1, "attempt": 1, "stream": "stdout", ...}    rows, one a line, some thousand to a member
    ...
    member:  {"index": [[first seq, offset, length, ...], ...]}   where each member of rows stands
    member:  {"index_at": "000000000012345"}                      not compressed, so that it is found from the end

Members of gzip, each with its own checksum, in one file: `zcat` shows all of it.
"""

from __future__ import annotations

import base64
import gzip
import json
import re
import zlib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NamedTuple

from gsd_tasks.domain.errors import ConfigurationError
from gsd_tasks.domain.session import OutputRow, SessionId, Stream

FORMAT: Final = 1
#: A member of rows ends after so many of them, or when they have so many bytes.
MEMBER_ROWS: Final = 2000
MEMBER_BYTES: Final = 1024 * 1024
#: The last member is shorter than this.
TAIL_BYTES: Final = 128
LEVEL: Final = 6

_STREAMS: Final = {stream.value: stream for stream in Stream}
_INDEX_AT: Final = re.compile(rb'\{"index_at":"(\d{15})"\}\n')


class Part(NamedTuple):
    """A member of rows: where it stands in the file, and how many rows and bytes of each stream it has."""

    first_seq: int
    offset: int
    length: int
    rows: int
    stdout_bytes: int
    stderr_bytes: int


class Index(NamedTuple):
    """Where everything is. `record_length`: of the first member."""

    record_length: int
    parts: tuple[Part, ...]

    @property
    def rows(self) -> int:
        return sum(part.rows for part in self.parts)


def pack(lines: bytes) -> bytes:
    """A member. The same lines are the same bytes, whenever."""
    return gzip.compress(lines, LEVEL, mtime=0)


def unpack(member: bytes, path: Path) -> bytes:
    """Its lines. Raises `ConfigurationError` unless they are what was packed."""
    try:
        return gzip.decompress(member)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise damaged(path, str(error)) from error


def pack_tail(index: Index, offset: int) -> bytes:
    """The index, and the last member, which says where that begins."""
    table = {"index": index.parts, "record_length": index.record_length}
    return pack(to_line(table)) + gzip.compress(b'{"index_at":"%015d"}\n' % offset, 0, mtime=0)


def find_index(tail: bytes, path: Path) -> int:
    """Where the index begins, by the end of the file."""
    found = _INDEX_AT.search(tail)
    if found is None:
        raise damaged(path, "it has no end")
    return int(found[1])


def read_index(member: bytes, path: Path) -> Index:
    """The index, from the bytes from its beginning to the file's end."""
    try:
        table = json.loads(unpack(member, path).partition(b"\n")[0])
        return Index(table["record_length"], tuple(Part(*part) for part in table["index"]))
    except (ValueError, KeyError, TypeError) as error:
        raise damaged(path, "its index cannot be read") from error


def row_line(row: OutputRow) -> bytes:
    """A row as a line."""
    body = {"data": row.data} if row.raw is None else {"raw": base64.b64encode(row.raw).decode()}
    return to_line(
        {
            "seq": row.seq,
            "attempt": row.attempt,
            "stream": row.stream.value,
            "written_at": row.written_at.astimezone(UTC).isoformat(),
            **body,
            "eol": row.eol,
        }
    )


def read_row(session_id: SessionId, line: bytes) -> OutputRow:
    """The row that `row_line` wrote."""
    row = json.loads(line)
    raw = row.get("raw")
    return OutputRow(
        session_id,
        row["seq"],
        row["attempt"],
        _STREAMS[row["stream"]],
        datetime.fromisoformat(row["written_at"]),
        row.get("data"),
        None if raw is None else base64.b64decode(raw),
        row["eol"],
    )


def to_line(document: Any) -> bytes:
    """One document, one line: JSON has no newline but between its words."""
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def damaged(path: Path, problem: str) -> ConfigurationError:
    """What is raised for a file that cannot be read as a volume."""
    return ConfigurationError(f"{path}: is damaged, or no file of this archive: {problem}")
