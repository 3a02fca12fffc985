"""Redis Sentinel: the master fails while sessions wait and run, and the cluster goes on by itself."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from gsd_tasks.client import Client
from gsd_tasks.domain.session import Session
from gsd_tasks.domain.state import Status
from gsd_tasks.local.ports import LOOPBACK
from gsd_tasks.service import link_checks, server_checks
from gsd_tasks.service.bell import Ear, ring_once
from gsd_tasks.service.findings import State
from tests.cluster import Cluster
from tests.machines.servers import Redis, Sentinel, own_folder
from tests.machines.test_tls import assert_one_line, cli, flower_counts_messages, flower_settings, pings
from tests.waiting import BOUND_S, until

#: What a failover may take, from the master's death until workers take messages from the next one. Sentinel needs one
#: second to notice (as these are set up) and some to agree; a worker gives up a connection that hangs within 21 s.
BACK_WITHIN_S = 60
#: The second one, which takes half a minute more: GSD_TEST_FAILOVERS=2
FAILOVERS = int(os.environ.get("GSD_TEST_FAILOVERS", "1"))


@dataclass(frozen=True)
class Trio:
    """A master with two replicas, and three Sentinels."""

    servers: list[Redis]
    sentinels: list[Sentinel]

    @property
    def url(self) -> str:
        first, *others = [f"{LOOPBACK}:{sentinel.port}" for sentinel in self.sentinels]
        rest = ";".join(f"sentinel://:sesame@{place}" for place in others)
        return f"sentinel://:sesame@{first};{rest}/0?master_name=mymaster&sentinel_password=open"

    def master(self) -> Redis:
        """As most Sentinels say."""
        told = []
        for sentinel in self.sentinels:
            with sentinel.client() as client:
                told.append(int(client.sentinel_get_master_addr_by_name("mymaster")[1]))
        return next(server for server in self.servers if server.port == max(told, key=told.count))

    def is_whole(self) -> bool:
        """Each Sentinel knows both of the others, and two replicas that follow the master."""
        for sentinel in self.sentinels:
            with sentinel.client() as client:
                state = client.sentinel_master("mymaster")
                replicas = client.sentinel_slaves("mymaster")
            if state["num-other-sentinels"] != 2 or [one["master-link-status"] for one in replicas] != ["ok", "ok"]:
                return False
        return True


@pytest.fixture
def trio() -> Iterator[Trio]:
    with own_folder() as folder, ExitStack() as running:
        master = running.enter_context(Redis(folder, "--masterauth", "sesame"))
        follow = ("--masterauth", "sesame", "--replicaof", f"{LOOPBACK} {master.port}")
        replicas = [running.enter_context(Redis(folder, *follow)) for _ in range(2)]
        sentinels = [running.enter_context(Sentinel(folder, master)) for _ in range(3)]
        made = Trio([master, *replicas], sentinels)
        until(made.is_whole, timeout_s=BOUND_S, what="Sentinels that know each other")
        yield made


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_master_fails_while_sessions_wait_and_run(trio: Trio, database_url: str, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    with Cluster(database_url, trio.url, tmp_path) as cluster:
        cluster.env |= flower_settings()
        cluster.maintenance()
        cluster.celery("flower")
        cluster.worker("one", "-c", "2")
        client = cluster.client
        waits = f"while [ ! -e {tmp_path}/go ]; do sleep 0.1; done"
        job = ["sh", "-c", f"echo $GSDTASKS_SESSION_ID >> {ran}; {waits}; echo end"]
        sessions = [client.enqueue(command=job, working_dir=tmp_path) for _ in range(6)]
        until(lambda: statuses(client, sessions).count(Status.RUNNING) == 2)

        failed = trio.master()
        failed.kill()
        sessions += [client.enqueue(command=job, working_dir=tmp_path) for _ in range(2)]
        (tmp_path / "go").touch()
        assert_all_ran_once(client, sessions, ran)
        until(lambda: trio.master() is not failed, what="word of it in most Sentinels")

        if FAILOVERS > 1:
            # This one does not die: it hangs, and when it wakes up it still takes itself for the master.
            hung = trio.master()
            hung.signal(signal.SIGSTOP)
            sessions = [client.enqueue(command=job, working_dir=tmp_path) for _ in range(4)]
            until(lambda: trio.master() is not hung, timeout_s=BACK_WITHIN_S, what="another master")
            assert_all_ran_once(client, sessions, ran)
            hung.signal(signal.SIGCONT)
            sessions = [client.enqueue(command=job, working_dir=tmp_path) for _ in range(4)]
            assert_all_ran_once(client, sessions, ran)

        assert pings(cluster)
        until(lambda: cli(cluster, "healthy", "flower").returncode == 0, timeout_s=BOUND_S, what="Flower")
        until(lambda: flower_counts_messages(cluster), timeout_s=BOUND_S, what="the lengths of queues")
        assert "sesame" not in cluster.logs()


def test_the_doctor_says_whether_a_failover_would_come_about(trio: Trio) -> None:
    def says(state: State, words: str) -> bool:
        # Each server has a second or two to answer it.
        tls, sentinel = link_checks.broker(trio.url)
        return (tls.state, sentinel.state) == (State.OK, state) and words in f"{sentinel.found}; {sentinel.detail}"

    until(lambda: says(State.OK, "with 2 replicas; 3 of 3 Sentinels answer"), what="three answers")
    trio.sentinels[0].kill()
    until(lambda: says(State.NOTE, f"these do not answer: 127.0.0.1:{trio.sentinels[0].port}:"), what="two answers")


def test_bells_are_heard_from_the_next_master_on(trio: Trio) -> None:
    with Ear(trio.url, "gsd:test") as ear:

        def hears(word: str) -> bool:
            ring_once(trio.url, ("gsd:test", word))
            return ear.wait(0.5) == word

        until(lambda: hears("before"), what="a bell")
        failed = trio.master()
        failed.kill()
        until(lambda: hears("after"), timeout_s=BACK_WITHIN_S, what="a bell of the next master")
        until(lambda: trio.master() is not failed, what="word of it in most Sentinels")


def test_what_sentinels_refuse_is_told_in_one_line(trio: Trio) -> None:
    wrong = {
        trio.url.replace("mymaster", "nobody"): "look at master_name",
        trio.url.replace("password=open", "password=wrong-word"): "sentinel_password",
        trio.url.replace(":sesame@", ":wrong-word@"): "user and password",
    }
    for url, advice in wrong.items():
        said = server_checks.broker(url)
        assert said.state is State.PROBLEM
        assert_one_line(str(said.detail), "redis cannot be used", advice)


def assert_all_ran_once(client: Client, sessions: list[Session], ran: Path) -> None:
    """None lost, none twice; and within a bound."""
    for session in sessions:
        assert client.wait(session.id, timeout_s=BACK_WITHIN_S).status is Status.COMPLETED
        assert [row.data for row in client.output(session.id)] == ["end"]
    began = ran.read_text().split()
    assert [began.count(str(session.id)) for session in sessions] == [1] * len(sessions)


def statuses(client: Client, sessions: list[Session]) -> list[Status]:
    return [client.get(session.id).status for session in sessions]
