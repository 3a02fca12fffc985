"""A worker takes part with everything that it needs, or does not start."""

from __future__ import annotations

import threading

import pytest

from gsd_tasks.domain.errors import DatabaseUnavailable
from gsd_tasks.service.node import Node
from gsd_tasks.settings import Settings
from gsd_tasks.store import nodes
from tests.cluster import Cluster


@pytest.mark.parametrize(
    ("setting", "value"), [("GSD_STATE_DIR", "/dev/null/state"), ("GSD_LEASE_S", "soon"), ("GSD_LOG_LEVEL", "loud")]
)
def test_a_worker_that_cannot_take_part_takes_no_messages(cluster: Cluster, setting: str, value: str) -> None:
    """Half a worker would take message after message, and fail each."""
    process = cluster.celery("worker", "--without-gossip", "--without-mingle", env={setting: value})
    assert process.wait(20) == 125
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
    node = Node(often, database_url=database_url, redis_url=redis_url, name="gsd@here", slots=1)
    with monkeypatch.context() as patched:
        patched.setattr(nodes, "seen", away)
        node.start()
        assert asked.wait(10)
        node.stop()
    assert "Traceback" not in capfd.readouterr().err
