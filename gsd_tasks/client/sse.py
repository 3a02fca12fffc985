"""Server-Sent Events (the HTML standard, section 9.2), read piece by piece as they arrive."""

from __future__ import annotations

from typing import Final, NamedTuple

from gsd_tasks.domain.errors import ApiUnavailable

#: A row has 1 MiB; with each byte of it escaped, six times as much.
LARGEST_EVENT_BYTES: Final = 16 * 1024 * 1024


class Message(NamedTuple):
    """One event: its name, and its data as they stand."""

    name: str
    data: bytes
    last_id: str


class Reader:
    """Gives the events that are complete; what is cut off in the middle is nobody's.

    `last_id` is the place after the last event that was given, and the one to go on from.
    """

    def __init__(self, last_id: str = "", *, largest_bytes: int = LARGEST_EVENT_BYTES) -> None:
        self.last_id = last_id
        self._largest_bytes = largest_bytes
        self._parts: list[bytes] = []
        self._ends_in_cr = False
        self._size = 0
        self._begin()

    def feed(self, piece: bytes) -> list[Message]:
        """The events that this piece completes.

        Raises:
            ApiUnavailable: an event is larger than anything that the API sends.
        """
        if not piece:
            return []
        if self._ends_in_cr and piece.startswith(b"\n"):
            piece = piece[1:]
        self._ends_in_cr = piece.endswith(b"\r")
        if b"\r" in piece:
            piece = piece.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        *lines, rest = piece.split(b"\n")
        messages = []
        for line in lines:
            self._grow(line)
            message = self._line(b"".join(self._parts))
            self._parts = []
            if message is not None:
                messages.append(message)
        if rest:
            self._grow(rest)
        return messages

    def _grow(self, part: bytes) -> None:
        self._parts.append(part)
        self._size += len(part)
        if self._size > self._largest_bytes:
            raise ApiUnavailable(f"the API sends an event of more than {self._largest_bytes} bytes: it is none of ours")

    def _line(self, line: bytes) -> Message | None:
        if not line:
            return self._end()
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            self._data.append(value)
        elif field == b"event":
            self._name = value.decode(errors="replace")
        elif field == b"id" and b"\0" not in value:
            self._id = value.decode(errors="replace")
        elif not field:
            self._size -= len(line)  # A comment counts for nothing, however many there are.
        return None

    def _end(self) -> Message | None:
        self.last_id = self._id
        message = Message(self._name, b"\n".join(self._data), self.last_id) if self._data else None
        self._begin()
        return message

    def _begin(self) -> None:
        self._name = ""
        self._data: list[bytes] = []
        self._id = self.last_id
        self._size = 0
