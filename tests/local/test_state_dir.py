"""The state folder, and how clients find servers."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import SecretStr

from gsd_tasks.domain.errors import ConfigurationError
from gsd_tasks.local.addresses import Addresses, resolve_addresses, running_cluster
from gsd_tasks.local.life import find_leftover
from gsd_tasks.local.ports import HIGHEST, LOWEST, choose_port, is_free
from gsd_tasks.local.private_files import write_private
from gsd_tasks.local.stamp import Stamp, read_stamp
from gsd_tasks.local.state_dir import StateDir
from gsd_tasks.settings import Settings
from tests.local.conftest import wait_for

RUNNING = {"database_url": "postgresql://up", "redis_url": "redis://up"}


def settings(root: Path, database_url: str | None = None, redis_url: str | None = None) -> Settings:
    return Settings(
        state_dir=root,
        database_url=SecretStr(database_url) if database_url else None,
        redis_url=SecretStr(redis_url) if redis_url else None,
    )


@pytest.fixture
def state(tmp_path: Path) -> StateDir:
    state = StateDir(tmp_path / "state")
    state.create()
    return state


def test_it_is_created_for_its_owner_alone(state: StateDir) -> None:
    for folder in (state.root, state.logs, state.parts, state.beat):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_an_empty_folder_is_closed_to_others(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    StateDir(tmp_path).create()
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o700


@pytest.mark.parametrize("mode", [0o755, 0o1777])
def test_a_folder_that_others_use_is_refused_and_left_as_it_is(tmp_path: Path, mode: int) -> None:
    (tmp_path / "theirs").touch()
    tmp_path.chmod(mode)
    with pytest.raises(ConfigurationError, match="choose another folder"):
        StateDir(tmp_path).create()
    assert stat.S_IMODE(tmp_path.stat().st_mode) == mode


def test_a_folder_that_cannot_be_made_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match=r"GSD_STATE_DIR .* choose another"):
        StateDir(tmp_path / "file" / "state").create()


def test_clients_find_a_cluster_only_while_its_up_holds_the_folder(state: StateDir) -> None:
    assert running_cluster(state.root) is None
    with state.hold():
        assert running_cluster(state.root) is None
        state.remember(running=RUNNING)
        assert running_cluster(state.root) == Addresses("postgresql://up", "redis://up")
    assert running_cluster(state.root) is None


def test_what_a_killed_up_has_left_is_no_running_cluster(state: StateDir) -> None:
    state.remember(running=RUNNING)
    assert running_cluster(state.root) is None
    with state.hold():
        assert running_cluster(state.root) is None


def test_only_one_holds_it_and_the_other_learns_who(state: StateDir) -> None:
    with (
        state.hold(),
        pytest.raises(ConfigurationError, match=rf"already runs on .* \(pid {os.getpid()}\)"),
        state.hold(),
    ):
        pass


def test_the_cluster_file_is_private_and_keeps_what_is_not_replaced(state: StateDir) -> None:
    state.remember(postgres={"port": 1}, valkey={"port": 2})
    state.remember(valkey=None)
    assert state.read() == {"postgres": {"port": 1}}
    assert stat.S_IMODE(state.cluster_file.stat().st_mode) == 0o600


def test_a_write_that_fails_leaves_the_old_content(state: StateDir, monkeypatch: pytest.MonkeyPatch) -> None:
    state.remember(postgres={"port": 1})

    def fail(_descriptor: int) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        write_private(state.cluster_file, b"{}")
    monkeypatch.undo()
    assert state.read() == {"postgres": {"port": 1}}
    state.remember(postgres=None)
    assert state.read() == {}


@pytest.mark.parametrize(
    ("database", "redis", "up", "expected"),
    [
        ("postgresql://env", "redis://env", False, ("postgresql://env", "redis://env")),
        ("postgresql://env", "redis://env", True, ("postgresql://env", "redis://env")),
        (None, None, True, ("postgresql://up", "redis://up")),
        ("postgresql://env", None, True, ("postgresql://env", "redis://up")),
        (None, "redis://env", True, ("postgresql://up", "redis://env")),
    ],
)
def test_the_environment_wins_over_a_running_up(
    state: StateDir, database: str | None, redis: str | None, expected: tuple[str, str], *, up: bool
) -> None:
    wanted = settings(state.root, database, redis)
    if up:
        with state.hold():
            state.remember(running=RUNNING)
            assert resolve_addresses(wanted) == Addresses(*expected)
    else:
        assert resolve_addresses(wanted) == Addresses(*expected)


@pytest.mark.parametrize(
    ("database", "redis", "message"),
    [
        (None, None, "no servers: start `gsd-tasks up`, or set GSD_DATABASE_URL and GSD_REDIS_URL"),
        ("postgresql://env", None, "GSD_REDIS_URL is not set"),
        (None, "redis://env", "GSD_DATABASE_URL is not set"),
    ],
)
def test_without_servers_it_says_what_to_do(
    tmp_path: Path, database: str | None, redis: str | None, message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        resolve_addresses(settings(tmp_path / "none", database, redis))


def test_a_remembered_port_is_kept_while_it_is_free() -> None:
    port = choose_port(None)
    assert LOWEST <= port <= HIGHEST
    assert choose_port(port) == port
    assert not is_free(1) or os.geteuid() == 0


def test_a_stamp_is_of_one_life_and_a_zombie_is_none(tmp_path: Path) -> None:
    stamp = Stamp.of(os.getpid())
    assert stamp is not None
    stamp.write(tmp_path / "stamp")
    assert read_stamp(tmp_path / "stamp") == stamp
    assert stamp.is_alive()
    assert find_leftover(Stamp(stamp.pid, stamp.start_ticks - 1, stamp.boot_id)) is None
    child = subprocess.Popen([sys.executable, "-c", ""])
    wait_for(lambda: Stamp.of(child.pid) is None, "it has ended, and nobody has asked how")
    child.wait()


@pytest.mark.parametrize("content", [b"", b"[]", b'{"pid": "x"}', b"\xff"])
def test_a_damaged_stamp_is_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "stamp").write_bytes(content)
    assert read_stamp(tmp_path / "stamp") is None
