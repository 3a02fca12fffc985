"""Cutting one stream's bytes into the pieces that become output rows.

A piece is a line, or at most 1 MiB of a longer one, or what has waited 200 ms for its newline. Joined again, the pieces
are the bytes: nothing is dropped, decoded or normalised here.
"""

from __future__ import annotations

from typing import Final, NamedTuple

PIECE_BYTES: Final = 1024 * 1024
PATIENCE_NS: Final = 200_000_000


class Run(NamedTuple):
    """Pieces that follow each other and were read together.

    `bodies` are without their newlines; `eol` says that one followed each; `at_ns` is when the first byte of each was
    read, since 1970.
    """

    at_ns: int
    bodies: list[bytes]
    eol: bool

    @property
    def size(self) -> int:
        """Bytes of the stream that these pieces stand for."""
        return sum(map(len, self.bodies)) + self.eol * len(self.bodies)


class Cutter:
    """Cuts one stream. Holds back at most one unfinished line of 1 MiB."""

    def __init__(self) -> None:
        self._pending = bytearray()
        self._since_ns = 0

    @property
    def due_ns(self) -> int | None:
        """When the unfinished line has waited long enough, or None when there is none."""
        return self._since_ns + PATIENCE_NS if self._pending else None

    def feed(self, payload: bytes, at_ns: int) -> list[Run]:
        """Take the next bytes of the stream, read at `at_ns`, and give the pieces that are complete."""
        lines = payload.split(b"\n")
        rest = lines.pop()
        runs: list[Run] = []
        if lines and self._pending:
            runs += self._finish(lines.pop(0), at_ns)
        if len(payload) <= PIECE_BYTES:
            if lines:
                runs.append(Run(at_ns, lines, eol=True))
        else:
            for line in lines:
                runs += self._finish(line, at_ns)
        if rest:
            runs += self._lengthen(rest, at_ns)
        return runs

    def overdue(self, now_ns: int) -> list[Run]:
        """The unfinished line, if it has waited long enough; a character cut in two stays."""
        if not self._pending or now_ns < self._since_ns + PATIENCE_NS:
            return []
        whole = _whole_characters(self._pending, len(self._pending))
        if not whole:
            self._since_ns = now_ns
            return []
        return [self._take(whole, now_ns, eol=False)]

    def close(self) -> list[Run]:
        """The stream has ended: the last line, if it has no newline."""
        return [self._take(len(self._pending), self._since_ns, eol=False)] if self._pending else []

    def _finish(self, line: bytes, at_ns: int) -> list[Run]:
        runs = self._lengthen(line, at_ns)
        runs.append(self._take(len(self._pending), at_ns, eol=True))
        return runs

    def _lengthen(self, more: bytes, at_ns: int) -> list[Run]:
        if not self._pending:
            self._since_ns = at_ns
        self._pending += more
        runs = []
        # Strictly more: a line of exactly 1 MiB is one row with its newline, not two.
        while len(self._pending) > PIECE_BYTES:
            runs.append(self._take(_whole_characters(self._pending, PIECE_BYTES), at_ns, eol=False))
        return runs

    def _take(self, size: int, at_ns: int, *, eol: bool) -> Run:
        run = Run(self._since_ns if self._pending else at_ns, [bytes(self._pending[:size])], eol)
        del self._pending[:size]
        self._since_ns = at_ns
        return run


def _whole_characters(data: bytearray, limit: int) -> int:
    """The largest size up to `limit` that cuts no UTF-8 character; `limit` where the bytes are no UTF-8 anyway."""
    for back in range(1, min(4, limit) + 1):
        lead = data[limit - back]
        if lead & 0b1100_0000 == 0b1000_0000:
            continue
        if lead < 0b1100_0000:
            return limit
        length = 2 if lead < 0b1110_0000 else 3 if lead < 0b1111_0000 else 4
        return limit - back if back < length else limit
    return limit
