"""What an adopter may find: every step at which the former worker may have ended, and what does not belong there."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from gsd_tasks.domain.errors import DatabaseUnavailable
from gsd_tasks.domain.session import Holder, Session, SessionId
from gsd_tasks.domain.state import Reason, Status
from gsd_tasks.process.contain import marked_processes
from gsd_tasks.process.spool.owner import Owner
from gsd_tasks.service import adopt
from gsd_tasks.service.attempt import run_session
from gsd_tasks.service.node import Node
from gsd_tasks.settings import Drain, Settings
from gsd_tasks.store import Claim, Database, adoption, leases, transitions
from tests.service.messages import unsaid
from tests.waiting import BOUND_S, until

Enqueue = Callable[..., SessionId]
Now = Callable[[SessionId], Session]
StartNode = Callable[..., Node]


@pytest.fixture
def start_node(settings: Settings, database_url: str, redis_url: str) -> Iterator[StartNode]:
    """Starts workers of this host that hand over; each is stopped in the end."""
    nodes: list[Node] = []

    def start(**changes: object) -> Node:
        changed = settings.model_copy(update={"drain": Drain.HANDOVER, **changes})
        nodes.append(
            Node(changed, database_url=database_url, redis_url=redis_url, publish=unsaid, name="gsd@here", slots=1)
        )
        nodes[-1].start()
        return nodes[-1]

    yield start
    for node in nodes:
        node.stop()


@pytest.fixture
def claim(database: Database, node: Node) -> Callable[[SessionId], Claim]:
    """As a worker claims that is about to die."""

    def claim(session_id: SessionId) -> Claim:
        with database.connection() as connection:
            claimed = transitions.claim(
                connection, session_id, holder=Holder(uuid4()), worker_id=node.id, slot=1, lease_s=30
            )
        assert claimed is not None
        return claimed

    return claim


def test_what_was_never_launched_is_queued_again_and_costs_nothing(
    node: Node, enqueue: Enqueue, now: Now, claim: Callable[[SessionId], Claim]
) -> None:
    session_id = enqueue("true")
    claim(session_id)
    _take_and_die(node.spools.of(session_id, 1).folder)

    assert adopt.find(node) == [session_id]
    run_session(node, session_id)
    session = now(session_id)
    assert (session.status, session.tries, session.recoveries) == (Status.QUEUED, 0, 0)


def test_a_worker_that_stops_before_its_launch_is_known_costs_nothing(
    start_node: StartNode, enqueue: Enqueue, now: Now, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The database is away as it is about to launch, and then it is told to stop."""
    former = start_node()

    def away(*_: object) -> Any:
        former.stop_claiming()
        raise DatabaseUnavailable("away")

    session_id = enqueue("true")
    with monkeypatch.context() as patched:
        patched.setattr(leases, "mark_launching", away)
        assert run_session(former, session_id) is None
    following = start_node()
    assert adopt.find(following) == [session_id]
    run_session(following, session_id)
    assert now(session_id).status is Status.QUEUED


@pytest.mark.parametrize("text", ["[]", "{}", '{"ended_by": "newer_reason"}', '{"ended_by": null}', "garbage", ""])
def test_an_exit_record_that_nobody_understands_is_none(
    node: Node, database: Database, enqueue: Enqueue, now: Now, claim: Callable[[SessionId], Claim], text: str
) -> None:
    """It ends the session, and leaves neither a lock nor a slot taken."""
    session_id = enqueue("true")
    claimed = claim(session_id)
    with database.connection() as connection:
        assert leases.mark_launching(connection, claimed)
    folder = node.spools.of(session_id, 1).folder
    folder.mkdir(parents=True)
    (folder / "exit.json").write_text(text)
    _take_and_die(folder)

    assert adopt.find(node) == [session_id]
    run_session(node, session_id)
    assert now(session_id).reason is Reason.CHILD_LOST
    assert not folder.parent.exists()
    following = enqueue("true")
    run_session(node, following)
    assert now(following).status is Status.COMPLETED


