"""The CLI's own record of a conversation on disk: where it is, writing one to resume from, and reading it as it grows.

The child can write to these files, so nothing about them is trusted: what is no plain file, is too long, or has become
shorter is not read on.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple
from uuid import UUID

if TYPE_CHECKING:
    from collections.abc import Iterable

#: The longest line that is kept. A tool's result may have megabytes; a value that Postgres can hold has less than 1 GB.
LONGEST_LINE_BYTES: Final = 64 * 1024 * 1024
#: A megabyte may be a million empty lines, and each is looked at by itself.
MOST_LINES: Final = 5_000
_READ_BYTES: Final = 1024 * 1024
#: The CLI names a folder after the working directory, and resumes from any.
_RESUMED: Final = "resumed"


class RecordBroken(Exception):
    """The record cannot be followed any further: what was read of it stays."""


class RecordLine(NamedTuple):
    """A whole line without its newline; it begins at `position` bytes of the file and ends before `end`."""

    position: int
    end: int
    body: bytes


def write_record(private_dir: Path, session_id: UUID, lines: Iterable[str]) -> int:
    """Make the record from which `--resume` goes on; its size in bytes."""
    folder = _projects(private_dir) / _RESUMED
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    size = 0
    with os.fdopen(os.open(folder / f"{session_id}.jsonl", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as out:
        for line in lines:
            size += out.write(line.encode() + b"\n")
    return size


class RecordReader:
    """Whole lines of an attempt's record from `begin` bytes on, as they come. Close it."""

    def __init__(self, private_dir: Path, session_id: UUID, begin: int) -> None:
        self._projects = _projects(private_dir)
        self._name = f"{session_id}.jsonl"
        self._fd: int | None = None
        self._torn = bytearray()
        self.position = begin

    def close(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def read(self, *, at_end: bool = False) -> list[RecordLine]:
        """Lines that are whole by now, some of them at a time; none if there are no more. A torn last one waits.

        `at_end`: nobody writes any more. Raises `RecordBroken`.
        """
        if self._fd is None and not self._open():
            return []
        lines = self._cut()
        while not lines:
            fresh = self._more()
            if not fresh:
                break
            self._torn += fresh
            lines = self._cut()
        return lines or (self._last() if at_end else [])

    def _open(self) -> bool:
        found = sorted(self._projects.glob(f"*/{self._name}"))
        if not found:
            return False
        try:
            fd = os.open(found[0], os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise RecordBroken(f"{self._name}: {error.strerror}") from error
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise RecordBroken(f"{self._name} is no plain file")
        self._fd = fd
        return True

    def _more(self) -> bytes:
        assert self._fd is not None  # noqa: S101  (for the type checker: `read` has opened it)
        at = self.position + len(self._torn)
        fresh = os.pread(self._fd, _READ_BYTES, at)
        if not fresh and os.fstat(self._fd).st_size < at:
            raise RecordBroken(f"{self._name} has become shorter")
        return fresh

    def _cut(self) -> list[RecordLine]:
        lines: list[RecordLine] = []
        at = 0
        while len(lines) < MOST_LINES and (end := self._torn.find(b"\n", at) + 1):
            lines.append(RecordLine(self.position, self.position + end - at, bytes(self._torn[at : end - 1])))
            self.position += end - at
            at = end
        del self._torn[:at]
        if not lines and len(self._torn) > LONGEST_LINE_BYTES:
            raise RecordBroken(f"{self._name} has a line of more than {LONGEST_LINE_BYTES} bytes")
        return lines

    def _last(self) -> list[RecordLine]:
        """Without its newline it may be torn: it is for the caller to say whether it makes sense."""
        body, self._torn = bytes(self._torn), bytearray()
        begun, self.position = self.position, self.position + len(body)
        return [RecordLine(begun, self.position, body)] if body else []


def _projects(private_dir: Path) -> Path:
    return private_dir / "config" / "projects"
