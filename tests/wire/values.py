"""Values of any type of the domain, generated."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from datetime import datetime, timedelta, timezone
from enum import Enum
from types import NoneType, UnionType
from typing import Any, NewType, Union, get_args, get_origin, get_type_hints
from uuid import UUID

from hypothesis import strategies as st

_FLOATS = st.floats(allow_nan=False, allow_infinity=False)
_ZONES = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
_LEAVES: dict[object, st.SearchStrategy[Any]] = {
    str: st.text(max_size=8),
    int: st.integers(),
    float: _FLOATS,
    bool: st.booleans(),
    bytes: st.binary(max_size=12),
    UUID: st.uuids(),
    NoneType: st.none(),
    datetime: st.datetimes(datetime(1970, 1, 3), datetime(9990, 1, 1), timezones=_ZONES),  # noqa: DTZ001  (they get one)
    Any: st.recursive(
        st.none() | st.booleans() | st.integers() | _FLOATS | st.text(max_size=8),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
        max_leaves=5,
    ),
}


def values(kind: Any) -> st.SearchStrategy[Any]:
    """Values of this type, whatever the domain makes its types of."""
    if kind in _LEAVES:
        return _LEAVES[kind]
    if isinstance(kind, NewType):
        return values(kind.__supertype__)
    if isinstance(kind, type) and issubclass(kind, Enum):
        return st.sampled_from(kind)
    if isinstance(kind, type) and is_dataclass(kind):
        hints = get_type_hints(kind)
        return st.builds(kind, **{field.name: values(hints[field.name]) for field in fields(kind)})
    return _GENERICS[get_origin(kind)](*get_args(kind))


def _tuples(*kinds: Any) -> st.SearchStrategy[Any]:
    if kinds[-1] is Ellipsis:
        return st.lists(values(kinds[0]), max_size=3).map(tuple)
    return st.tuples(*map(values, kinds))


def _mappings(key: Any, value: Any) -> st.SearchStrategy[Any]:
    return st.dictionaries(values(key), values(value), max_size=3)


def _either(*kinds: Any) -> st.SearchStrategy[Any]:
    return st.one_of(*map(values, kinds))


_GENERICS: dict[Any, Callable[..., st.SearchStrategy[Any]]] = {
    tuple: _tuples,
    Mapping: _mappings,
    Union: _either,
    UnionType: _either,
}
