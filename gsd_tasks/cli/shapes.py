"""What `--json` prints: the values of `domain.session` by their own field names, which stay as they are."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime
from enum import Enum
from typing import Any
from uuid import UUID

from gsd_tasks.domain.sanitize import visible_json


def print_json(value: object) -> None:
    """One document on one line, in ASCII: times as ISO 8601 in UTC, bytes as base64."""
    print(visible_json(plain(value)))


def plain(value: object) -> Any:
    """`value` in what JSON has."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(inner) for inner in value]
    return _plain_leaf(value)


def _plain_leaf(value: object) -> Any:
    match value:
        case Enum():
            return value.value
        case UUID():
            return str(value)
        case datetime():
            return value.astimezone(UTC).isoformat()
        case bytes():
            return base64.b64encode(value).decode()
        case _:
            return value
