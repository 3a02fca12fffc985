"""The file with the token of an `up`, and to whom clients hand it."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from pydantic import SecretStr

from gsd_tasks.domain.errors import ConfigurationError, Unauthenticated
from gsd_tasks.domain.tokens import Scope
from gsd_tasks.local.addresses import Api, api_of
from gsd_tasks.local.api_token import keep_token, name_of, read_token
from gsd_tasks.local.state_dir import StateDir
from gsd_tasks.service import tokens
from gsd_tasks.settings import Settings
from gsd_tasks.store import Database

TOKEN = "gsd_0123456789abcdef_" + "A" * 43
UP = "http://127.0.0.1:21000"
RUNNING = {"database_url": "postgresql://up", "redis_url": "redis://up", "api_url": UP}


@pytest.fixture
def state(tmp_path: Path) -> StateDir:
    state = StateDir(tmp_path / "state")
    state.create()
    return state


def write(path: Path, content: str, mode: int = 0o600) -> None:
    path.write_text(content)
    path.chmod(mode)


def make(state: StateDir, database_url: str) -> str:
    keep_token(state, database_url)
    text = read_token(state.api_token)
    assert text is not None
    return text


def test_it_is_made_once_good_for_everything_and_its_owners_alone(
    state: StateDir, database: Database, database_url: str
) -> None:
    text = make(state, database_url)
    token = tokens.check(database, text, Scope.ADMIN)

    assert (token.name, token.expires_at) == (name_of(state), None)
    assert stat.S_IMODE(state.api_token.stat().st_mode) == 0o600
    assert make(state, database_url) == text
    assert len(tokens.listed(database)) == 1


@pytest.mark.parametrize("damage", ["gone", "cut", "empty", "bytes", "open", "link", "pipe", "unreadable", "revoked"])
def test_one_that_is_no_longer_good_is_replaced_and_its_predecessors_do_not_pile_up(
    state: StateDir, database: Database, database_url: str, tmp_path: Path, damage: str
) -> None:
    former = make(state, database_url)
    path = state.api_token
    match damage:
        case "gone":
            path.unlink()
        case "cut":
            write(path, former[:30])
        case "empty":
            write(path, "")
        case "bytes":
            path.write_bytes(b"\xff" * 2048)
        case "open":
            path.chmod(0o640)
        case "link":
            path.rename(tmp_path / "elsewhere")
            path.symlink_to(tmp_path / "elsewhere")
        case "pipe":
            path.unlink()
            os.mkfifo(path, 0o600)
        case "unreadable":
            path.chmod(0)  # root reads it all the same
        case _:
            tokens.revoke(database, name_of(state))
    text = make(state, database_url)
    if damage == "unreadable" and os.geteuid() == 0:
        assert text == former
        return

    assert text != former
    tokens.check(database, text, Scope.ADMIN)
    with pytest.raises(Unauthenticated):
        tokens.check(database, former, Scope.READ)
    assert stat.S_IMODE(path.lstat().st_mode) == 0o600
    assert len([token for token in tokens.listed(database) if token.revoked_at is None]) == 1
    assert len(tokens.listed(database)) <= 2  # one that somebody has revoked stays to be seen


def test_two_folders_with_one_database_leave_each_other_their_tokens(
    state: StateDir, database_url: str, tmp_path: Path
) -> None:
    other = StateDir(tmp_path / "other")
    other.create()
    mine = make(state, database_url)
    assert make(other, database_url) != mine
    assert make(state, database_url) == mine


def test_a_token_that_others_can_read_is_handed_to_nobody(state: StateDir) -> None:
    write(state.api_token, TOKEN, 0o604)
    with state.hold():
        state.remember(running=RUNNING)
        with pytest.raises(ConfigurationError, match="others can read it: start `gsd-tasks up` again"):
            api_of(Settings(state_dir=state.root, api_url=UP))
        assert api_of(Settings(state_dir=state.root, api_url=UP, api_token=SecretStr("mine"))) == Api(UP, "mine")


@pytest.mark.parametrize(
    ("url", "set_token", "expected"),
    [
        (None, None, None),
        ("", "mine", None),
        (UP, None, Api(UP, TOKEN)),
        (UP + "/", None, Api(UP + "/", TOKEN)),
        (UP, "mine", Api(UP, "mine")),
        (UP, "", Api(UP, TOKEN)),
        ("http://127.0.0.1:21001", None, Api("http://127.0.0.1:21001", None)),
        ("https://127.0.0.1:21000", None, Api("https://127.0.0.1:21000", None)),
        ("http://localhost:21000", None, Api("http://localhost:21000", None)),
        ("http://127.0.0.1.example:21000", None, Api("http://127.0.0.1.example:21000", None)),
        ("http://127.0.0.1:x", None, Api("http://127.0.0.1:x", None)),
        ("https://gsd.example", "mine", Api("https://gsd.example", "mine")),
    ],
)
def test_the_token_of_an_up_goes_to_its_own_api_alone(
    state: StateDir, url: str | None, set_token: str | None, expected: Api | None
) -> None:
    write(state.api_token, TOKEN)
    token = None if set_token is None else SecretStr(set_token)
    wanted = Settings(state_dir=state.root, api_url=url, api_token=token)
    with state.hold():
        state.remember(running=RUNNING)
        assert api_of(wanted) == expected
    stopped = api_of(wanted)
    assert stopped is None or stopped.token == (set_token or None)


def test_a_token_is_never_shown() -> None:
    assert TOKEN not in repr(Api(UP, TOKEN))
