"""Each test of a child runs once in every form of containment that this host gives."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from gsd_tasks.process import link as linking
from gsd_tasks.process import nursery as nurseries
from gsd_tasks.process.contain import Containment, probe
from gsd_tasks.process.nursery import Nursery
from tests.process.bench import PATIENCE_S, Bench

STRONGEST: Final = probe()

needs_pid_namespace = pytest.mark.skipif(
    STRONGEST is not Containment.PID_NAMESPACE, reason="this host gives no PID namespace"
)


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine a shim that is well takes its time; where a test is about one that is not, it says so."""
    monkeypatch.setattr(linking, "TIMEOUT_S", PATIENCE_S)
    monkeypatch.setattr(nurseries, "PATIENCE_S", PATIENCE_S)


@pytest.fixture(
    params=[pytest.param(Containment.PID_NAMESPACE, marks=needs_pid_namespace), Containment.SUBREAPER], ids=str
)
def form(request: pytest.FixtureRequest) -> Containment:
    return Containment(request.param)


@pytest.fixture(scope="session")
def nursery() -> Iterator[Nursery]:
    nursery = Nursery()
    yield nursery
    nursery.stop()


@pytest.fixture
def bench(tmp_path: Path, form: Containment, nursery: Nursery) -> Iterator[Bench]:
    bench = Bench(tmp_path, form, nursery)
    yield bench
    bench.put_away()


@pytest.fixture
def weak_bench(tmp_path: Path, nursery: Nursery) -> Iterator[Bench]:
    bench = Bench(tmp_path, Containment.SUBREAPER, nursery)
    yield bench
    bench.put_away()


@pytest.fixture
def strong_bench(tmp_path: Path, nursery: Nursery) -> Iterator[Bench]:
    if STRONGEST is not Containment.PID_NAMESPACE:
        pytest.skip("this host gives no PID namespace")
    bench = Bench(tmp_path, Containment.PID_NAMESPACE, nursery)
    yield bench
    bench.put_away()


@pytest.fixture
def any_bench(tmp_path: Path) -> Iterator[Bench]:
    """In the form that this host would use: for what has nothing to do with containment.

    Its shims are executed, those of the others are forked.
    """
    bench = Bench(tmp_path, STRONGEST)
    yield bench
    bench.put_away()
