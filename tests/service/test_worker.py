"""A worker takes part with everything that it needs, or does not start."""

from __future__ import annotations

import pytest

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
