"""Secrets are hidden between the spool and the rows, stream by stream.

A value may lie across any border: of two reads, of two rows, and of what one worker has committed and the next one goes
on with. So whoever goes on reads a little of what is committed again, and the spool keeps that much of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gsd_tasks.domain.session import Stream
from gsd_tasks.process.spool.reader import oldest

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from gsd_tasks.domain.masking import Masker


class Veil:
    """One stream of one attempt. Of what it is fed, the first `known_bytes` are committed: they do not come out."""

    def __init__(self, masker: Masker, known_bytes: int) -> None:
        self._stream = masker.stream()
        self._known_bytes = known_bytes
        self._held_at_ns = 0

    def feed(self, payload: bytes, at_ns: int) -> list[tuple[bytes, int]]:
        """What is certain by now, and when it was read: what was held back goes before what has come now."""
        before = self._stream.held_bytes
        out = self._stream.feed(payload)
        parts = [(out[:before], self._held_at_ns), (out[before:], at_ns)]
        if self._stream.held_bytes <= len(payload):
            self._held_at_ns = at_ns
        return self._fresh(parts)

    def close(self) -> list[tuple[bytes, int]]:
        """The stream has ended: the rest."""
        return self._fresh([(self._stream.close(), self._held_at_ns)])

    def _fresh(self, parts: list[tuple[bytes, int]]) -> list[tuple[bytes, int]]:
        fresh = []
        for data, at_ns in parts:
            known = min(self._known_bytes, len(data))
            self._known_bytes -= known
            if len(data) > known:
                fresh.append((data[known:], at_ns))
        return fresh


def reread_from(folder: Path, committed: Mapping[Stream, int], context_bytes: int) -> dict[Stream, int]:
    """Where to begin reading, so that what is hidden behind `committed` is what was hidden for whoever came so far."""
    kept = oldest(folder)
    least = {Stream.STDOUT: kept.stdout, Stream.STDERR: kept.stderr}
    return {stream: max(size - context_bytes, least[stream], 0) for stream, size in committed.items()}
