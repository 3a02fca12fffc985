"""How a child ended: the last thing that its shim writes."""

from __future__ import annotations

import contextlib
import json
import os
from enum import StrEnum
from pathlib import Path
from typing import Final, NamedTuple

# Room is taken when the attempt begins, so that a full disk can still say that it was full.
_ROOM: Final = 4096
_DETAIL_CHARS: Final = 400
_NAME: Final = "exit.json"
_UNFINISHED: Final = "exit.json.new"


class EndedBy(StrEnum):
    """What the shim did to end the child, or what stopped it from starting one."""

    TIMEOUT = "timeout"
    IDLE_TIMEOUT = "idle_timeout"
    OUTPUT_LIMIT = "output_limit"
    STOPPED = "stopped"
    LEASE_LOST = "lease_lost"
    SPOOL_FAILED = "spool_failed"
    NOT_STARTED = "not_started"


class ExitRecord(NamedTuple):
    """The child is gone, its whole tree with it, and the spool is complete: a reader at these totals has all of it.

    `exit_code` or `exit_signal` is set (neither for `not_started`). `ended_by` is None if the child ended by itself;
    with SPOOL_FAILED the spool holds an exact prefix and `detail` the system's reason. Times are ns since 1970.
    """

    exit_code: int | None
    exit_signal: int | None
    ended_by: EndedBy | None
    detail: str | None
    started_at_ns: int
    ended_at_ns: int
    stdout_bytes: int
    stderr_bytes: int
    peak_rss_bytes: int | None


def read_exit(folder: Path) -> ExitRecord | None:
    """The record, once the shim has written it. None too for one that nobody can understand.

    A crash of the host may leave it empty, and a shim of another version may have other words.
    """
    try:
        fields = json.loads((folder / _NAME).read_bytes())
        ended_by = fields.pop("ended_by")
        known = {name: fields[name] for name in ExitRecord._fields if name in fields}
        return ExitRecord(**known, ended_by=None if ended_by is None else EndedBy(ended_by))
    except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):
        return None


class ExitFile:
    """The shim's side: room for the record is taken at once (raises OSError), `write` needs no more of the disk."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._fd = os.open(folder / _UNFINISHED, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        os.write(self._fd, b" " * _ROOM)

    def write(self, record: ExitRecord) -> None:
        """Readers see the whole record, or none."""
        short = record._replace(detail=record.detail and record.detail[:_DETAIL_CHARS])
        text = json.dumps(short._asdict()).encode()
        os.pwrite(self._fd, text.ljust(_ROOM), 0)
        with contextlib.suppress(OSError):  # padding is as good as no padding
            os.ftruncate(self._fd, len(text))
        os.close(self._fd)
        os.rename(self._folder / _UNFINISHED, self._folder / _NAME)
