"""Workers and shims of different versions, as they meet during an upgrade, and after going back."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from gsd_tasks.domain.session import Holder, Session, SessionId
from gsd_tasks.domain.state import Reason, Status
from gsd_tasks.process import contain
from gsd_tasks.process import link as linking
from gsd_tasks.process.contain import kill_shim, marked_processes, shim_is_alive, sweep_marker
from gsd_tasks.process.foreign import why_foreign
from gsd_tasks.process.launch import Launched, LaunchSpec, launch
from gsd_tasks.process.link import ShimLink
from gsd_tasks.process.shim.protocol import PROTOCOL
from gsd_tasks.process.spool.owner import Owner
from gsd_tasks.service import adopt, control
from gsd_tasks.service.attempt import run_session
from gsd_tasks.service.lease import boot_clock_s
from gsd_tasks.service.node import Node
from gsd_tasks.service.spools import Spool
from gsd_tasks.store import Database, leases, outputs, transitions
from tests.other_shims import OtherShim
from tests.waiting import BOUND_S, until

Enqueue = Callable[..., SessionId]
Now = Callable[[SessionId], Session]
Begin = Callable[..., Spool]

UNTIL_TOLD = "i=0; until [ -e gate ] && [ $i -ge 5 ]; do i=$((i+1)); echo $i; sleep 0.02; done; echo end"
FAMILIAR = pytest.mark.parametrize("kind", [OtherShim.BEFORE, OtherShim.NEXT], ids=lambda kind: kind.name)


@pytest.fixture
def begin(
    node: Node, database: Database, enqueue: Enqueue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Begin]:
    """A session that a worker of another version has begun, which is gone by now."""
    monkeypatch.setattr(linking, "TIMEOUT_S", BOUND_S)
    begun: list[tuple[Spool, Launched]] = []

    def begin(kind: OtherShim, script: str) -> Spool:
        session_id = enqueue("sh", "-c", script)
        with database.connection() as connection:
            claimed = transitions.claim(
                connection, session_id, holder=Holder(uuid4()), worker_id=node.id, slot=1, lease_s=30
            )
            assert claimed is not None
            assert leases.mark_launching(connection, claimed)
        spool = node.spools.of(session_id, 1)
        spool.folder.parent.mkdir(parents=True)
        with monkeypatch.context() as patched:
            patched.setattr(contain, "_ENTRY", kind.entry(tmp_path))
            launched = launch(spool.folder, spec(session_id, script, tmp_path), timeout_s=30)
        assert isinstance(launched, Launched), launched
        begun.append((spool, launched))
        return spool

    yield begin
    for spool, launched in begun:
        if shim_is_alive(spool.folder):
            kill_shim(spool.folder)
        launched.shim.wait(BOUND_S)
        sweep_marker(str(spool.session_id), spool.attempt)


def spec(session_id: SessionId, script: str, folder: Path) -> LaunchSpec:
    return LaunchSpec(
        session_id=str(session_id),
        attempt=1,
        argv=("sh", "-c", script),
        env={"PATH": os.environ["PATH"]},
        cwd=str(folder),
        stdin=None,
        timeout_s=600,
        idle_timeout_s=600,
        max_output_bytes=2**30,
        grace_s=1,
        freeze_bound_s=600,
        interrupt_first=False,
        containment=contain.probe(),
        deadline_boot_s=boot_clock_s() + 600,
    )


@FAMILIAR
def test_what_a_shim_of_the_protocol_before_or_after_runs_is_adopted_and_goes_on(
    kind: OtherShim, begin: Begin, node: Node, now: Now, database: Database, tmp_path: Path
) -> None:
    spool = begin(kind, UNTIL_TOLD)
    assert ShimLink(spool.folder).status().protocol == (1 if kind is OtherShim.BEFORE else PROTOCOL + 1)

    assert adopt.find(node) == [spool.session_id]
    slot = threading.Thread(target=run_session, args=(node, spool.session_id))
    slot.start()
    # Its deadlines come from here now; a child that was told none would run to that of its beginning.
    until(
        lambda: ShimLink(spool.folder).status().deadline_boot_s < boot_clock_s() + 60,
        what="a deadline of this worker's",
    )
    (tmp_path / "gate").touch()
    slot.join(BOUND_S)

    session = now(spool.session_id)
    assert (session.status, session.attempt) == (Status.COMPLETED, 1)
    with database.connection() as connection:
        *numbers, end = [row.as_text() for row in outputs.read(connection, session.id, limit=100_000)]
    assert (numbers, end) == ([str(number) for number in range(1, len(numbers) + 1)], "end")
    assert not spool.folder.parent.exists()


@FAMILIAR
def test_what_it_runs_is_ended_when_it_is_cancelled(
    kind: OtherShim, begin: Begin, node: Node, now: Now, database: Database
) -> None:
    spool = begin(kind, "exec sleep 600")
    assert adopt.find(node) == [spool.session_id]
    control.cancel(database, spool.session_id)
    run_session(node, spool.session_id)

    assert now(spool.session_id).status is Status.CANCELLED
    assert not is_marked(spool)


def test_a_shim_that_nobody_here_understands_is_left_alone_as_long_as_its_attempt_may_go_on(
    begin: Begin, node: Node, database: Database, now: Now
) -> None:
    """A worker of its version may come and take it. When it is over, by a lease that ran out, nothing of it is left."""
    spool = begin(OtherShim.STRANGE, "exec sleep 600")

    assert adopt.find(node) == []
    node.spools.clear(database)
    assert shim_is_alive(spool.folder)
    assert is_marked(spool)
    assert now(spool.session_id).status is Status.RUNNING
    owner = Owner.take(spool.folder)
    assert owner is not None
    owner.let_go()

    with database.connection() as connection:
        transitions.recover(connection, leases.all_held(connection))
    assert (now(spool.session_id).status, now(spool.session_id).reason) == (Status.FAILED, Reason.LEASE_LOST)
    node.spools.clear(database)
    assert not is_marked(spool)
    assert not spool.folder.parent.exists()


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({"protocol": PROTOCOL, "readers_since": PROTOCOL}, None),
        ({"protocol": PROTOCOL + 7, "readers_since": PROTOCOL}, None),
        ({"protocol": PROTOCOL + 7, "readers_since": PROTOCOL + 1}, "newer version"),
        ({"protocol": PROTOCOL - 1, "readers_since": 1}, None),
        ({"protocol": PROTOCOL - 2, "readers_since": 0}, "older version"),
        ({"pid": 1, "started": 1, "boot_id": "before it was said"}, None),
        ([], None),
    ],
)
def test_a_lock_says_whether_a_worker_of_today_can_go_on(tmp_path: Path, said: object, why: str | None) -> None:
    (tmp_path / "shim.lock").write_text(json.dumps(said))
    problem = why_foreign(tmp_path)
    assert problem is None if why is None else problem is not None and why in problem


def test_where_no_shim_began_there_is_none_of_another_version(tmp_path: Path) -> None:
    assert why_foreign(tmp_path) is None
    (tmp_path / "shim.lock").touch()
    assert why_foreign(tmp_path) is None


def is_marked(spool: Spool) -> bool:
    return any(one.session_id == str(spool.session_id) for one in marked_processes())
