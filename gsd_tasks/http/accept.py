"""Which form of an answer a client wants (RFC 9110, section 12.5.1)."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from starlette.exceptions import HTTPException

if TYPE_CHECKING:
    from collections.abc import Sequence


def choose(accept: str | None, offered: Sequence[str]) -> str:
    """The one of `offered` that is wanted most; of equals the first one. Without a wish, the first one.

    Raises:
        HTTPException: 406, where none of them is wanted.
    """
    if accept is None or not accept.strip():
        return offered[0]
    wishes = [_wish(part) for part in accept.split(",")]
    best = max(offered, key=lambda kind: _weight(kind, wishes))
    if _weight(best, wishes) <= 0:
        raise HTTPException(HTTPStatus.NOT_ACCEPTABLE, f"this is to be had as {' or '.join(offered)} alone")
    return best


def _wish(part: str) -> tuple[str, float]:
    kind, *parameters = (piece.strip().lower() for piece in part.split(";"))
    weight = next((value.removeprefix("q=") for value in parameters if value.startswith("q=")), "1")
    try:
        return kind, float(weight)
    except ValueError:
        return kind, 1.0


def _weight(kind: str, wishes: Sequence[tuple[str, float]]) -> float:
    """What the most specific wish says that fits."""
    family = kind.partition("/")[0]
    for fitting in (kind, f"{family}/*", "*/*"):
        said = [weight for wished, weight in wishes if wished == fitting]
        if said:
            return max(said)
    return 0.0
