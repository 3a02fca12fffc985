"""Cutting one stream's bytes into the pieces that become output rows.

A piece is a line, or at most 1 MiB of a longer one, or what has waited 200 ms for its newline. Joined again, the pieces
are the bytes: nothing is dropped, decoded or normalised here.
"""

from __future__ import annotations

from typing import Final, NamedTuple

PIECE_BYTES: Final = 1024 * 1024
PATIENCE_NS: Final = 200_000_000


class Piece(NamedTuple):
    """`body` without its newline; `eol` says that one followed; `at_ns` is when its first byte was read, since 1970."""

    at_ns: int
    body: bytes
    eol: bool

    @property
    def size(self) -> int:
        """Bytes of the stream that this piece stands for."""
        return len(self.body) + self.eol


class Cutter:
    """Cuts one stream. Holds back at most one unfinished line of 1 MiB."""

    def __init__(self) -> None:
        self._pending = bytearray()
        self._since_ns = 0

    @property
    def due_ns(self) -> int | None:
        """When the unfinished line has waited long enough, or None when there is none."""
        return self._since_ns + PATIENCE_NS if self._pending else None

    def feed(self, payload: bytes, at_ns: int) -> list[Piece]:
        """Take the next bytes of the stream, read at `at_ns`, and give the pieces that are complete."""
        lines = payload.split(b"\n")
        rest = lines.pop()
        pieces: list[Piece] = []
        for line in lines:
            if self._pending or len(line) > PIECE_BYTES:
                pieces += self._lengthen(line, at_ns)
                pieces.append(self._take(len(self._pending), at_ns, eol=True))
            else:
                pieces.append(Piece(at_ns, line, eol=True))
        if rest:
            pieces += self._lengthen(rest, at_ns)
        return pieces

    def overdue(self, now_ns: int) -> list[Piece]:
        """The unfinished line, if it has waited long enough; a character cut in two stays."""
        if not self._pending or now_ns < self._since_ns + PATIENCE_NS:
            return []
        whole = _whole_characters(self._pending, len(self._pending))
        if not whole:
            self._since_ns = now_ns
            return []
        return [self._take(whole, now_ns, eol=False)]

    def close(self) -> list[Piece]:
        """The stream has ended: the last line, if it has no newline."""
        return [self._take(len(self._pending), self._since_ns, eol=False)] if self._pending else []

    def _lengthen(self, more: bytes, at_ns: int) -> list[Piece]:
        if not self._pending:
            self._since_ns = at_ns
        self._pending += more
        pieces = []
        # Strictly more: a line of exactly 1 MiB is one row with its newline, not two.
        while len(self._pending) > PIECE_BYTES:
            pieces.append(self._take(_whole_characters(self._pending, PIECE_BYTES), at_ns, eol=False))
        return pieces

    def _take(self, size: int, at_ns: int, *, eol: bool) -> Piece:
        piece = Piece(self._since_ns if self._pending else at_ns, bytes(self._pending[:size]), eol)
        del self._pending[:size]
        self._since_ns = at_ns
        return piece


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
