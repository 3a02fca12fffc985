"""The doctor on an `up`'s secret files, and on the ports of API and Flower."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from gsd_tasks.local import checks
from gsd_tasks.local.state_dir import StateDir
from gsd_tasks.service.findings import State
from gsd_tasks.settings import Settings
from tests.local.conftest import answering
from tests.ports import own_port


@pytest.fixture
def state(tmp_path: Path) -> StateDir:
    made = StateDir(tmp_path / "state")
    made.create()
    return made


@pytest.mark.parametrize("name", ["cluster.json", "api-token", "flower-password"])
def test_a_secret_file_that_others_can_read_is_noted(state: StateDir, name: str) -> None:
    (state.root / name).touch(mode=0o600)
    assert checks.secret_files(state.root).state is State.OK
    (state.root / name).chmod(0o644)
    finding = checks.secret_files(state.root)
    assert finding.state is State.NOTE
    assert f"can get at {name} in {state.root}: chmod go-rwx" in str(finding.detail)


def test_a_folder_of_spools_matters_where_others_can_come_to_it(state: StateDir) -> None:
    (state.root / "spool").mkdir()
    (state.root / "spool").chmod(0o755)
    assert checks.secret_files(state.root).state is State.OK
    state.root.chmod(0o711)
    finding = checks.secret_files(state.root)
    assert (finding.state, "get at spool in" in str(finding.detail)) == (State.NOTE, True)


def test_where_there_is_nothing_nothing_is_made(tmp_path: Path) -> None:
    assert checks.secret_files(tmp_path / "none").found == "none yet"
    assert not (tmp_path / "none").exists()


def test_a_port_is_free_or_ours_or_somebody_elses(tmp_path: Path) -> None:
    def found(api: int, flower: int) -> list[tuple[State, str]]:
        told = Settings(state_dir=tmp_path, api_port=api, flower_port=flower)
        return [(finding.state, f"{finding.found}; {finding.detail}") for finding in checks.ports(told)]

    free = own_port()
    assert found(free, 0) == [(State.OK, f"127.0.0.1 port {free} is free; None"), (State.OK, "any; None")]
    with answering(200, "/healthz") as api, answering(401, "/healthcheck") as flower:
        assert [state for state, _ in found(api, flower)] == [State.OK, State.OK]
        assert [state for state, _ in found(flower, api)] == [State.NOTE, State.NOTE]
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        port = stranger.getsockname()[1]
        (state, words), (_, flowers) = found(port, port)
        assert (state, "is taken" in words, "set GSD_API_PORT" in words) == (State.NOTE, True, True)
        assert "set GSD_FLOWER_PORT" in flowers


def test_an_address_of_another_machine_is_noted(tmp_path: Path) -> None:
    finding, _ = checks.ports(Settings(state_dir=tmp_path, api_host="192.0.2.1"))
    assert (finding.state, "set GSD_API_HOST" in str(finding.detail)) == (State.NOTE, True)


def test_ports_of_a_running_up_are_its_own(state: StateDir) -> None:
    with state.hold():
        urls = {"api_url": "http://127.0.0.1:1", "flower_url": "http://127.0.0.1:2"}
        state.remember(running=urls)
        found = [finding.found for finding in checks.ports(Settings(state_dir=state.root))]
    assert found == [f"the running `up` has {url}" for url in urls.values()]
