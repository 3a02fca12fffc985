"""Where the volumes of the archive stand, and finding one by its session's id, or the start of that.

    ARCHIVE/0199a1/0199a1b2-c3d4-7e5f-8000-000000000001-2.jsonl.gz
    ARCHIVE/unfinished/                                                  what is being written

An id begins with the time, so a folder has the sessions of some five hours. The number is that of the last attempt: a
session that is queued again after it was archived, and before it was removed, does not meet what it was.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final
from uuid import UUID

from gsd_tasks.domain.errors import AmbiguousId, ConfigurationError, NoSuchSession
from gsd_tasks.domain.session import START_OF_ID, SessionId, digits_of_id
from gsd_tasks.service.archive.volume import Volume

if TYPE_CHECKING:
    from collections.abc import Iterator

FOLDER_DIGITS: Final = 6
MOST_CANDIDATES: Final = 4
_NAME: Final = re.compile(r"(?P<id>[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})-(?P<attempt>\d{1,9})\.jsonl\.gz")


@dataclass(frozen=True, slots=True)
class Archive:
    """A folder, which several machines may share. What is in it is its user's alone."""

    folder: Path

    @property
    def unfinished(self) -> Path:
        """Where files are written before they get their place: no folder of sessions is called so."""
        return self.folder / "unfinished"

    def place(self, session_id: SessionId, attempt: int) -> Path:
        """Where the volume of a session with so many attempts is, or would be."""
        return self.folder / session_id.hex[:FOLDER_DIGITS] / f"{session_id}-{attempt}.jsonl.gz"

    def find(self, wanted: str | UUID) -> Volume:
        """What there is of the session with this id, or whose id alone starts so.

        Raises:
            NoSuchSession, AmbiguousId
            ConfigurationError: the archive cannot be read.
        """
        digits = wanted.hex if isinstance(wanted, UUID) else digits_of_id(wanted)
        if not START_OF_ID.fullmatch(digits):
            raise NoSuchSession(str(wanted))
        last: dict[SessionId, int] = {}
        try:
            for session_id, attempt in self._starting_with(digits):
                last[session_id] = max(attempt, last.get(session_id, 0))
                if len(last) == MOST_CANDIDATES:
                    break
        except FileNotFoundError:
            pass
        except OSError as error:
            raise ConfigurationError(f"GSD_ARCHIVE_DIR: {error.filename}: {error.strerror}") from error
        if not last:
            raise NoSuchSession(str(wanted))
        if len(last) > 1:
            raise AmbiguousId(str(wanted), tuple(str(candidate) for candidate in sorted(last)))
        [(session_id, attempt)] = last.items()
        return Volume(session_id, self.place(session_id, attempt))

    def _starting_with(self, digits: str) -> Iterator[tuple[SessionId, int]]:
        for folder in self._folders(digits):
            for entry in folder.iterdir():
                named = _NAME.fullmatch(entry.name)
                if named is not None and named["id"].replace("-", "").startswith(digits):
                    yield SessionId(UUID(named["id"])), int(named["attempt"])

    def _folders(self, digits: str) -> list[Path]:
        if len(digits) >= FOLDER_DIGITS:
            return [self.folder / digits[:FOLDER_DIGITS]]
        return [folder for folder in self.folder.iterdir() if folder.name.startswith(digits) and folder.is_dir()]
