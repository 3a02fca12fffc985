"""Sessions that belong together, as a tree: by whose child each is, and by what it is to follow.

They need not make up one: a session may follow several. Each stands in it once, as near to the root as it can.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from gsd_tasks.domain.session import Session, SessionId

#: Of a larger tree the part that is nearest to the root is shown.
MOST_SESSIONS: Final = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Branch:
    """A session and its place: `depth` below the root (0), and `under` which session."""

    session: Session
    depth: int
    under: SessionId | None


@dataclass(frozen=True, slots=True)
class Kin:
    """Whose child a session is, and which it is to follow."""

    id: SessionId
    parent_id: SessionId | None = None
    befores: tuple[SessionId, ...] = ()


@dataclass(frozen=True, slots=True)
class Place:
    """Where a session stands."""

    id: SessionId
    depth: int = 0
    under: SessionId | None = None


def find_root(wanted: SessionId, kin: Mapping[SessionId, Kin]) -> SessionId:
    """From parent to parent; from who has none, to the first one that it is to follow; as far as that leads.

    `kin` are those that can be reached in this way. It may lead in a circle, where a parent is to follow its children:
    then whoever has no parent in it is the root.
    """
    root, at, seen = wanted, wanted, {wanted}
    while True:
        own = kin[at]
        if own.parent_id is None:
            root = at
        onward = sorted(own.befores) if own.parent_id is None else [own.parent_id]
        following = next((id_ for id_ in onward if id_ in kin and id_ not in seen), None)
        if following is None:
            return root
        seen.add(following)
        at = following


def lay_out(root: SessionId, kin: Iterable[Kin]) -> list[Place]:
    """Where each one below the root stands, in the order in which a tree is read: below its parent, or what it follows.

    Those at one place are in the order of their ids, which is that of time.
    """
    following: dict[SessionId, list[SessionId]] = {}
    for one in sorted(kin, key=lambda one: one.id):
        for before in {one.parent_id, *one.befores}:
            if before is not None:
                following.setdefault(before, []).append(one.id)
    places, nearest = {root: Place(root)}, deque([root])
    below: dict[SessionId, list[SessionId]] = {}
    while nearest:
        at = nearest.popleft()
        for id_ in following.get(at, ()):
            if id_ not in places:
                places[id_] = Place(id_, places[at].depth + 1, at)
                below.setdefault(at, []).append(id_)
                nearest.append(id_)
    read, waiting = [], [root]
    while waiting:
        at = waiting.pop()
        read.append(places[at])
        waiting += reversed(below.get(at, ()))
    return read
