"""A worker takes part with everything that it needs, or does not start."""

from __future__ import annotations

import threading

import pytest
import redis

from gsd_tasks.domain.errors import DatabaseUnavailable
from gsd_tasks.service import node as node_module
from gsd_tasks.service.bell import WANTED
from gsd_tasks.service.node import Node
from gsd_tasks.settings import Settings
from gsd_tasks.store import nodes
from tests.cluster import Cluster
from tests.service.messages import unsaid
from tests.waiting import BOUND_S, until


@pytest.mark.parametrize(
    ("setting", "value"), [("GSD_STATE_DIR", "/dev/null/state"), ("GSD_LEASE_S", "soon"), ("GSD_LOG_LEVEL", "loud")]
)
def test_a_worker_that_cannot_take_part_takes_no_messages(cluster: Cluster, setting: str, value: str) -> None:
    """Half a worker would take message after message, and fail each."""
    process = cluster.celery("worker", "--without-gossip", "--without-mingle", env={setting: value})
    assert process.wait(BOUND_S) == 125
    lines = [line for line in cluster.logs().splitlines() if line.startswith("gsd-tasks: ")]
    assert len(lines) == 1, cluster.logs()


def test_a_database_that_is_away_is_one_line_a_heartbeat(
    settings: Settings,
    database_url: str,
    redis_url: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    asked = threading.Event()

    def away(*_: object, **__: object) -> None:
        asked.set()
        raise DatabaseUnavailable("it is away")

    often = settings.model_copy(update={"heartbeat_s": 0.05})
    node = Node(often, database_url=database_url, redis_url=redis_url, publish=unsaid, name="gsd@here", slots=1)
    with monkeypatch.context() as patched:
        patched.setattr(nodes, "seen", away)
        node.start()
        try:
            assert asked.wait(BOUND_S)
        finally:
            node.stop()
    assert "Traceback" not in capfd.readouterr().err


def test_a_node_that_stops_waits_for_no_bell(
    settings: Settings, database_url: str, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It rings one itself. Else a worker would take a second longer to stop, whatever it does."""
    monkeypatch.setattr(node_module, "LISTEN_S", 10 * BOUND_S)
    node = Node(settings, database_url=database_url, redis_url=redis_url, publish=unsaid, name="gsd@here", slots=1)
    node.start()
    try:
        with redis.Redis.from_url(redis_url) as broker:
            until(lambda: dict(broker.pubsub_numsub(WANTED))[WANTED.encode()], what="listening")
    finally:
        node.stop()
    until(lambda: not any(thread.name.startswith("gsd-listener") for thread in threading.enumerate()))


def test_whoever_begins_to_listen_looks_for_what_rang_before(
    settings: Settings, database_url: str, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A session may have been claimed, and cancelled, meanwhile; and a connection to Redis may be cut at any time."""
    hurried = threading.Event()
    node = Node(settings, database_url=database_url, redis_url=redis_url, publish=unsaid, name="gsd@here", slots=1)
    monkeypatch.setattr(node.keeper, "hurry", hurried.set)
    node.start()
    try:
        assert hurried.wait(BOUND_S)
        hurried.clear()
        with redis.Redis.from_url(redis_url) as broker:
            broker.client_kill_filter(_type="pubsub")
        assert hurried.wait(BOUND_S)
    finally:
        node.stop()