def test_a_spool_of_the_same_attempt_of_a_former_life_is_cleared_away(node: Node, enqueue: Enqueue, now: Now) -> None:
    """A database that was restored from a backup counts its attempts once more."""
    session_id = enqueue("true")
    folder = node.spools.of(session_id, 1).folder
    folder.mkdir(parents=True)
    (folder / "000001.seg").write_bytes(b"of another life")

    run_session(node, session_id)
    assert now(session_id).status is Status.COMPLETED


def test_a_spool_that_another_worker_is_at_is_not_written_to(node: Node, enqueue: Enqueue, now: Now) -> None:
    session_id = enqueue("true")
    folder = node.spools.of(session_id, 1).folder
    other = Owner.take(folder)
    assert other is not None

    run_session(node, session_id)
    assert (now(session_id).status, now(session_id).reason) == (Status.QUEUED, Reason.SPOOL_FAILED)
    other.let_go()


def test_a_fault_while_adopting_leaves_the_spool_to_others(
    node: Node, enqueue: Enqueue, claim: Callable[[SessionId], Claim], monkeypatch: pytest.MonkeyPatch
) -> None:
    session_id = enqueue("true")
    claim(session_id)
    folder = node.spools.of(session_id, 1).folder
    _take_and_die(folder)
    adopt.find(node)

    def breaks(*_: object, **__: object) -> Any:
        raise RuntimeError("a bug")

    monkeypatch.setattr(adoption, "adopt", breaks)
    with pytest.raises(RuntimeError):
        run_session(node, session_id)
    assert Owner.take(folder) is not None


def test_a_state_folder_that_was_removed_is_made_anew(node: Node, enqueue: Enqueue, now: Now, tmp_path: Path) -> None:
    # At once, as the node gives signs of life in it.
    node.settings.state_dir.rename(tmp_path / "removed")
    session_id = enqueue("true")
    run_session(node, session_id)
    assert now(session_id).status is Status.COMPLETED


def test_a_lease_that_was_lost_is_not_handed_over(
    start_node: StartNode, enqueue: Enqueue, now: Now, database: Database
) -> None:
    """The worker has not heard of it as it is told to stop: it asks, and ends the child."""
    node = start_node(heartbeat_s=15)
    session_id = enqueue("sleep", "600")
    slot = threading.Thread(target=run_session, args=(node, session_id))
    slot.start()
    until(lambda: _marked(session_id))
    until((node.spools.of(session_id, 1).folder / "control.sock").exists)
    with database.connection() as connection:
        transitions.recover(connection, leases.all_held(connection))
    node.stop_claiming()
    slot.join(BOUND_S)

    assert not slot.is_alive()
    assert now(session_id).status is Status.FAILED
    assert not _marked(session_id)
    assert not node.spools.of(session_id, 1).folder.parent.exists()


def test_who_was_asked_to_finish_hands_nothing_over_when_told_to_stop_again(start_node: StartNode) -> None:
    node = start_node(drain_s=60)
    node.stop_claiming(finish=True)
    node.stop_claiming()
    assert not node.is_handing_over


def test_a_spool_that_cannot_be_opened_keeps_nobody_from_the_others(
    node: Node, database: Database, enqueue: Enqueue, claim: Callable[[SessionId], Claim]
) -> None:
    """Another user's, for instance; here links that lead nowhere, which root cannot follow either."""
    ours, shut = enqueue("true"), enqueue("true")
    claim(ours)
    base = node.spools.of(ours, 1).folder.parent.parent
    (base / str(uuid4())).symlink_to("loop")
    (base / "loop").symlink_to("loop")
    over = node.spools.of(SessionId(uuid4()), 1).folder
    for folder in (over, node.spools.of(shut, 1).folder):
        folder.mkdir(parents=True)
        folder.with_name("1.owner").symlink_to("1.owner")
    _take_and_die(node.spools.of(ours, 1).folder)

    assert adopt.find(node) == [ours]
    node.spools.clear(database)
    assert over.exists()


def _take_and_die(folder: Path) -> None:
    owner = Owner.take(folder)
    assert owner is not None
    owner.let_go()


def _marked(session_id: SessionId) -> bool:
    return any(marked.session_id == str(session_id) for marked in marked_processes())
