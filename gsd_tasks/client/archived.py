"""What is not in the database any more, read from the archive; also where it was removed while it was being read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gsd_tasks.domain.errors import NoSuchSession

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from uuid import UUID

    from gsd_tasks.domain.retention import Record
    from gsd_tasks.domain.session import OutputRow, SessionId, Stream
    from gsd_tasks.service.archive import Volume

PAGE_ROWS: Final = 1000


class Archived:
    """The archive in `folder`; without one, there is nothing in it.

    What takes an `error` raises that where the session is not in the archive either.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    def volume(self, wanted: str | UUID, error: NoSuchSession) -> Volume:
        """What there is of a session. Raises also `AmbiguousId`; `ConfigurationError` if it cannot be read."""
        if self._folder is None:
            raise error
        # It takes a while to import, and is needed seldom.
        from gsd_tasks.service.archive import Archive

        try:
            return Archive(self._folder).find(wanted)
        except NoSuchSession:
            raise error from None

    def record(self, wanted: str | UUID, error: NoSuchSession) -> Record:
        """The session, and how it came to its end."""
        return self.volume(wanted, error).record()

    def rows(self, volume: Volume, after_seq: int, stream: Stream | None) -> Iterator[OutputRow]:
        """All rows after this one."""
        while page := volume.rows(after_seq=after_seq, limit=PAGE_ROWS, stream=stream):
            yield from page
            after_seq = page[-1].seq

    def go_on_with_rows(
        self, live: Iterator[OutputRow], session_id: SessionId, after_seq: int, stream: Stream | None
    ) -> Iterator[OutputRow]:
        """These rows of the database; and where they break off as the session was removed, those that follow them."""
        try:
            for row in live:
                yield row
                after_seq = row.seq
        except NoSuchSession as error:
            yield from self.rows(self.volume(session_id, error), after_seq, stream)

    def go_on_with_bytes(
        self, live: Iterator[bytes], session_id: SessionId, stream: Stream | None, *, first: int, most: int | None
    ) -> Iterator[bytes]:
        """The same of bytes."""
        try:
            for chunk in live:
                yield chunk
                first += len(chunk)
                most = None if most is None else most - len(chunk)
        except NoSuchSession as error:
            yield from self.volume(session_id, error).chunks(stream, first=first, most=most)
