from __future__ import annotations

from collections.abc import Callable
from uuid import uuid4

from gsd_tasks.domain.session import Holder, SessionId
from gsd_tasks.process.spool.owner import Owner
from gsd_tasks.service.node import Node
from gsd_tasks.store import Database, transitions


def test_what_is_left_of_attempts_that_are_over_is_removed_and_nothing_else(
    node: Node, database: Database, enqueue: Callable[..., SessionId]
) -> None:
    """A spool without a lock, a lock without a spool, and an empty folder: a worker may die between any two steps."""
    node._janitor.stop()
    owned, spool, lock, empty = (SessionId(uuid4()) for _ in range(4))
    held = enqueue("true")
    with database.connection() as connection:
        assert transitions.claim(connection, held, holder=Holder(uuid4()), worker_id=node.id, slot=1, lease_s=30)
    for session_id in (held, owned, spool):
        node.spools.of(session_id, 1).folder.mkdir(parents=True)
    for session_id in (lock, empty):
        node.spools.of(session_id, 1).folder.parent.mkdir()
    owner = Owner.take(node.spools.of(owned, 1).folder)
    former = Owner.take(node.spools.of(lock, 1).folder)
    assert owner is not None
    assert former is not None
    former.let_go()

    node.spools.clear(database)

    left = {path.name for path in node.spools.of(held, 1).folder.parent.parent.iterdir()}
    assert left == {str(held), str(owned)}
