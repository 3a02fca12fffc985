"""From what JSON has back to the values that `plain` was given.

Types are checked strictly, so that nothing but the value itself comes out: no number from a string, no 1 from `true`.
Members that this version does not know are passed over: a newer API may say more.
"""

from __future__ import annotations

from collections.abc import Hashable
from functools import cache
from typing import Any, Final, TypeVar, cast

from pydantic import ConfigDict, TypeAdapter, ValidationError

from gsd_tasks.domain.errors import ApiUnavailable

T = TypeVar("T")

_AS_PLAIN_GIVES_IT: Final = ConfigDict(strict=True, val_json_bytes="base64")


def parse(kind: type[T], document: bytes | str) -> T:
    """The value of this kind (a dataclass of the domain, or a list of one) whose JSON this is.

    Raises:
        ApiUnavailable: it is none: something else answers there, or an API of another version.
    """
    whole = document.encode() if isinstance(document, str) else document
    try:
        [value] = _adapter(cast("Hashable", kind)).validate_json(b"[" + whole + b"]")
    except ValidationError as error:
        raise ApiUnavailable(f"the API does not speak this version's language: {_first(kind, error)}") from error
    return value  # type: ignore[no-any-return]


@cache
def _adapter(kind: Hashable) -> TypeAdapter[Any]:
    # A dataclass takes no such settings from outside, but those of what it stands in.
    return TypeAdapter(tuple[kind], config=_AS_PLAIN_GIVES_IT)  # type: ignore[valid-type]


def _first(kind: type[object], error: ValidationError) -> str:
    """Where, and what is wrong; not the value, which may be anything."""
    first = error.errors(include_input=False, include_url=False)[0]
    where = ".".join((getattr(kind, "__name__", str(kind)), *map(str, first["loc"][1:])))
    return f"{where}: {first['msg']}"
