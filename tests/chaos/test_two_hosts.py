"""Two machines, each with its own disk, network and worker of three slots; one of them is cut off, and comes back."""

from __future__ import annotations

import os
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from uuid import UUID

import psycopg
import pytest

from gsd_tasks.client import Client
from gsd_tasks.domain.session import SLOTS, SessionId
from gsd_tasks.domain.state import Reason, Status
from gsd_tasks.process.contain import marked_processes
from tests.chaos import child, netns
from tests.chaos import evidence as facts
from tests.chaos.child import Plan
from tests.chaos.clock import S, boot_minus_wall_ns
from tests.chaos.cluster import FREEZE_BOUND_S, LEASE_S, SETTINGS, Cluster
from tests.chaos.evidence import Evidence
from tests.chaos.hosts import Host
from tests.chaos.netns import Cut
from tests.chaos.proxy import Wire
from tests.chaos.records import read_lives
from tests.chaos.run import judge
from tests.chaos.watch import Seen, Watch
from tests.waiting import BOUND_S, until

#: From the last renewal of a host that is cut off up to the claim by the other one.
ELSEWHERE_WITHIN_S: Final = LEASE_S + float(SETTINGS["GSD_REPUBLISH_S"]) + 5
#: A child that was superseded stands still until its worker hears of it; where nobody comes, so long.
CLEARED_WITHIN_S: Final = LEASE_S + FREEZE_BOUND_S + BOUND_S
#: For root as well: what everybody else gets.
FOLDERS: Final = "folders"
KIND: Final = os.environ.get("GSD_TEST_HOSTS", "namespaces")


@pytest.fixture
def cables() -> Iterator[bool]:
    """Whether the hosts have networks of their own: anonymous namespaces, which end with the test's processes.

    For who may not make any, a host is a state folder, and all that goes to the servers and back passes a proxy.
    """
    if KIND == FOLDERS or netns.why_not() is not None:
        yield False
        return
    with netns.own_network():
        yield True


@pytest.fixture
def cluster(cables: bool) -> Iterator[Cluster]:
    root = Path(tempfile.mkdtemp(prefix="gsd-hosts-"))
    running = Cluster(root, print, cables=cables, hosts={"a": ("w1",), "b": ("w2",)})
    try:
        running.start()
        yield running
    finally:
        running.close(keep=False)


@pytest.fixture
def watch(cluster: Cluster) -> Iterator[Watch]:
    watching = Watch(cluster.database_url, LEASE_S)
    watching.start()
    yield watching
    watching.stop()


@pytest.mark.slow
def test_what_a_host_ran_that_is_cut_off_runs_on_the_other_one_and_the_host_comes_back(
    cluster: Cluster, client: Client, watch: Watch
) -> None:
    """Each session takes effect once: the children that were cut off stand still, and never go on."""
    a, _ = cluster.hosts
    sessions = submit(client, cluster)
    until(lambda: running_on(cluster) == {"a": SLOTS, "b": SLOTS}, timeout_s=BOUND_S, what="six sessions at work")
    until(lambda: all(client.get(one).seq for one in sessions), timeout_s=BOUND_S, what="output of all of them")
    moved = on(cluster, a)

    cut(a)
    until(lambda: frozen(a) == moved, timeout_s=BOUND_S, what="the children that were cut off standing still")
    for session in sessions:
        # The child that was cut off is not let through: if it were at work, it would write on.
        let_through(cluster, session, attempt=2 if session in moved else 1)
    for session in sessions:
        ended = client.wait(session, timeout_s=BOUND_S)
        again = session in moved
        assert (ended.status, ended.attempt, ended.recoveries) == (Status.COMPLETED, 1 + again, int(again)), ended
        assert ended.worker is not None
        assert ended.worker.startswith("w2@")
    assert all(tree.is_frozen() is not False for tree in a.trees())

    mend(a)
    others = submit(client, cluster)
    until(lambda: running_on(cluster) == {"a": SLOTS, "b": SLOTS}, timeout_s=BOUND_S, what="six more, on both hosts")
    until(lambda: not superseded(a, moved), timeout_s=CLEARED_WITHIN_S, what="the end of what was superseded")
    for session in others:
        let_through(cluster, session, attempt=1)
    for session in others:
        ended = client.wait(session, timeout_s=BOUND_S)
        assert (ended.status, ended.attempt) == (Status.COMPLETED, 1), ended
    until(lambda: not left(cluster, sessions + others), timeout_s=BOUND_S, what="the end of every process and spool")
    watch.stop()

    found = gather(cluster, watch.seen, left(cluster, sessions + others))
    assert not list(judge(found))
    late_s = [elsewhere_after_s(found, str(session)) for session in moved]
    print(f"running elsewhere {min(late_s):.1f} s to {max(late_s):.1f} s after the last renewal")  # noqa: T201  (a figure)
    assert max(late_s) <= ELSEWHERE_WITHIN_S


