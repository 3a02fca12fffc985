"""The maintenance process sweeps, with beat and Redis or without, and nothing holds a recovery up."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from sqlalchemy import text

from gsd_tasks.domain.session import Holder, OnLost, Session, SessionId
from gsd_tasks.domain.state import Status
from gsd_tasks.service.maintenance import Maintenance
from gsd_tasks.service.node import Node
from gsd_tasks.settings import Settings
from gsd_tasks.store import Claim, Connection, Database, leases, transitions
from gsd_tasks.store.database import worker_name
from tests.cluster import Cluster
from tests.waiting import BOUND_S, until

LEASE_S = 0.6
NO_REDIS = "redis://127.0.0.1:1/0"


class Clock:
    now = 0

    def __call__(self) -> float:
        return self.now


class Sent(list[SessionId]):
    """A publisher that notes whom it was asked to send for."""

    def __call__(self, session_id: SessionId, *, queue: str, priority: int) -> None:
        self.append(session_id)


@pytest.fixture
def sent() -> Sent:
    return Sent()


@pytest.fixture
def make(settings: Settings, database_url: str, redis_url: str, sent: Sent) -> Iterator[Callable[..., Maintenance]]:
    made: list[Maintenance] = []

    def make(*, redis: str = redis_url, clock: Callable[[], float] = time.monotonic, **changes: object) -> Maintenance:
        values = {"lease_s": LEASE_S, "heartbeat_s": LEASE_S / 4, "republish_s": 0.2, **changes}
        configured = settings.model_copy(update=values)
        made.append(Maintenance(configured, database_url=database_url, redis_url=redis, publish=sent, clock=clock))
        return made[-1]

    yield make
    for one in made:
        one.stop()


@pytest.fixture
def silent(database: Database, node: Node, enqueue: Callable[..., SessionId]) -> Callable[[], SessionId]:
    """A session that may run again, and whose holder says nothing more."""

    def silent() -> SessionId:
        session_id = enqueue("true", on_lost=OnLost.REQUEUE)
        with database.connection() as connection:
            claim = transitions.claim(
                connection, session_id, holder=Holder(uuid4()), worker_id=node.id, slot=1, lease_s=LEASE_S
            )
            assert isinstance(claim, Claim)
            assert leases.mark_launching(connection, claim)
        return session_id

    return silent


Now = Callable[[SessionId], Session]


def test_without_a_tick_it_sweeps_by_itself(
    make: Callable[..., Maintenance], silent: Callable[[], SessionId], now: Now, sent: Sent
) -> None:
    session_id = silent()
    make().start()
    until(lambda: now(session_id).status is Status.QUEUED, what="the recovery")
    until(lambda: session_id in sent, what="its message, of the same sweep")


def test_without_redis_it_recovers_all_the_same(
    make: Callable[..., Maintenance], silent: Callable[[], SessionId], now: Now
) -> None:
    session_id = silent()
    make(redis=NO_REDIS).start()
    until(lambda: now(session_id).status is Status.QUEUED, what="the recovery")


def test_a_broker_that_refuses_costs_a_tick_nothing_but_the_messages(
    make: Callable[..., Maintenance], enqueue: Callable[..., SessionId], database: Database, now: Now
) -> None:
    waiting, late = enqueue(), enqueue()
    with database.connection() as connection:
        connection.execute(text("UPDATE sessions SET expires_at = now() WHERE id = :id"), {"id": late})
    swept = make(redis=NO_REDIS).tick()
    assert not swept.redis_answers
    assert (now(waiting).status, now(late).status) == (Status.QUEUED, Status.FAILED)


def test_while_ticks_come_it_leaves_the_sweeps_to_them(
    make: Callable[..., Maintenance], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each tick may be late by almost an interval; when two have stayed out, it sweeps every interval by itself."""
    clock = Clock()
    maintenance, by = make(republish_s=10, clock=clock), []
    swept = maintenance._sweep

    def sweep() -> object:
        by.append(clock.now)
        return swept()

    monkeypatch.setattr(maintenance, "_sweep", sweep)
    maintenance._turn()
    assert by == [0], "the first one, before any tick"
    for clock.now in (5, 24, 43):
        maintenance.tick()
    assert by == [0, 5, 24, 43]
    for clock.now in range(44, 100):
        maintenance._turn()
    assert by == [0, 5, 24, 43, 63, 73, 83, 93]
    maintenance.tick()
    for clock.now in range(99, 119):
        maintenance._turn()
    assert by == [0, 5, 24, 43, 63, 73, 83, 93, 99]


def test_a_lease_is_recovered_when_its_time_is_over_and_not_at_the_next_tick(
    make: Callable[..., Maintenance], silent: Callable[[], SessionId], now: Now
) -> None:
    session_id = silent()
    maintenance = make(republish_s=3600)
    maintenance.tick()
    maintenance.start()
    until(lambda: now(session_id).status is Status.QUEUED, what="the recovery")


def test_a_lease_that_begins_between_two_sweeps_is_seen_before_the_next(
    make: Callable[..., Maintenance], silent: Callable[[], SessionId], now: Now
) -> None:
    maintenance = make(republish_s=3600)
    maintenance.tick()
    session_id = silent()
    maintenance.start()
    until(lambda: now(session_id).status is Status.QUEUED, what="the recovery")


