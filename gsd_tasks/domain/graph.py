"""Sessions that are enqueued all at once, and that refer to each other before any of them has an id.

An item has a name (`ref`), by which others of the same call may call it where an id may stand: `@name`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from gsd_tasks.domain.errors import InvalidValue
from gsd_tasks.domain.session import SessionId, Submission
from gsd_tasks.domain.submission import check_order, digest, validate

MOST_ITEMS: Final = 10_000
NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
#: Of a circle so many names are told.
_TOLD: Final = 10


class Ref(str):
    """The name of an item, without its `@`."""

    __slots__ = ()

    def __str__(self) -> str:
        return f"@{super().__str__()}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """A session to be: `request` without parent, `after` and `after_any`, which stand here, as they were given."""

    request: Submission
    ref: str | None = None
    parent: SessionId | Ref | None = None
    after: tuple[SessionId | Ref, ...] = ()
    after_any: tuple[SessionId | Ref, ...] = ()


def check_graph(items: Sequence[Item]) -> None:
    """Raise `InvalidValue` unless all of these can be enqueued, each once."""
    if len(items) > MOST_ITEMS:
        raise InvalidValue("sessions", f"are more than {MOST_ITEMS} at once: enqueue some of them first")
    positions = _positions(items)
    _check_keys(items)
    for number, item in enumerate(items, 1):
        try:
            validate(item.request)
            check_order(item.after, item.after_any)
        except InvalidValue as error:
            raise InvalidValue(error.field, f"{error.problem} (of {_name(number, item)})") from error
        for name in _refs(item):
            if name not in positions:
                raise InvalidValue(
                    "ref", f"{_name(number, item)} names {name}, which no session of this call is called"
                )
    _check_circles("after", [[positions[name] for name in _awaited(item)] for item in items], items)
    _check_circles(
        "parent", [[positions[item.parent]] if isinstance(item.parent, Ref) else [] for item in items], items
    )


def parents_first(items: Sequence[Item]) -> list[int]:
    """The positions of all items, each after its parent's: of items that were checked."""
    positions = _positions(items)
    order: dict[int, None] = {}
    for position in range(len(items)):
        way = [position]
        while isinstance(parent := items[way[-1]].parent, Ref) and positions[parent] not in order:
            way.append(positions[parent])
        order |= dict.fromkeys(reversed(way))
    return list(order)


def mark(item: Item) -> bytes:
    """What two items with one idempotency key must have in common: everything, with the names as they were given."""
    if not _refers(item):
        return digest(item.request)
    asked: dict[str, Any] = {
        "parent_id": item.parent and str(item.parent),
        "after": tuple(map(str, item.after)),
        "after_any": tuple(map(str, item.after_any)),
    }
    return digest(replace(item.request, **asked))


def fill_in(item: Item, ids: Mapping[str, SessionId]) -> Submission:
    """The request, with the ids of those that it calls by name."""
    if not _refers(item):
        return item.request

    def id_of(given: SessionId | Ref) -> SessionId:
        return ids[given] if isinstance(given, Ref) else given

    return replace(
        item.request,
        parent_id=None if item.parent is None else id_of(item.parent),
        after=tuple(map(id_of, item.after)),
        after_any=tuple(map(id_of, item.after_any)),
    )


def _positions(items: Sequence[Item]) -> dict[str, int]:
    positions: dict[str, int] = {}
    for position, item in enumerate(items):
        if item.ref is None:
            continue
        if not NAME.fullmatch(item.ref):
            raise InvalidValue("ref", f"{item.ref!r}: letters, digits, '_', '.' and '-' alone, at most 100")
        if item.ref in positions:
            raise InvalidValue("ref", f"{item.ref!r} is the name of two: of number {positions[item.ref] + 1}, too")
        positions[item.ref] = position
    return positions


def _check_keys(items: Sequence[Item]) -> None:
    seen: set[str] = set()
    for item in items:
        if item.request.key is not None and item.request.key in seen:
            raise InvalidValue("key", f"{item.request.key!r} is given to two of them: a key is one session's")
        seen.add(item.request.key or "")


def _refers(item: Item) -> bool:
    return item.parent is not None or bool(item.after or item.after_any)


def _refs(item: Item) -> list[Ref]:
    return [*_awaited(item), *([item.parent] if isinstance(item.parent, Ref) else [])]


def _awaited(item: Item) -> list[Ref]:
    return [given for given in (*item.after, *item.after_any) if isinstance(given, Ref)]


def _check_circles(field: str, edges: Sequence[Sequence[int]], items: Sequence[Item]) -> None:
    """Take away again and again what leads to nothing any more: what is left then leads in circles."""
    backward: list[list[int]] = [[] for _ in edges]
    for start, ends in enumerate(edges):
        for end in ends:
            backward[end].append(start)
    left = [len(ends) for ends in edges]
    free = [position for position, number in enumerate(left) if not number]
    while free:
        for start in backward[free.pop()]:
            left[start] -= 1
            if not left[start]:
                free.append(start)
    inside = next((position for position, number in enumerate(left) if number), None)
    if inside is not None:
        circle = _circle(inside, [[end for end in ends if left[end]] for ends in edges])
        names = [_name(position + 1, items[position]) for position in circle]
        told = names if len(names) <= _TOLD else [*names[: _TOLD - 1], "...", names[-1]]
        raise InvalidValue(field, f"leads in a circle: {' -> '.join(told)}")


def _circle(start: int, edges: Sequence[Sequence[int]]) -> list[int]:
    """One that is reached from there, where each leads on: the first one stands at its end again."""
    way, at = {start: None}, start
    while (at := edges[at][0]) not in way:
        way[at] = None
    passed = list(way)
    return [*passed[passed.index(at) :], at]


def _name(number: int, item: Item) -> str:
    return f"@{item.ref}" if item.ref is not None else f"number {number}"
