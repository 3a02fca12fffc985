"""What all tables are made with."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Any

from sqlalchemy import ColumnElement, Double, MetaData, cast, func
from sqlalchemy.dialects.postgresql import TIMESTAMP
from sqlalchemy.types import UserDefinedType

from gsd_tasks.domain.state import FINAL

if TYPE_CHECKING:
    from collections.abc import Iterable


class Xid8(UserDefinedType[str]):
    """Postgres's 64-bit transaction id; it travels as text."""

    cache_ok = True

    def get_col_spec(self, **_: Any) -> str:
        return "xid8"


def among(column: str, values: Iterable[StrEnum]) -> str:
    """The condition that the column has one of these values."""
    return f"{column} IN ({', '.join(repr(value.value) for value in values)})"


MOMENT = TIMESTAMP(timezone=True)
#: The time itself, not that of the transaction's beginning.
NOW = func.clock_timestamp(type_=MOMENT)


def interval(seconds: float | ColumnElement[float]) -> ColumnElement[Any]:
    """So many seconds, to be added to a moment."""
    return func.make_interval(0, 0, 0, 0, 0, 0, seconds)


def in_seconds(span: ColumnElement[Any]) -> ColumnElement[float]:
    """How long an interval is."""
    return cast(func.extract("epoch", span), Double)


FINAL_LIST = ", ".join(repr(status.value) for status in sorted(FINAL))

metadata = MetaData(
    naming_convention={
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "pk": "pk_%(table_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    }
)
