"""Ids, as statements speak of them: they are ordered by the time that they begin with (UUIDv7)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from sqlalchemy import ARRAY, Uuid, any_, literal

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy import ColumnElement

#: How far a producer's clock, by which ids are made, may be from the database's.
SKEW: Final = timedelta(days=1)


def first_id(moment: datetime) -> UUID:
    """The lowest UUIDv7 of that millisecond (RFC 9562)."""
    since_epoch_ms = (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
    return UUID(int=max(0, min(since_epoch_ms, 2**48 - 1)) << 80)


def any_id(ids: Iterable[UUID]) -> ColumnElement[Any]:
    """What an id is held against that is to be one of these: a single value, however many they are."""
    return any_(literal(list(ids), ARRAY(Uuid)))
