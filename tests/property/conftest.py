from __future__ import annotations

from collections.abc import Iterator

import pytest

from gsd_tasks.store import Database
from tests.property.world import Bench


@pytest.fixture
def bench(database: Database) -> Iterator[Bench]:
    """The connections of the random walks."""
    bench = Bench(database)
    yield bench
    bench.close()
