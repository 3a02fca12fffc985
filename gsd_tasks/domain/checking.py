"""What a value must be to be written and passed on: text, numbers and JSON that Postgres and an `execve` keep."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from gsd_tasks.domain.errors import InvalidValue

DEEPEST_JSON: Final = 100
LARGEST_JSON_BYTES: Final = 1024 * 1024


def check_whole(name: str, value: object, least: int, most: int) -> None:
    """Raise `InvalidValue` unless it is a whole number in this range."""
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise InvalidValue(name, f"{value!r} is not in {least} to {most}")


def check_text(name: str, value: object, largest: int) -> None:
    """Raise `InvalidValue` unless it is a text of at most `largest` bytes, without NUL."""
    if not isinstance(value, str):
        raise InvalidValue(name, f"{value!r} is no text")
    if "\0" in value:
        raise InvalidValue(name, "has a NUL character in it")
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        raise InvalidValue(name, "is no valid text (UTF-8)") from None
    if size > largest:
        raise InvalidValue(name, f"is longer than {largest} bytes")


def check_json(name: str, value: Mapping[str, Any], largest: int = LARGEST_JSON_BYTES) -> None:
    """Raise `InvalidValue` unless it is a JSON object of at most `largest` bytes that can be stored as it is."""
    if not isinstance(value, Mapping):
        raise InvalidValue(name, "is no JSON object")
    try:
        text = json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidValue(name, f"is no JSON object: {error}") from error
    if len(text) > largest:
        raise InvalidValue(name, f"is larger than {largest} bytes")
    _check_inner(name, value, DEEPEST_JSON)


def _check_inner(name: str, value: object, depth: int) -> None:
    """What JSON, and then Postgres, keeps as it is: keys that are text, text without NUL, and no bottomless nesting."""
    if depth == 0:
        raise InvalidValue(name, f"is nested deeper than {DEEPEST_JSON} levels")
    if isinstance(value, str):
        check_text(name, value, LARGEST_JSON_BYTES)
    elif isinstance(value, dict):
        for key, inner in value.items():
            check_text(name, key, LARGEST_JSON_BYTES)
            _check_inner(name, inner, depth - 1)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            _check_inner(name, inner, depth - 1)
