"""A `Range` of bytes (RFC 9110, section 14): which of them are meant, and what is said of them."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

#: One range; of several, or another unit, or what is no range, the whole is answered, as the standard allows.
_SINGLE: Final = re.compile(r"bytes=\s*([0-9]{0,18})-([0-9]{0,18})\s*")


class Span(NamedTuple):
    """From the first to the last byte, counted from 0, both included; none at all where `last` lies before `first`."""

    first: int
    last: int

    @property
    def length(self) -> int:
        return max(0, self.last - self.first + 1)


def read_range(header: str | None, size: int) -> Span | None:
    """What of `size` bytes is asked for. None: the whole. An empty span: nothing that there is, so it is refused."""
    match = _SINGLE.fullmatch(header or "")
    if match is None:
        return None
    first, last = match.groups()
    if not first:
        if not last:
            return None
        return Span(max(0, size - int(last)), size - 1)
    if last and int(last) < int(first):
        return None
    return Span(int(first), min(int(last), size - 1) if last else size - 1)


def content_range(span: Span, size: int | None) -> str:
    """What a partial answer says of itself; without a size where it may still grow."""
    return f"bytes {span.first}-{span.last}/{'*' if size is None else size}"
