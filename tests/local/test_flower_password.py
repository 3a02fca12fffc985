"""The password of Flower, and where its Flower listens."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from pydantic import SecretStr

from gsd_tasks.domain.errors import ConfigurationError
from gsd_tasks.local.flower_password import flower_password
from gsd_tasks.local.flower_place import FlowerPlace, choose_flower_place
from gsd_tasks.local.state_dir import StateDir
from gsd_tasks.settings import Settings, read_settings
from tests.local.conftest import answering


def test_it_is_made_once_and_kept_for_its_owner_alone(tmp_path: Path) -> None:
    settings = Settings(state_dir=tmp_path / "a" / "state")
    first = flower_password(settings)
    path = tmp_path / "a/state/flower-password"
    assert (len(first.text), first.place) == (32, str(path))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert flower_password(settings) == first
    assert first.text not in repr(first)
    assert flower_password(Settings(state_dir=tmp_path / "other")).text != first.text


def test_one_that_is_set_is_the_one_and_leaves_no_file(tmp_path: Path) -> None:
    settings = Settings(state_dir=tmp_path, flower_password=SecretStr("twelve chars"))
    assert flower_password(settings) == ("twelve chars", "GSD_FLOWER_PASSWORD")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("damage", ["open", "short", "quoted", "bytes", "link", "pipe"])
def test_one_that_others_may_know_or_that_is_none_is_replaced(tmp_path: Path, damage: str) -> None:
    settings, path = Settings(state_dir=tmp_path), tmp_path / "flower-password"
    former = flower_password(settings).text
    match damage:
        case "open":
            path.chmod(0o640)
        case "short":
            path.write_text(former[:11])
        case "quoted":
            path.write_text(f'"{former}"')
        case "bytes":
            path.write_bytes(b"\xff" * 2048)
        case "link":
            path.rename(tmp_path / "elsewhere")
            path.symlink_to(tmp_path / "elsewhere")
        case _:
            path.unlink()
            os.mkfifo(path, 0o600)
    made = flower_password(settings).text
    assert made != former
    assert len(made) == 32
    assert stat.S_IMODE(path.lstat().st_mode) == 0o600


def test_a_folder_that_takes_no_file_is_named_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match=r"/file/state .*: set GSD_FLOWER_PASSWORD, or put it into a file"):
        flower_password(Settings(state_dir=tmp_path / "file" / "state"))


@pytest.mark.parametrize("password", ["", "eleven char", "a password with an é", "a password\nof two lines"])
def test_a_password_that_guards_nothing_is_refused(monkeypatch: pytest.MonkeyPatch, password: str) -> None:
    monkeypatch.setenv("GSD_FLOWER_PASSWORD", password)
    with pytest.raises(ConfigurationError, match="a password here has") as caught:
        read_settings()
    assert not password or password not in str(caught.value)


def test_its_port_is_one_that_is_free_and_stays_the_same(tmp_path: Path) -> None:
    state = StateDir(tmp_path / "state")
    state.create()
    with state.hold():
        first = choose_flower_place(Settings(), state)
        assert first.host == "127.0.0.1"
        assert choose_flower_place(Settings(), state) == first
        assert choose_flower_place(Settings(flower_port=first.port), state) == first
        with pytest.raises(ConfigurationError, match=r"GSD_FLOWER_HOST: '192.0.2.1' is no address of this machine"):
            choose_flower_place(Settings(flower_host="192.0.2.1"), state)


@pytest.mark.parametrize(("status", "is_well"), [(401, True), (200, False), (500, False)])
def test_it_is_well_when_it_asks_for_the_password(status: int, *, is_well: bool) -> None:
    with answering(status, "/healthcheck") as port:
        place = FlowerPlace("127.0.0.1", port)
        assert place.is_served_by(os.getpid()) is is_well
        assert not place.is_served_by(2**22 + 1)
