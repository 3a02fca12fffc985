"""What the tests of cut cables share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest

from gsd_tasks import Client
from tests.chaos.cluster import Cluster


@pytest.fixture
def client(cluster: Cluster) -> Iterator[Client]:
    with closing(Client(settings=cluster.client_settings())) as ours:
        yield ours
