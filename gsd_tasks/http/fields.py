"""The types of what comes in: how each is checked, and what the OpenAPI document says of it.

As much as a schema can say of what `domain.submission` checks. Strict: no 5 from "5", no 1 from true.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, Final

from annotated_types import Ge, GroupedMetadata, Le
from fastapi import Path
from pydantic import AfterValidator, AwareDatetime, BeforeValidator, Field, Strict, StringConstraints, WithJsonSchema

from gsd_tasks.domain.checking import LARGEST_JSON_BYTES
from gsd_tasks.domain.submission import LARGEST_MESSAGE_BYTES, LONGEST_NAME

#: Numbers of rows and entries, as Postgres has them.
MOST: Final = 2**63 - 1
_NO_NUL: Final = r"^[^\u0000]*$"
#: What a conversation can be told: not nothing, nor what would begin another one.
SAYS: Final = r"^(?!\s*/(clear|reset|new)(\s|$))[^\u0000]*\S[^\u0000]*$"
_RFC_3339: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", re.IGNORECASE)
_DIGITS: Final = re.compile(r"-?[0-9]{1,20}")
_FIRST: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LAST: Final = datetime(3000, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Text(GroupedMetadata):
    """Of a `str`: without NUL, and of some length. A schema counts characters, where the domain counts bytes.

    `shown` is what the document says instead of `pattern`, in words that the checker here does not know.
    """

    longest: int
    shortest: int = 0
    pattern: str = _NO_NUL
    shown: str | None = None

    def __iter__(self) -> Iterator[object]:
        """What pydantic takes it for."""
        yield from StringConstraints(
            strict=True, min_length=self.shortest, max_length=self.longest, pattern=self.pattern
        )
        described = {
            "type": "string",
            "minLength": self.shortest,
            "maxLength": self.longest,
            "pattern": self.shown or self.pattern,
        }
        yield WithJsonSchema({name: value for name, value in described.items() if value != 0})


@dataclass(frozen=True, slots=True)
class Number(GroupedMetadata):
    """Of an `int` of a body. 5.0 is one too, as JSON has but one kind of number; "5" and true are none."""

    least: int
    most: int

    def __iter__(self) -> Iterator[object]:
        """What pydantic takes it for."""
        yield from (Strict(), Ge(self.least), Le(self.most), BeforeValidator(_as_whole))


def _is_rfc_3339(value: object) -> object:
    if isinstance(value, str) and not _RFC_3339.fullmatch(value):
        raise ValueError("is no time like 2026-01-31T23:59:59Z: with a time zone, a '+' in a query as %2B")
    if not isinstance(value, (str, datetime)):
        raise ValueError("is no text")  # noqa: TRY004  (pydantic passes other errors on)
    return value


def _is_of_our_time(moment: datetime) -> datetime:
    if not _FIRST <= moment < _LAST:
        raise ValueError("lies before 1970 or after 2999")
    return moment


def _as_whole(value: object) -> object:
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _is_in_digits(value: object) -> object:
    if isinstance(value, str) and not _DIGITS.fullmatch(value):
        raise ValueError("is no whole number")
    return value


#: Of an `int` that is a parameter: digits alone.
IN_DIGITS: Final = BeforeValidator(_is_in_digits)

Moment = Annotated[
    AwareDatetime,
    Field(strict=False),
    BeforeValidator(_is_rfc_3339),
    AfterValidator(_is_of_our_time),
    WithJsonSchema(
        {
            "type": "string",
            "format": "date-time",
            "pattern": "^(19[7-9]|2[0-9]{2})[0-9]-",
            "description": "With its time zone (RFC 3339).",
        }
    ),
]
#: What cannot be an id is looked for like any other, and is not found.
_ID: Final = {"type": "string", "pattern": r"^[0-9a-fA-F][0-9a-fA-F-]{0,35}$"}
Id = Annotated[
    str,
    Field(strict=True, max_length=100),
    WithJsonSchema(_ID | {"description": "A session's id, or an unambiguous start of it."}),
]
IdOrRef = Annotated[
    str,
    Field(strict=True, max_length=101),
    WithJsonSchema(
        {"type": "string", "pattern": r"^(@[A-Za-z0-9][A-Za-z0-9_.-]{0,99}|[0-9a-fA-F][0-9a-fA-F-]{0,35})$"}
    ),
]
SessionPath = Annotated[str, Path(description="The session's id, or an unambiguous start of it."), WithJsonSchema(_ID)]
Name = Annotated[str, Text(LONGEST_NAME, shortest=1)]
Said = Annotated[str, Text(LARGEST_MESSAGE_BYTES, shortest=1, shown=SAYS)]
Object = Annotated[
    dict[str, Any], Field(description=f"A JSON object of at most {LARGEST_JSON_BYTES} bytes, 100 levels deep.")
]
