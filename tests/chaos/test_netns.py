"""Workers in networks of their own, whose link goes down: connections hang, and nobody is told."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import TypeVar

import psycopg
import pytest

from gsd_tasks.client import Client
from gsd_tasks.domain.session import SLOTS, Session, SessionId
from gsd_tasks.domain.state import Status
from tests.chaos import child, netns
from tests.chaos import evidence as facts
from tests.chaos.child import Plan
from tests.chaos.clock import boot_minus_wall_ns
from tests.chaos.cluster import LEASE_S, Cluster
from tests.chaos.evidence import Evidence
from tests.chaos.hosts import Worker
from tests.chaos.netns import Cable, Cut
from tests.chaos.records import read_lives
from tests.chaos.run import judge
from tests.waiting import BOUND_S, until

T = TypeVar("T")

CUT = Cut(os.environ.get("GSD_TEST_CUT", Cut.DOWN))
CUT_S = float(os.environ.get("GSD_TEST_CUT_S", 2 * LEASE_S))

#: Shorter than the first wait of TCP before it sends again what was lost.
QUIET_S = 0.15
#: A connection that hung is given up, or speaks again, 15 s after it was cut at the latest; then there is a new one.
BACK_WITHIN_S = BOUND_S


@pytest.fixture
def namespaces() -> None:
    reason = netns.why_not()
    if reason is not None:
        pytest.skip(f"no network namespaces: {reason}")


@pytest.fixture
def network(namespaces: None) -> Iterator[None]:
    """One of the test's own; its thread is in it, with all that it starts."""
    with netns.own_network():
        yield


@pytest.fixture
def cable(network: None) -> Iterator[Cable]:
    with closing(Cable(1)) as laid:
        yield laid


@pytest.fixture
def cluster(network: None) -> Iterator[Cluster]:
    root = Path(tempfile.mkdtemp(prefix="gsd-netns-"))
    running = Cluster(root, print, cables=True)
    try:
        running.start()
        yield running
    finally:
        running.close(keep=False)


@pytest.mark.parametrize("how", netns.CUTS)
def test_a_cut_cable_answers_nothing_resets_nothing_and_passes_again_when_it_is_mended(cable: Cable, how: Cut) -> None:
    heard: list[bytes] = []
    with socket.create_server((cable.address, 0)) as listener:
        asking = at_far_end(cable, lambda: socket.create_connection(listener.getsockname(), BOUND_S))
        serving, _ = listener.accept()
        with asking, serving:
            threading.Thread(target=lambda: echo(serving, heard), daemon=True).start()
            assert ask(asking, b"whole", BOUND_S) == b"whole"

            cable.cut(how)
            assert ask(asking, b"cut", QUIET_S) is None
            assert (b"cut" in heard) == (how is Cut.DEAF)
            cable.mend()

            assert ask(asking, b"", BOUND_S) == b"cut"
            asking.shutdown(socket.SHUT_WR)
    assert b"".join(heard) == b"wholecut"


def test_a_cable_that_is_cut_anew_is_whole_when_it_is_mended(cable: Cable) -> None:
    for how in netns.CUTS:
        cable.cut(how)
    assert cable.is_cut
    cable.mend()

    with socket.create_server((cable.address, 0)) as listener:
        at_far_end(cable, lambda: socket.create_connection(listener.getsockname(), BOUND_S)).close()


def test_nothing_of_a_network_is_seen_from_outside_or_left_behind(namespaces: None) -> None:
    before = interfaces()
    with netns.own_network(), closing(Cable(1)) as cable:
        assert interfaces() == {"lo", "cable1"}
        assert at_far_end(cable, interfaces) == {"lo", "eth0"}
    assert interfaces() == before


