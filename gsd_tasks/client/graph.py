"""What is asked of `enqueue_many`: several of `NewSession`, that may call each other by names."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, cast
from uuid import UUID

from gsd_tasks.client.request import NewSession, several, to_submission
from gsd_tasks.domain.errors import InvalidValue
from gsd_tasks.domain.graph import MOST_ITEMS, Item, Ref
from gsd_tasks.domain.session import DIGITS_OF_ID, SessionId, digits_of_id

Given = str | UUID

#: Each is a query.
MOST_STARTS: Final = 1000

#: What may stand for one of the same call, where an id may stand.
_ORDER: Final = ("parent", "after", "after_any")


class NewGraphSession(NewSession, total=False):
    """As `NewSession`; with `ref`, a name by which others of the same call may call it, as `@name`, in place of an id.

    That is in `parent`, `after` and `after_any`.
    """

    ref: str | None


def to_items(requests: Sequence[Mapping[str, Any]], id_of: Callable[[Given], SessionId]) -> list[Item]:
    """Each request with its defaults filled in. `id_of` turns what may be given for a session into its id.

    Raises:
        InvalidValue: a value that no request can have; `domain.graph.check_graph` sees to the others.
        TypeError: a name that `NewGraphSession` does not have.
    """
    if len(requests) > MOST_ITEMS:
        # Before anything is looked up.
        raise InvalidValue("sessions", f"are more than {MOST_ITEMS} at once: enqueue some of them first")
    known = _Known(id_of)
    return [_to_item(request, known) for request in requests]


@dataclass(slots=True)
class _Known:
    """Looks each up once, however often it is given: not more starts of ids than anybody types, and any whole ones."""

    id_of: Callable[[Given], SessionId]
    ids: dict[Given, SessionId] = field(default_factory=dict)
    starts: int = 0

    def __call__(self, given: Given) -> SessionId:
        key = digits_of_id(given) if isinstance(given, str) else given
        if key not in self.ids:
            self.starts += isinstance(key, str) and len(key) < DIGITS_OF_ID
            if self.starts > MOST_STARTS:
                raise InvalidValue("after", f"names more than {MOST_STARTS} by the start of an id: give whole ids")
            self.ids[key] = self.id_of(given)
        return self.ids[key]


def _to_item(request: Mapping[str, Any], id_of: Callable[[Given], SessionId]) -> Item:
    def one(given: Given) -> SessionId | Ref:
        return Ref(given[1:]) if isinstance(given, str) and given.startswith("@") else id_of(given)

    alone = {name: value for name, value in request.items() if name not in (*_ORDER, "ref")}
    parent = request.get("parent")
    return Item(
        request=to_submission(cast("NewSession", alone), id_of),
        ref=request.get("ref"),
        parent=None if parent is None else one(parent),
        after=tuple(map(one, several("after", request.get("after", ())))),
        after_any=tuple(map(one, several("after_any", request.get("after_any", ())))),
    )
