"""Hiding the values of secrets in what a child writes, byte for byte: a `*` for each, so that no count changes.

A value is found as it is, and as it stands in JSON, also in JSON within JSON: Claude's own output is JSON, and what its
tools print is text in it. A value that somebody encodes otherwise (base64, one character a line) is not found.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

#: Shorter ones would be found in everything.
SHORTEST_VALUE_BYTES: Final = 4
LARGEST_VALUE_BYTES: Final = 16 * 1024
#: The most by which a byte grows in JSON within JSON: `\\u0001`.
MOST_GROWTH: Final = 7
#: Whether a byte is to be hidden depends on no more than this before it, whatever the values are.
CONTEXT_BYTES: Final = MOST_GROWTH * LARGEST_VALUE_BYTES

#: Below this length a plain word or a plain number stands in much else: `type`, `result`, a time, a count of tokens.
#: Without those an event is no event any more, and a transcript no conversation.
_PLAIN_CHARS: Final = 16
_PLAIN: Final = re.compile(rf"[A-Za-z_ -]{{1,{_PLAIN_CHARS - 1}}}|[0-9.,:+ -]{{1,{_PLAIN_CHARS - 1}}}")

# A newline ends an output row: it stays what it is.
_HIDDEN: Final = bytes(byte if byte == ord("\n") else ord("*") for byte in range(256))
_HEAD_BYTES: Final = 8

Line = TypeVar("Line", str, bytes)


def why_not_hidden(value: str) -> str | None:
    """What keeps this value from being hidden without hiding other things along with it; None: nothing does."""
    if len(value.encode()) < SHORTEST_VALUE_BYTES:
        return f"is shorter than {SHORTEST_VALUE_BYTES} bytes"
    if _PLAIN.fullmatch(value):
        return f"is a plain word or number of less than {_PLAIN_CHARS} characters"
    if value.startswith('"') or value.endswith(('"', "\\")):
        return "begins or ends with a quotation mark, or ends with a backslash"
    return None


class Masker:
    """What is to be hidden in one session. Without values, everything comes back as it is, itself and not a copy."""

    def __init__(self, values: Iterable[str] = ()) -> None:
        forms = {form for value in values for form in _forms(value)}
        self._patterns = tuple(_Pattern(form) for form in sorted(forms))

    def __bool__(self) -> bool:
        """There is something to hide."""
        return bool(self._patterns)

    @property
    def context_bytes(self) -> int:
        """How many bytes before a place can matter to what is hidden behind it."""
        return max((len(pattern.form) - 1 for pattern in self._patterns), default=0)

    def stream(self) -> MaskedStream:
        """For bytes that come piece by piece."""
        return MaskedStream(self._patterns)

    def mask_line(self, line: Line) -> Line:
        """`line` with what is to be hidden in it; as many bytes as before."""
        if not self._patterns:
            return line
        if isinstance(line, str):
            return self._mask(line.encode(errors="surrogatepass")).decode(errors="surrogatepass")
        return self._mask(line)

    def mask_value(self, value: Any) -> Any:
        """Every text in a value that came from JSON."""
        match value:
            case str():
                return self.mask_line(value)
            case dict():
                return {self.mask_value(key): self.mask_value(item) for key, item in value.items()}
            case list() | tuple():
                return [self.mask_value(item) for item in value]
            case _:
                return value

    def _mask(self, data: bytes) -> bytes:
        stream = self.stream()
        return stream.feed(data) + stream.close()


class MaskedStream:
    """One stream, fed in any pieces: what comes out, put together, is the whole with all that is to be hidden in it.

    Held back is only an end that may be the beginning of a value: until it turns out to be none, or the stream ends.
    """

    def __init__(self, patterns: Sequence[_Pattern]) -> None:
        self._patterns = patterns
        self._held = b""
        # How much of it belongs to a value that began before it.
        self._covered = 0

    @property
    def held_bytes(self) -> int:
        """How many bytes were fed and have not come out."""
        return len(self._held)

    def feed(self, data: bytes) -> bytes:
        """What is certain by now."""
        known = self._held + data if self._held else data
        return self._release(known, max((pattern.begun(known) for pattern in self._patterns), default=0))

    def close(self) -> bytes:
        """The stream has ended: the rest."""
        return self._release(self._held, 0)

    def _release(self, known: bytes, hold_back: int) -> bytes:
        spans = [span for pattern in self._patterns for span in pattern.spans(known)]
        if self._covered:
            spans.append((0, self._covered))
        until = len(known) - hold_back
        self._held = known[until:]
        # One that lies in what is held is found again with what comes next.
        released = [(start, end) for start, end in spans if start < until]
        self._covered = max((end - until for _, end in released if end > until), default=0)
        return _hide(known[:until], released) if released else known[:until]


class _Pattern:
    """One form of one value, as bytes."""

    def __init__(self, form: bytes) -> None:
        self.form = form
        self._head = form[: min(_HEAD_BYTES, len(form) - 1)]
        self._beginnings = tuple(form[:size] for size in range(len(self._head) - 1, 0, -1))

    def spans(self, data: bytes) -> Iterator[tuple[int, int]]:
        """Where it stands; places may overlap."""
        at = data.find(self.form)
        while at >= 0:
            yield at, at + len(self.form)
            at = data.find(self.form, at + 1)

    def begun(self, data: bytes) -> int:
        """How many bytes at the end of `data` may be its beginning, and less than all of it."""
        at = max(0, len(data) - len(self.form) + 1)
        while (at := data.find(self._head, at)) >= 0:
            if self.form.startswith(data[at:]):
                return len(data) - at
            at += 1
        return next((len(beginning) for beginning in self._beginnings if data.endswith(beginning)), 0)


def _hide(data: bytes, spans: Iterable[tuple[int, int]]) -> bytes:
    hidden = bytearray(data)
    for start, end in spans:
        hidden[start:end] = hidden[start:end].translate(_HIDDEN)
    return bytes(hidden)


def _forms(value: str) -> set[bytes]:
    """As it is; in JSON, as Node and as Python write it; and each of these in JSON again."""
    once = set(_in_json(value))
    twice = {form for inner in once for form in _in_json(inner)}
    return {form.encode() for form in {value} | once | twice if form}


def _in_json(text: str) -> Iterator[str]:
    for ascii_alone in (False, True):
        yield json.dumps(text, ensure_ascii=ascii_alone)[1:-1]