def submit(client: Client, cluster: Cluster) -> list[SessionId]:
    """As many as there are slots; each writes until it is let through, and at least twenty lines."""
    gates = cluster.root / "gates"
    gates.mkdir(exist_ok=True)
    plan = Plan(lines=20, interval_s=0.03, torn_every=1000, gates=str(gates))
    command = [sys.executable, "-I", "-S", child.__file__, str(cluster.records), plan.encode()]
    return [
        client.enqueue(command=command, working_dir=cluster.work, on_lost="requeue").id
        for _ in range(SLOTS * len(cluster.workers))
    ]


def let_through(cluster: Cluster, session: SessionId, *, attempt: int) -> None:
    (cluster.root / "gates" / f"{session}.{attempt}").touch()


def running_on(cluster: Cluster) -> dict[str, int]:
    """How many sessions each host's worker holds."""
    return dict(Counter(host.name for host in cluster.hosts for _ in on(cluster, host)))


def on(cluster: Cluster, host: Host) -> set[SessionId]:
    pids = [worker.process.pid for worker in host.workers]
    query = "SELECT session_id FROM leases JOIN workers ON workers.id = worker_id WHERE pid = ANY(%s)"
    with psycopg.connect(cluster.database_url, autocommit=True) as connection:
        return {SessionId(session) for (session,) in connection.execute(query, [pids])}


def cut(host: Host) -> None:
    """In both directions. Connections hang: nobody is told, and nothing is refused."""
    for worker in host.workers:
        if worker.cable is not None:
            worker.cable.cut(Cut.DOWN)
        else:
            worker.wires.cut(Wire.HELD)


def mend(host: Host) -> None:
    for worker in host.workers:
        worker.mend()


def frozen(host: Host) -> set[SessionId]:
    return {SessionId(UUID(tree.session)) for tree in host.trees() if tree.is_frozen()}


def superseded(host: Host, sessions: set[SessionId]) -> list[Path]:
    """What there is on this host of these sessions' first attempts."""
    return [path for session in sessions for path in host.spool.glob(f"*/{session}/1*")]


def left(cluster: Cluster, sessions: list[SessionId]) -> list[str]:
    ours = {str(session) for session in sessions}
    processes = [f"process {one.pid} of {one.session_id}" for one in marked_processes() if one.session_id in ours]
    shims = [f"shim of {tree.folder}" for host in cluster.hosts for tree in host.trees()]
    return [*processes, *shims, *(f"spool {folder}" for host in cluster.hosts for folder in host.spools())]


def gather(cluster: Cluster, seen: Seen, remains: list[str]) -> Evidence:
    offset_ns = boot_minus_wall_ns()
    with psycopg.connect(cluster.database_url, autocommit=True) as connection:
        return Evidence(
            sessions=facts.read_sessions(connection),
            attempts=facts.read_attempts(connection, offset_ns),
            history=facts.read_history(connection, offset_ns),
            rows=list(facts.read_rows(connection)),
            lives=read_lives(cluster.records),
            grants=list(seen.grants.values()),
            left=remains,
            locks=list(seen.long_locks.values()),
        )


def elsewhere_after_s(found: Evidence, session: str) -> float:
    """From the last renewal of the first attempt, as far as it was seen, to the claim of the second."""
    expired_ns = max(grant.until_ns for grant in found.grants if (grant.session, grant.attempt) == (session, 1))
    (claimed_ns,) = (
        one.at_boot_ns
        for one in found.history
        if (one.session, one.attempt, one.reason) == (session, 2, Reason.CLAIMED)
    )
    return (claimed_ns - expired_ns) / S + LEASE_S
