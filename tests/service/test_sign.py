"""Signs of life tell a node that works from one that is hindered, and from one that is silent."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from gsd_tasks.domain.errors import DatabaseUnavailable
from gsd_tasks.service.maintenance import Maintenance
from gsd_tasks.service.node import Node
from gsd_tasks.service.sign import LEAST_PATIENCE_S, MISSED, Sign, State
from gsd_tasks.settings import Settings
from gsd_tasks.store import nodes
from tests.service.messages import unsaid
from tests.waiting import until

NODE = "gsd@here"


@pytest.fixture
def sign(tmp_path: Path) -> Sign:
    return Sign(tmp_path / "state", NODE)


def test_a_node_that_gives_its_sign_is_well_and_one_that_never_did_is_silent(sign: Sign) -> None:
    assert sign.read(interval_s=5).state is State.SILENT

    sign.give()

    assert sign.read(interval_s=5).state is State.WELL


def test_a_node_says_what_hinders_it(sign: Sign) -> None:
    sign.give("the database is away")

    assert sign.read(interval_s=5) == (State.HINDERED, "the database is away")


@pytest.mark.parametrize("age_s", [LEAST_PATIENCE_S + 1, -LEAST_PATIENCE_S - 1])
def test_an_old_sign_is_none_and_one_from_the_future_neither(sign: Sign, tmp_path: Path, age_s: float) -> None:
    sign.give()
    at = time.time() - age_s
    os.utime(tmp_path / "state/alive" / NODE, (at, at))

    assert sign.read(interval_s=5).state is State.SILENT
    # Who speaks seldom is waited for.
    assert sign.read(interval_s=2 * LEAST_PATIENCE_S / MISSED).state is State.WELL


def test_a_node_that_has_ended_is_silent_at_once(sign: Sign) -> None:
    sign.give()
    sign.take_away()
    sign.take_away()

    assert sign.read(interval_s=5).state is State.SILENT


def test_where_no_sign_can_be_given_the_node_works_on_and_says_so_once(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "state").write_text("in the way")
    sign = Sign(tmp_path / "state", NODE)

    sign.give()
    sign.give()

    assert capfd.readouterr().err.count("no sign of life") == 1


def test_a_worker_gives_its_sign_says_that_its_database_is_away_and_takes_it_along(
    settings: Settings, database_url: str, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object, **__: object) -> None:
        raise DatabaseUnavailable("it is away")

    often = settings.model_copy(update={"heartbeat_s": 0.05})
    sign = Sign(settings.state_dir, NODE)
    node = Node(often, database_url=database_url, redis_url=redis_url, publish=unsaid, name=NODE, slots=1)
    node.start()
    try:
        until(lambda: sign.read(interval_s=5).state is State.WELL)
        with monkeypatch.context() as patched:
            patched.setattr(nodes, "seen", away)
            until(lambda: sign.read(interval_s=5) == (State.HINDERED, "it is away"))
        until(lambda: sign.read(interval_s=5).state is State.WELL)
    finally:
        node.stop()
    assert sign.read(interval_s=5).state is State.SILENT


def test_a_sign_is_never_read_half_written(tmp_path: Path) -> None:
    """An empty one would say that all is well."""
    sign = Sign(tmp_path, NODE)
    sign.give("it is away")
    done = threading.Event()

    def give() -> None:
        while not done.is_set():
            sign.give("it is away")

    giving = threading.Thread(target=give)
    giving.start()
    try:
        assert {sign.read(interval_s=5) for _ in range(20_000)} == {(State.HINDERED, "it is away")}
    finally:
        done.set()
        giving.join()
    assert [path.name for path in (tmp_path / "alive").iterdir()] == [NODE]


def test_maintenance_gives_its_sign_with_each_sweep_and_says_that_its_database_is_away(
    settings: Settings, database_url: str, redis_url: str
) -> None:
    sign = Sign(settings.state_dir, "maint@here")

    def swept(url: str) -> State:
        often = settings.model_copy(update={"republish_s": 0.1})
        maintenance = Maintenance(often, database_url=url, redis_url=redis_url, publish=unsaid)
        maintenance.start(sign)
        try:
            until(lambda: sign.read(interval_s=5).state is not State.SILENT)
            state = sign.read(interval_s=5).state
        finally:
            maintenance.stop()
        assert sign.read(interval_s=5).state is State.SILENT
        return state

    assert swept(database_url) is State.WELL
    assert swept("postgresql://gsd:gsd@127.0.0.1:1/gsd") is State.HINDERED
