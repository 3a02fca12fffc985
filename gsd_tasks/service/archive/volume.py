"""Reading what the archive has of one session: its record, its rows from any one on, its bytes."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final

from pydantic import TypeAdapter, ValidationError

from gsd_tasks.domain.errors import ConfigurationError
from gsd_tasks.domain.retention import Record
from gsd_tasks.domain.session import OutputRow, SessionId, Stream
from gsd_tasks.service.archive import layout
from gsd_tasks.service.archive.layout import FORMAT, TAIL_BYTES, Index, Part

if TYPE_CHECKING:
    from collections.abc import Sequence

CHUNK_ROWS: Final = 1000
#: Indexes that are kept, each of some 50 bytes for 2,000 rows.
KEPT_INDEXES: Final = 16


@cache
def record_format() -> TypeAdapter[Record]:
    """A record and what it is as JSON. Made when it is asked for: it takes a while, and few processes ask."""
    return TypeAdapter(Record)


@dataclass(frozen=True, slots=True)
class Volume:
    """One file of the archive. Every read opens it anew, and takes a member or two of it, wherever they stand.

    Raises `ConfigurationError` where the file is damaged or cannot be read.
    """

    session_id: SessionId
    path: Path

    def record(self) -> Record:
        """All but the rows."""
        with _opened(self.path) as (file, index):
            line = layout.unpack(_take(file, 0, index.record_length), self.path)
        try:
            document = json.loads(line)
            if document["format"] > FORMAT:
                raise ConfigurationError(f"{self.path}: was written by a newer version of gsd-tasks: upgrade this one")
            return record_format().validate_json(json.dumps(document["record"]), strict=True)
        except (ValidationError, ValueError, KeyError, TypeError) as error:
            raise layout.damaged(self.path, "its first line is no record of a session") from error

    def rows(
        self,
        *,
        after_seq: int = 0,
        limit: int,
        stream: Stream | None = None,
        newest_first: bool = False,
        since: datetime | None = None,
        largest_bytes: int = 8 * 1024 * 1024,
    ) -> list[OutputRow]:
        """As `store.outputs.read` of what is in Postgres: the same rows for the same question."""
        found: list[OutputRow] = []
        size = 0
        for row in self._ordered(after_seq, newest_first=newest_first):
            if (stream is not None and row.stream is not stream) or (since is not None and row.written_at < since):
                continue
            if len(found) == limit or size >= largest_bytes:
                break
            found.append(row)
            size += len(row.body)
        return found

    def count_bytes(self, stream: Stream | None) -> int:
        """How many the child wrote, to one stream or to both."""
        with _opened(self.path) as (_, index):
            return sum(_bytes_of(part, stream) for part in index.parts)

    def chunks(self, stream: Stream | None, *, first: int = 0, most: int | None = None) -> Iterator[bytes]:
        """The bytes from `first` on, `most` of them or all that there are, member by member."""
        for part in self._parts():
            size = _bytes_of(part, stream)
            if first >= size:
                first -= size
                continue
            if most is not None and most <= 0:
                return
            rows = self._rows_of(part)
            written = b"".join(row.as_bytes() for row in rows if stream is None or row.stream is stream)
            chunk = written[first:][:most]
            first = 0
            most = None if most is None else most - len(chunk)
            yield chunk

    def lines(self) -> Iterator[bytes]:
        """The rows as they are written, for whoever holds them against others."""
        for part in self._parts():
            yield from self._lines_of(part)

    def _ordered(self, after_seq: int, *, newest_first: bool) -> Iterator[OutputRow]:
        parts = self._parts()
        if newest_first:
            for part in reversed(parts):
                for row in reversed(self._rows_of(part)):
                    if row.seq <= after_seq:
                        return
                    yield row
            return
        at = bisect_right(parts, after_seq + 1, key=lambda part: part.first_seq)
        for part in parts[max(0, at - 1) :]:
            yield from (row for row in self._rows_of(part) if row.seq > after_seq)

    def _parts(self) -> Sequence[Part]:
        with _opened(self.path) as (_, index):
            return index.parts

    def _rows_of(self, part: Part) -> list[OutputRow]:
        try:
            return [layout.read_row(self.session_id, line) for line in self._lines_of(part)]
        except (ValueError, KeyError, TypeError) as error:
            raise layout.damaged(self.path, f"the rows from {part.first_seq} on cannot be read") from error

    def _lines_of(self, part: Part) -> list[bytes]:
        with _opened(self.path) as (file, _):
            lines = layout.unpack(_take(file, part.offset, part.length), self.path)
        return lines.split(b"\n")[:-1]


def _bytes_of(part: Part, stream: Stream | None) -> int:
    match stream:
        case Stream.STDOUT:
            return part.stdout_bytes
        case Stream.STDERR:
            return part.stderr_bytes
        case None:
            return part.stdout_bytes + part.stderr_bytes


@contextmanager
def _opened(path: Path) -> Iterator[tuple[BinaryIO, Index]]:
    try:
        with path.open("rb") as file:
            yield file, _index_of(path, path.stat().st_mtime_ns, file.seek(0, 2))
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror}: see GSD_ARCHIVE_DIR") from error


@lru_cache(maxsize=KEPT_INDEXES)
def _index_of(path: Path, _written_at_ns: int, size: int) -> Index:
    with path.open("rb") as file:
        tail_at = max(0, size - TAIL_BYTES)
        index_at = layout.find_index(_take(file, tail_at, size - tail_at), path)
        return layout.read_index(_take(file, index_at, size - index_at), path)


def _take(file: BinaryIO, offset: int, length: int) -> bytes:
    file.seek(offset)
    return file.read(length)
