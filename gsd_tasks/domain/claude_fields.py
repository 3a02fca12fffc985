"""Fields of JSON that somebody else's program wrote: read as what they should be, or passed over."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any, Final, TypeVar

# Postgres takes neither in JSON or text; JSON escapes can smuggle both in.
_NO_TEXT: Final = re.compile("[\x00\ud800-\udfff]")
_LARGEST_NUMBER: Final = 1e15

Value = TypeVar("Value")


class Fields:
    """Reads the fields of an object, each of them once. `rest` is what nobody read, and what is no such value.

    A field that is missing or of another type reads as empty, never as an error: a newer CLI may have changed it.
    """

    def __init__(self, given: object) -> None:
        self._rest: dict[str, Any] = dict(given) if isinstance(given, Mapping) else {}
        self._inner: dict[str, Fields] = {}

    def value(self, name: str) -> Any:
        return self._rest.pop(name, None)

    def text(self, name: str) -> str:
        return self._take(name, str, "")

    def flag(self, name: str) -> bool:
        return self._take(name, bool, empty=False)

    def mapping(self, name: str) -> Mapping[str, Any]:
        return self._take(name, dict, {})

    def items(self, name: str) -> list[Any]:
        return self._take(name, list, [])

    def number(self, name: str) -> float:
        value = self._rest.get(name)
        # A bool is an int to Python, and none here.
        if type(value) is int and abs(value) < _LARGEST_NUMBER:
            self._rest[name] = float(value)
        return self._take(name, float, 0.0)

    def count(self, name: str) -> int:
        number = self.number(name)
        return int(number) if abs(number) < _LARGEST_NUMBER else 0

    def inside(self, name: str) -> Fields:
        """The fields of an object in this one; what is left of them is part of `rest`, under its name."""
        inner = self._inner[name] = Fields(self.mapping(name))
        return inner

    def rest(self) -> dict[str, Any]:
        return self._rest | {name: rest for name, inner in self._inner.items() if (rest := inner.rest())}

    def _take(self, name: str, kind: type[Value], empty: Value) -> Value:
        value = self._rest.get(name)
        if value is None or isinstance(value, kind):
            self._rest.pop(name, None)
        return value if isinstance(value, kind) else empty


def read_json(line: str | bytes) -> object:
    """The value in a line, fit to be stored; None for what is no JSON."""
    try:
        value = json.loads(line.decode(errors="replace") if isinstance(line, bytes) else line)
        return _storable(value)
    except (ValueError, RecursionError):
        return None


def _storable(value: Any) -> Any:
    match value:
        case str():
            return _NO_TEXT.sub("\N{REPLACEMENT CHARACTER}", value)
        case float() if not math.isfinite(value):
            return None
        case dict():
            return {_storable(key): _storable(item) for key, item in value.items()}
        case list():
            return [_storable(item) for item in value]
        case _:
            return value