def test_a_tick_during_a_sweep_does_nothing(
    make: Callable[..., Maintenance], enqueue: Callable[..., SessionId]
) -> None:
    """That sweep is as good, and whoever brings ticks can go on."""
    enqueue()
    maintenance, sent = make(), []
    inside, go_on = threading.Event(), threading.Event()

    def publish(session_id: SessionId, *, queue: str, priority: int) -> None:
        sent.append(session_id)
        inside.set()
        go_on.wait(BOUND_S)

    maintenance._publish = publish
    sweep = threading.Thread(target=maintenance.tick)
    sweep.start()
    assert inside.wait(BOUND_S)
    assert maintenance.tick().published == 0
    go_on.set()
    sweep.join()
    assert len(sent) == 1


def test_a_tick_during_a_look_at_the_leases_sweeps_all_the_same(
    make: Callable[..., Maintenance], enqueue: Callable[..., SessionId], sent: Sent, monkeypatch: pytest.MonkeyPatch
) -> None:
    maintenance, waiting = make(republish_s=3600), enqueue()
    inside, go_on, states = threading.Event(), threading.Event(), leases.states

    def look(connection: Connection) -> list[str]:
        inside.set()
        go_on.wait(BOUND_S)
        return states(connection)

    monkeypatch.setattr(leases, "states", look)
    watch, sweep = threading.Thread(target=maintenance._watch), threading.Thread(target=maintenance.tick)
    watch.start()
    assert inside.wait(BOUND_S)
    sweep.start()
    sweep.join(0.2)  # as long as it would take to give up
    go_on.set()
    watch.join()
    sweep.join()
    assert sent == [waiting]


def test_a_command_that_takes_long_holds_up_no_recovery(
    make: Callable[..., Maintenance], silent: Callable[[], SessionId], now: Now, tmp_path: Path
) -> None:
    heard = tmp_path / "heard"
    script = f"import os, pathlib, time; pathlib.Path({str(heard)!r}).write_text(str(os.getpid())); time.sleep(600)"
    maintenance = make(on_recovery=f'{sys.executable} -c "{script}"', on_recovery_timeout_s=600)
    maintenance.start()
    first = silent()
    pid = until(lambda: heard.read_text() if heard.exists() else "", what="the command")
    assert now(first).status is Status.QUEUED
    second = silent()
    until(lambda: now(second).status is Status.QUEUED, what="the next recovery")
    maintenance.stop()
    assert not Path(f"/proc/{pid}").exists()


def test_what_goes_wrong_in_a_recovery_keeps_no_message_back(
    make: Callable[..., Maintenance], enqueue: Callable[..., SessionId], sent: Sent, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(leases, "states", fail)
    waiting = enqueue()
    assert make().tick().published == 1
    assert sent == [waiting]


def test_a_recovery_is_told_soon_after_it(
    make: Callable[..., Maintenance], silent: Callable[[], SessionId], tmp_path: Path
) -> None:
    heard = tmp_path / "heard"
    script = f"import pathlib, sys; pathlib.Path({str(heard)!r}).write_text(sys.stdin.read())"
    maintenance = make(on_recovery=f'{sys.executable} -c "{script}"')
    session_id = silent()
    maintenance.start()
    assert str(session_id) in until(lambda: heard.read_text() if heard.exists() else "")


def test_the_maintenance_process_recovers_while_it_waits_for_redis(cluster: Cluster, tmp_path: Path) -> None:
    """As it starts: Celery itself goes no further than that."""
    lost = cluster.client.enqueue(command=["sleep", "600"], working_dir=tmp_path, on_lost="requeue")
    env = {"GSD_LEASE_S": "2", "GSD_HEARTBEAT_S": "0.5", "GSD_REPUBLISH_S": "1"}
    worker = cluster.worker(env=env)
    until(lambda: cluster.client.get(lost.id).status is Status.RUNNING)
    worker.kill()
    worker.wait()
    told = tmp_path / "told"
    hook = {"GSD_REDIS_URL": NO_REDIS, "GSD_ON_RECOVERY": f"cp /dev/stdin {told}"}
    cluster.celery("worker", "-P", "solo", "-Q", "maint", "-n", "maint@%h", "-l", "WARNING", env=env | hook)
    until(lambda: cluster.client.get(lost.id).status is Status.QUEUED, timeout_s=BOUND_S, what="the recovery")
    assert str(lost.id) in until(lambda: told.read_text() if told.exists() else "", what="the word of it")
    until(lambda: [one.status for one in cluster.client.workers()] == ["gone"], what="the worker to be gone")


@pytest.mark.parametrize(
    ("arguments", "env", "problem"),
    [
        (("-P", "solo"), {"GSD_ON_RECOVERY": "no-such-program"}, "GSD_ON_RECOVERY: there is no program"),
        (("-P", "processes"), {}, "-P prefork: maintenance is one process"),
    ],
)
def test_a_maintenance_process_that_could_not_work_is_refused(
    cluster: Cluster, arguments: tuple[str, ...], env: dict[str, str], problem: str
) -> None:
    process = cluster.celery("worker", *arguments, "-Q", "maint", "-n", "maint@%h", env=env)
    assert process.wait(BOUND_S) == 125
    assert problem in cluster.logs()


def test_the_connections_of_a_worker_bear_its_name(database: Database, node: Node) -> None:
    """So that a lock that one of them leaves behind is known for its own."""
    with database.connection() as connection:
        names = connection.execute(text("SELECT application_name FROM pg_stat_activity")).scalars().all()
    assert worker_name(node.id) in names


def test_two_maintenance_processes_make_one_recovery(
    make: Callable[..., Maintenance], silent: Callable[[], SessionId], now: Now, database: Database
) -> None:
    session_id = silent()
    for _ in range(2):
        make().start()
    until(lambda: now(session_id).status is Status.QUEUED, what="the recovery")
    with database.connection() as connection:
        found = connection.execute(text("SELECT requeued FROM recoveries")).scalars().all()
    assert found == [[session_id]]
