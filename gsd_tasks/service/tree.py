"""The tree of sessions that one belongs to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gsd_tasks.domain.tree import MOST_SESSIONS, Branch, find_root, lay_out
from gsd_tasks.service.control import find
from gsd_tasks.store import kin, sessions

if TYPE_CHECKING:
    from uuid import UUID

    from gsd_tasks.store import Database


def tree(database: Database, wanted: str | UUID) -> list[Branch]:
    """All that is below the root that it belongs to, the root first, in the order in which a tree is read.

    Raises:
        NoSuchSession, AmbiguousId
    """
    # Of one instant: what is deleted meanwhile would tear it.
    with database.transaction("REPEATABLE READ") as connection:
        session_id = find(connection, wanted).id
        above = kin.of(connection, kin.above(connection, session_id, limit=MOST_SESSIONS))
        root = find_root(session_id, {one.id: one for one in above})
        places = lay_out(root, kin.of(connection, kin.below(connection, root, limit=MOST_SESSIONS)))
        there_are = sessions.several(connection, [place.id for place in places])
    return [Branch(session=there_are[place.id], depth=place.depth, under=place.under) for place in places]
