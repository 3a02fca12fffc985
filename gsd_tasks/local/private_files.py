"""Files that only their owner may read, replaced as a whole or not at all."""

from __future__ import annotations

import os
import stat
from pathlib import Path


def write_private(path: Path, content: bytes) -> None:
    """Replace `path` by a file with mode 0600 that holds `content`.

    A reader sees the old content or the new, never a part, also after a crash in between.

    Raises:
        OSError: the folder cannot be written to.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.unlink(missing_ok=True)  # of a former process with this pid, dead half-way
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    draft.rename(path)
    _sync_folder(path.parent)


def read_private(path: Path, largest_bytes: int) -> bytes | None:
    """The beginning of what `path` holds; None if there is no such file.

    Raises:
        PermissionError: others may have read or written it.
    """
    try:
        # No link is followed, and nothing is waited for, as it would be with a pipe.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            return None
        if status.st_uid != os.geteuid() or stat.S_IMODE(status.st_mode) & 0o077:
            raise PermissionError(f"{path}: others can read it")
        return file.read(largest_bytes)


def make_private_folder(path: Path) -> None:
    """Make sure that `path` is a folder, with mode 0700 if it has to be created."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)


def _sync_folder(folder: Path) -> None:
    """Without it the rename itself can be lost with the power."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