@pytest.mark.slow
def test_a_worker_whose_link_goes_down_is_fenced_and_takes_new_sessions_when_it_is_back(
    cluster: Cluster, client: Client
) -> None:
    """For two leases. The session runs elsewhere meanwhile, and no two of its children at a time."""
    moved = submit(client, cluster, works_s=5)
    next(client.follow(moved.id))
    worker = holder_of(cluster, moved.id)
    assert worker.cable is not None

    worker.cable.cut(CUT)
    mend_at = time.monotonic() + CUT_S
    until(lambda: client.get(moved.id).attempt == 2, timeout_s=BOUND_S, what="the next attempt")
    until(lambda: time.monotonic() > mend_at, timeout_s=CUT_S)
    worker.cable.mend()
    mended_at = time.monotonic()
    # They fill every slot that there is: so all of its own are free again, and taken.
    others = [submit(client, cluster, works_s=60) for _ in range(SLOTS * len(cluster.workers))]
    until(lambda: holds(cluster, worker) == SLOTS, timeout_s=BACK_WITHIN_S, what="taking new sessions")
    print(f"three sessions taken {time.monotonic() - mended_at:.1f} s after the link's return")  # noqa: T201  (a figure)

    ended = client.wait(moved.id, timeout_s=BOUND_S)
    assert (ended.status, ended.attempt, ended.recoveries) == (Status.COMPLETED, 2, 1)
    for other in others:
        client.cancel(other.id)
    for other in others:
        client.wait(other.id, timeout_s=BOUND_S)
    until(lambda: not spools(cluster), timeout_s=BOUND_S, what="the end of what was superseded")
    assert not list(judge(found(cluster)))


def submit(client: Client, cluster: Cluster, *, works_s: float) -> Session:
    plan = Plan(lines=int(works_s / 0.05), interval_s=0.05, torn_every=1000)
    command = [sys.executable, "-I", "-S", child.__file__, str(cluster.records), plan.encode()]
    return client.enqueue(command=command, working_dir=cluster.work, on_lost="requeue")


def holder_of(cluster: Cluster, session: SessionId) -> Worker:
    (pid,) = pids(cluster, "WHERE session_id = %s", session)
    (worker,) = (worker for worker in cluster.workers if worker.process.pid == pid)
    return worker


def holds(cluster: Cluster, worker: Worker) -> int:
    return len(pids(cluster, "WHERE pid = %s", worker.process.pid))


def pids(cluster: Cluster, where: str, value: object) -> list[int]:
    """Of the workers that hold a session."""
    query = "SELECT pid FROM leases JOIN workers ON workers.id = leases.worker_id "
    with psycopg.connect(cluster.database_url, autocommit=True) as connection:
        return [pid for (pid,) in connection.execute((query + where).encode(), [value])]


def spools(cluster: Cluster) -> list[Path]:
    return [folder for host in cluster.hosts for folder in host.spools()]


def found(cluster: Cluster) -> Evidence:
    offset_ns = boot_minus_wall_ns()
    with psycopg.connect(cluster.database_url, autocommit=True) as connection:
        return Evidence(
            sessions=facts.read_sessions(connection),
            attempts=facts.read_attempts(connection, offset_ns),
            history=facts.read_history(connection, offset_ns),
            rows=list(facts.read_rows(connection)),
            lives=read_lives(cluster.records),
        )


def at_far_end(cable: Cable, do: Callable[[], T]) -> T:
    """In a thread that is there. A socket is of the network of the thread that made it, whoever uses it then."""

    def go_and_do() -> T:
        netns._call("setns", cable._namespace, netns.CLONE_NEWNET)
        return do()

    with ThreadPoolExecutor(1) as threads:
        return threads.submit(go_and_do).result()


def ask(connection: socket.socket, question: bytes, within_s: float) -> bytes | None:
    connection.settimeout(within_s)
    connection.sendall(question)
    try:
        return connection.recv(100)
    except TimeoutError:
        return None


def echo(connection: socket.socket, heard: list[bytes]) -> None:
    with contextlib.suppress(OSError):  # the test closes it when it has seen enough
        while data := connection.recv(100):
            heard.append(data)
            connection.sendall(data)


def interfaces() -> set[str]:
    return {name for _, name in socket.if_nameindex()}
