"""Which worker has a spool: a lock beside its folder, which the kernel lets go when that worker's process ends.

spool/SESSION/ATTEMPT         the folder; its own lock is the shim's
spool/SESSION/ATTEMPT.owner   locked by the worker that streams it
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from pathlib import Path
from typing import Final, Self

_SUFFIX: Final = ".owner"


def spool_folders(session_folder: Path) -> set[Path]:
    """The spools of a session that there are, or for which somebody has at least taken the right."""
    return {entry.with_name(entry.name.removesuffix(_SUFFIX)) for entry in session_folder.iterdir()}


class Owner:
    """The right to stream from, end and remove one spool; one process at a time has it."""

    def __init__(self, folder: Path, fd: int) -> None:
        self.folder = folder
        self._fd = fd

    @classmethod
    def take(cls, folder: Path) -> Self | None:
        """None: another worker, which lives, has it. The folder need not be there, its grandparent must. OSError."""
        path = _path(folder)
        while True:
            with contextlib.suppress(FileExistsError):
                folder.parent.mkdir(mode=0o700)
            try:
                fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            except FileNotFoundError:
                continue  # its session's folder was removed between our two steps
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(fd)
                return None
            if _is_at(fd, path):
                return cls(folder, fd)
            os.close(fd)  # removed by its former owner, likewise

    def let_go(self) -> None:
        """Leave the spool to whoever takes it next. Doing it twice does no harm."""
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1

    def clear(self) -> None:
        """Leave nothing in the spool, if there is one; the right to it stays."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def remove(self) -> None:
        """The spool, and then the right to it. Doing it twice does no harm."""
        if self._fd < 0:
            return
        self.clear()
        with contextlib.suppress(OSError):
            _path(self.folder).unlink()
        self.let_go()
        with contextlib.suppress(OSError):
            self.folder.parent.rmdir()


def _path(folder: Path) -> Path:
    return folder.with_name(folder.name + _SUFFIX)


def _is_at(fd: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), path.stat())
    except FileNotFoundError:
        return False
