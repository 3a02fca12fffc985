"""Many narrow rows as one value: a word each.

A row of thousands costs its reader some ten times as much by itself as as a word in a text. So what is looked at all
together every few seconds, to find the few that matter, comes as one text.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import func, select

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement, Connection, Select

_BETWEEN: Final = ","


def word(*parts: ColumnElement[Any]) -> ColumnElement[str]:
    """A row's: its parts, none of which has a comma or a blank in it, with a blank between them."""
    return func.concat_ws(" ", *parts)


def listing(*parts: ColumnElement[Any]) -> Select[str | None]:
    """The words of all rows; `where` says which."""
    return select(func.string_agg(word(*parts), _BETWEEN))


def read(connection: Connection, listing: Select[str | None]) -> list[str]:
    """These words, in any order."""
    text = connection.execute(listing).scalar_one()
    return text.split(_BETWEEN) if text else []
