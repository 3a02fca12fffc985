"""Many narrow rows as one value: a word each.

A row of thousands costs its reader some ten times as much by itself as as a word in a text. So what is looked at all
together every few seconds, to find the few that matter, comes as one text.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import ARRAY, Text, any_, func, literal, select

if TYPE_CHECKING:
    from collections.abc import Collection

    from sqlalchemy import ColumnElement, Connection, Select

_BLANK: Final = " "
_BETWEEN: Final = ","
_WITHIN: Final = ":"


def word(*parts: ColumnElement[Any]) -> ColumnElement[str]:
    """A row's: its parts, none of which has a comma, a colon or a blank in it, with a blank between them."""
    return func.concat_ws(_BLANK, *parts)


def of(*parts: object) -> str:
    """The same word, of the parts' values."""
    return _BLANK.join(map(str, parts))


def pair(name: ColumnElement[str], value: ColumnElement[str]) -> ColumnElement[str]:
    """Two words of a row as one, for `read_pairs`."""
    return func.concat_ws(_WITHIN, name, value)


def listing(word: ColumnElement[str]) -> Select[str | None]:
    """The words of all rows; `where` says which."""
    return select(func.string_agg(word, _BETWEEN))


def is_among(word: ColumnElement[str], those: Collection[str]) -> ColumnElement[bool]:
    """Whether a row's word is one of these."""
    return word == any_(literal(list(those), ARRAY(Text)))


def read(connection: Connection, listing: Select[str | None]) -> list[str]:
    """These words, in any order."""
    text = connection.execute(listing).scalar_one()
    return text.split(_BETWEEN) if text else []


def read_pairs(connection: Connection, listing: Select[str | None]) -> dict[str, str]:
    """The values by their names."""
    return dict(pair.split(_WITHIN) for pair in read(connection, listing))
