"""Arrays of values in the binary form that Postgres takes (array_recv), put together run by run.

The driver would ask of each element by itself what it is; of a thousand lines that came together, all but the text is
the same.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, Final

from psycopg.adapt import Dumper
from psycopg.pq import Format

if TYPE_CHECKING:
    from collections.abc import Sequence

_HEADER: Final = struct.Struct(">iIIii")
_LENGTH: Final = struct.Struct(">i")
_NULL: Final = _LENGTH.pack(-1)


class Array:
    """One dimension, of elements with the type `oid`; each element is given as that type has it in binary."""

    def __init__(self, oid: int) -> None:
        self._oid = oid
        self._parts: list[bytes] = []
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def extend(self, elements: Sequence[bytes]) -> None:
        """One after the other."""
        pack = _LENGTH.pack
        self._parts.append(b"".join([pack(len(element)) + element for element in elements]))
        self._length += len(elements)

    def repeat(self, element: bytes | None, times: int) -> None:
        """The same so many times; null, where there is none."""
        self._parts.append((_NULL if element is None else _LENGTH.pack(len(element)) + element) * times)
        self._length += times

    def encode(self) -> bytes:
        """The whole of it."""
        has_nulls, first = 1, 1  # nulls are allowed; Postgres looks whether there are any
        return _HEADER.pack(1, has_nulls, self._oid, self._length, first) + b"".join(self._parts)


class ArrayDumper(Dumper):
    """For the driver. The statement says what it is an array of, by a cast."""

    format = Format.BINARY

    def dump(self, obj: Any) -> bytes:
        """As psycopg wants it."""
        encoded: bytes = obj.encode()
        return encoded
