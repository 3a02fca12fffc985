"""Writing sessions into the archive: their records and all of their rows, read from Postgres, in bounded memory.

A file is written under another name, synced, read back whole and held against what was read from Postgres; then it gets
its name, and its folder is synced. Only what is in the archive by then may be removed from the database.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final
from uuid import uuid4

from gsd_tasks.domain.errors import ConfigurationError
from gsd_tasks.domain.session import Stream
from gsd_tasks.service.archive import layout
from gsd_tasks.service.archive.layout import FORMAT, MEMBER_BYTES, MEMBER_ROWS, Index, Part
from gsd_tasks.service.archive.volume import Volume, record_format
from gsd_tasks.store import outputs, records

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from typing import BinaryIO

    from gsd_tasks.domain.retention import Record
    from gsd_tasks.domain.session import OutputRow, SessionId
    from gsd_tasks.service.archive.shelf import Archive
    from gsd_tasks.store import Database

#: What nobody has written to for so long is nobody's.
ABANDONED_S: Final = 3600


class Incomplete(Exception):
    """Postgres has not all of a session's rows: somebody is removing it, or they are lost. It is not archived."""


def bind(archive: Archive, database: Database, ids: Sequence[SessionId]) -> list[SessionId]:
    """Have these ended sessions in the archive, as they stand now; their output is read in one go. Which are in it.

    Left out is what is gone or goes on again, and what has not all of its rows.

    Raises:
        ConfigurationError: the archive cannot be written. What was there before is as it was.
        DatabaseUnavailable
    """
    with database.connection() as connection:
        found = records.of_several(connection, ids)
        rows = records.rows_of_several(connection, ids)
    return _bind_all(archive, found, lambda session_id: _cut(rows[session_id]))


def bind_long(archive: Archive, database: Database, session_id: SessionId) -> list[SessionId]:
    """The same for one whose output is too much to be read in one go."""
    with database.connection() as connection:
        found = records.of_several(connection, [session_id])
    return _bind_all(archive, found, lambda session_id: _pages(database, session_id))


def _bind_all(
    archive: Archive, found: Iterable[Record], members: Callable[[SessionId], Iterator[list[OutputRow]]]
) -> list[SessionId]:
    bound: list[Volume] = []
    try:
        _clear(archive.unfinished)
        for record in found:
            volume = Volume(record.session.id, archive.place(record.session.id, record.session.attempt))
            with contextlib.suppress(Incomplete):
                if not _is_bound(volume, record):
                    _bind(volume, archive.unfinished, record, members(record.session.id))
                bound.append(volume)
        # Names last when the folders do that they stand in; also those that somebody else has given.
        for folder in {above for volume in bound for above in (volume.path.parent, archive.folder)}:
            _sync(folder)
    except OSError as error:
        raise ConfigurationError(f"{archive.folder}: {error.strerror}: nothing is archived, nor removed") from error
    return [volume.session_id for volume in bound]


def _is_bound(volume: Volume, record: Record) -> bool:
    """Somebody who was cut off has done it already. Read to the end, as the rows are removed on the strength of it."""
    try:
        if not volume.path.exists() or volume.record() != record:
            return False
        return sum(1 for _ in volume.lines()) == record.session.seq
    except ConfigurationError:
        return False


def _bind(volume: Volume, folder: Path, record: Record, members: Iterator[list[OutputRow]]) -> None:
    unfinished = folder / f"{volume.path.name}.{uuid4().hex}"
    try:
        digest = _write(unfinished, record, members)
        _verify(Volume(volume.session_id, unfinished), record, digest)
        volume.path.parent.mkdir(mode=0o700, exist_ok=True)
        unfinished.rename(volume.path)
    except BaseException:
        with contextlib.suppress(OSError):
            unfinished.unlink(missing_ok=True)
        raise


def _clear(folder: Path) -> None:
    """Remove what somebody has begun who was cut off, not what is being written; make the folder, if there is none."""
    # One by one: what stands above a folder that is made with all above it is open to others.
    folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.mkdir(mode=0o700, exist_ok=True)
    for begun in folder.iterdir():
        with contextlib.suppress(FileNotFoundError):
            if time.time() - begun.stat().st_mtime > ABANDONED_S:
                begun.unlink()


def _write(path: Path, record: Record, members: Iterator[list[OutputRow]]) -> bytes:
    digest = hashlib.sha256()
    last_seq = record.session.seq
    path.touch(mode=0o600, exist_ok=False)
    with path.open("wb") as file:
        head = record_format().dump_json(record)
        record_length = file.write(layout.pack(b'{"format":%d,"record":%s}\n' % (FORMAT, head)))
        parts: list[Part] = []
        for rows in members:
            lines = b"".join(map(layout.row_line, rows))
            digest.update(lines)
            parts.append(_part(file, rows, lines))
        index = Index(record_length, tuple(parts))
        # Numbered from 1 and each once: if the last is right and so is their number, none is missing.
        if index.rows != last_seq or (last_seq and rows[-1].seq != last_seq):
            raise Incomplete
        file.write(layout.pack_tail(index, file.tell()))
        file.flush()
        os.fsync(file.fileno())
    return digest.digest()


def _part(file: BinaryIO, rows: list[OutputRow], lines: bytes) -> Part:
    sizes = dict.fromkeys(Stream, 0)
    for row in rows:
        sizes[row.stream] += len(row.as_bytes())
    offset = file.tell()
    length = file.write(layout.pack(lines))
    return Part(rows[0].seq, offset, length, len(rows), sizes[Stream.STDOUT], sizes[Stream.STDERR])


def _cut(rows: Sequence[OutputRow]) -> Iterator[list[OutputRow]]:
    """Rows that are there, as many at a time as a member has."""
    member: list[OutputRow] = []
    size = 0
    for row in rows:
        if len(member) == MEMBER_ROWS or size >= MEMBER_BYTES:
            yield member
            member, size = [], 0
        member.append(row)
        size += len(row.body)
    if member:
        yield member


def _pages(database: Database, session_id: SessionId) -> Iterator[list[OutputRow]]:
    after_seq = 0
    while True:
        with database.connection() as connection:
            rows = outputs.read(
                connection, session_id, after_seq=after_seq, limit=MEMBER_ROWS, largest_bytes=MEMBER_BYTES
            )
        if not rows:
            return
        yield rows
        after_seq = rows[-1].seq


def _verify(volume: Volume, record: Record, digest: bytes) -> None:
    """The file as it is read, against what Postgres had."""
    found = hashlib.sha256()
    for line in volume.lines():
        found.update(line + b"\n")
    if found.digest() != digest or volume.record() != record:
        raise ConfigurationError(f"{volume.path.parent}: what was written is not what is read back: look at the disk")


def _sync(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
