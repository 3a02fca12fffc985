"""Reading a body: JSON as the standard has it, and none of what Python's reader lets through besides."""

from __future__ import annotations

import json
import math
from typing import Any, Final, NoReturn

from gsd_tasks.domain.transcript import is_modest

#: More digits than any number of ours has, and few enough to be read at once.
MOST_DIGITS: Final = 400


def read_body(body: bytes) -> Any:
    """What the JSON says.

    Raises:
        json.JSONDecodeError: it is no JSON, or one that means different things to different readers: a name twice in an
            object, NaN, a number beyond all bounds. Or it is a heap of tiny values, or a bottomless pit.
    """
    try:
        text = body.decode("utf-8")
        if not is_modest(text):
            _refuse("it has too many values")
        return json.loads(
            text, object_pairs_hook=_unique, parse_constant=_refuse_constant, parse_float=_finite, parse_int=_bounded
        )
    except UnicodeDecodeError:
        _refuse("it is not UTF-8")
    except RecursionError:
        _refuse("it is nested too deeply")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        _refuse("an object has a name twice")
    return found


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        _refuse("a number is too large")
    return value


def _bounded(text: str) -> int:
    if len(text) > MOST_DIGITS:
        _refuse("a number has too many digits")
    return int(text)


def _refuse_constant(name: str) -> NoReturn:
    _refuse(f"{name} is no number")


def _refuse(why: str) -> NoReturn:
    raise json.JSONDecodeError(why, "", 0)
