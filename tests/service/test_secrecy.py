"""Secrets and credentials reach the child that they are for, and nobody reads them in what it writes."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from gsd_tasks.client import Client
from gsd_tasks.domain.errors import NoCredentials
from gsd_tasks.domain.masking import Masker
from gsd_tasks.domain.policy import Ending
from gsd_tasks.domain.session import Kind, Session, SessionId, Submission
from gsd_tasks.domain.state import Reason, Status
from gsd_tasks.service import submit
from gsd_tasks.service.attempt import run_session
from gsd_tasks.service.node import Node
from gsd_tasks.service.secrecy import Given, hand_over, has_credentials, masked, recall, take_note
from gsd_tasks.settings import Settings
from gsd_tasks.store import Database, nodes, outputs
from tests.sessions import session as queued

KEY = "sk-ant-api03-0123456789"
TOKEN = 'a "tok\\en" of\ntwo lines'
CLAUDE = replace(queued(), kind=Kind.CLAUDE, prompt="Do it", command=None, env={})
Now = Callable[[SessionId], Session]


@pytest.fixture(autouse=True)
def of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """What other tests of this process have set is not this worker's."""
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)


@pytest.fixture
def secrets_dir(tmp_path: Path) -> Path:
    folder = tmp_path / "secrets"
    folder.mkdir()
    (folder / "DEPLOY_TOKEN").write_text(TOKEN + "\n")
    return folder


@pytest.fixture
def settings(settings: Settings, secrets_dir: Path) -> Settings:
    return settings.model_copy(update={"secrets_dir": secrets_dir})


@pytest.fixture
def enqueue(database: Database, tmp_path: Path) -> Callable[..., SessionId]:
    def enqueue(**fields: object) -> SessionId:
        request = Submission(working_dir=str(tmp_path), **fields)  # type: ignore[arg-type]
        return submit.submit(database, lambda *_, **__: None, request).id

    return enqueue


PRINTS = """
import json, os, sys, time
token = os.environ["DEPLOY_TOKEN"]
def say(fd, text):
    os.write(fd, text.encode())
say(1, f"plain {token} end\\n")
say(1, json.dumps({"a": json.dumps({"b": token})}) + "\\n")
for half in (token[:5], token[5:] + "!\\n"):
    say(2, half)
    time.sleep(0.4)
"""


def test_a_named_secret_reaches_a_command_and_is_hidden_in_its_rows(
    node: Node, database: Database, enqueue: Callable[..., SessionId], now: Now, tmp_path: Path
) -> None:
    """Also within JSON, over a newline, and where a row ended in the middle of it. No count is changed by it."""
    session_id = enqueue(command=(sys.executable, "-c", PRINTS), secrets=("DEPLOY_TOKEN",))
    run_session(node, session_id)

    assert now(session_id).status is Status.COMPLETED, now(session_id)
    assert now(session_id).secrets == ("DEPLOY_TOKEN",)
    with database.connection() as connection:
        rows = outputs.read(connection, session_id, limit=99)
    written = {
        stream: b"".join(row.as_bytes() for row in rows if row.stream == stream) for stream in ("stdout", "stderr")
    }
    hidden = "".join("\n" if letter == "\n" else "*" for letter in TOKEN)
    twice = json.dumps(json.dumps(TOKEN)[1:-1])[1:-1]
    lines = written["stdout"].decode().split("\n")
    assert "\n".join(lines[:2]) == f"plain {hidden} end"
    assert lines[2] == json.dumps({"a": json.dumps({"b": TOKEN})}).replace(twice, "*" * len(twice))
    assert written["stderr"].decode() == f"{hidden}!\n"
    assert not (tmp_path / "state/sessions").exists() or list((tmp_path / "state/sessions").iterdir()) == []


def test_why_it_failed_is_told_without_its_secrets(
    node: Node, enqueue: Callable[..., SessionId], now: Now, secrets_dir: Path
) -> None:
    (secrets_dir / "WORD").write_text("class1fied")
    session_id = enqueue(command=("/nowhere/class1fied/program",), secrets=("WORD",))
    run_session(node, session_id)
    assert now(session_id).reason is Reason.START_FAILED
    assert (now(session_id).detail or "").startswith("/nowhere/**********/program: ")


@pytest.mark.parametrize("fields", [{"command": ("true",)}, {"prompt": "Do it", "env": {"ANTHROPIC_API_KEY": "k"}}])
def test_without_its_secret_a_session_fails_in_words_that_help(
    node: Node, enqueue: Callable[..., SessionId], now: Now, fields: dict[str, object]
) -> None:
    session_id = enqueue(**fields, secrets=("MISSING",), max_tries=3)
    run_session(node, session_id)
    ended = now(session_id)
    assert (ended.status, ended.reason) == (Status.FAILED, Reason.NO_SECRET)
    assert "secret MISSING: No such file" in (ended.detail or "")
    assert "GSD_SECRETS_DIR" in (ended.detail or "")


def test_without_credentials_a_claude_session_fails_in_words_that_help(
    node: Node, enqueue: Callable[..., SessionId], now: Now
) -> None:
    session_id = enqueue(prompt="Do it", max_tries=3)
    run_session(node, session_id)
    ended = now(session_id)
    assert (ended.status, ended.reason) == (Status.FAILED, Reason.NO_CREDENTIALS)
    assert "`claude setup-token`" in (ended.detail or "")
    assert "ANTHROPIC_API_KEY" in (ended.detail or "")


def test_a_worker_says_whether_it_has_credentials_and_hears_of_new_ones(
    node: Node, database: Database, secrets_dir: Path
) -> None:
    node._presence.stop()

    def have() -> bool | None:
        with database.connection() as connection:
            return nodes.have_credentials(connection, "sessions", silent_after_s=60)

    assert have() is False
    (secrets_dir / "ANTHROPIC_API_KEY").write_text(KEY)
    node._say_alive()
    assert have() is True
    with database.connection() as connection:
        assert [worker.has_credentials for worker in nodes.listed(connection, silent_after_s=60)] == [True]
        assert nodes.have_credentials(connection, "another", silent_after_s=60) is None
        assert nodes.have_credentials(connection, "sessions", silent_after_s=-60) is None


def test_a_claude_session_that_no_worker_could_run_is_refused_before_it_is_written(
    node: Node, settings: Settings, secrets_dir: Path
) -> None:
    """Where no worker is up for its queue, whichever comes decides; and it may bring its own."""
    node._presence.stop()
    with Client(settings=settings) as client:
        with pytest.raises(NoCredentials) as refused:
            client.enqueue(prompt="Do it")
        assert "\n" not in str(refused.value)
        assert all(words in str(refused.value) for words in ("'sessions'", "`claude setup-token`", "ANTHROPIC_API_KEY"))
        assert client.list() == []

        known = client.enqueue(prompt="Do it", key="k", queue="nobodys")
        client.enqueue(prompt="Do it", env={"ANTHROPIC_API_KEY": "k"})
        client.enqueue(prompt="Do it", secrets=["CLAUDE_CODE_OAUTH_TOKEN"])
        client.enqueue(command=["true"])
        assert len(client.list()) == 4

        (secrets_dir / "ANTHROPIC_API_KEY").write_text(KEY)
        node._say_alive()
        assert client.enqueue(prompt="Do it").status is Status.QUEUED

        (secrets_dir / "ANTHROPIC_API_KEY").unlink()
        node._say_alive()
        assert client.enqueue(prompt="Do it", key="k", queue="nobodys").id == known.id


def given(session: Session, settings: Settings) -> Given:
    found = hand_over(session, settings)
    assert isinstance(found, Given), found
    return found


def test_the_environment_comes_before_a_file_and_the_sessions_own_before_both(
    settings: Settings, secrets_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (secrets_dir / "ANTHROPIC_API_KEY").write_text("of the folder\n")
    (secrets_dir / "ANTHROPIC_MODEL").write_text("opus")
    assert has_credentials(settings)
    assert given(CLAUDE, settings).variables == {"ANTHROPIC_API_KEY": "of the folder", "ANTHROPIC_MODEL": "opus"}

    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    assert given(CLAUDE, settings).variables["ANTHROPIC_API_KEY"] == KEY
    assert set(given(CLAUDE, settings).hidden) == {"ANTHROPIC_API_KEY"}

    of_its_own = replace(CLAUDE, env={"ANTHROPIC_API_KEY": "its own key, and long enough"})
    assert "ANTHROPIC_API_KEY" not in given(of_its_own, settings).variables
    assert given(of_its_own, settings).hidden == {}


def test_no_setting_of_ours_is_handed_over_whatever_the_patterns_say(settings: Settings, secrets_dir: Path) -> None:
    (secrets_dir / "GSD_DATABASE_URL").write_text("postgresql://")
    (secrets_dir / "ANTHROPIC_API_KEY").write_text(KEY)
    generous = settings.model_copy(update={"claude_env": ("*",)})
    names = set(given(CLAUDE, generous).variables)
    assert "DEPLOY_TOKEN" in names
    assert not [name for name in names if name.startswith("GSD")]


def test_a_command_gets_no_credentials(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    command = replace(CLAUDE, kind=Kind.COMMAND, command=("true",), prompt=None)
    assert given(command, settings).variables == {}


def test_nothing_of_it_is_in_its_repr(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    assert KEY not in repr(given(CLAUDE, settings))


@pytest.fixture
def noted(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Session:
    """A session that was launched with a key and a secret, and is about to be adopted."""
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    session = replace(CLAUDE, secrets=("DEPLOY_TOKEN",))
    (tmp_path / "private").mkdir()
    take_note(tmp_path / "private", given(session, settings))
    return session


def test_who_adopts_hides_what_was_handed_over(noted: Session, settings: Settings, tmp_path: Path) -> None:
    note = tmp_path / "private/hidden.json"
    assert note.stat().st_mode & 0o777 == 0o600
    assert KEY not in note.read_text()

    masker = recall(noted, settings, tmp_path / "private")

    assert isinstance(masker, Masker)
    assert masker.mask_line(f"{KEY} and {TOKEN}").strip("*\n").strip("*") == " and "


def test_who_adopts_without_the_same_values_shows_nothing_more(
    noted: Session, settings: Settings, tmp_path: Path, secrets_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The child may print the old ones: it is not to go on, and begins again with the new ones where it may."""
    folder = tmp_path / "private"

    def refused() -> str:
        ending = recall(noted, settings, folder)
        assert isinstance(ending, Ending)
        assert (ending.reason, ending.handed_back) == (Reason.NO_SECRET, True)
        return (ending.detail or "").rpartition(": ")[2]

    with monkeypatch.context() as patched:
        patched.setenv("ANTHROPIC_API_KEY", "another one, just as long")
        assert refused() == "ANTHROPIC_API_KEY"
        patched.delenv("ANTHROPIC_API_KEY")
        assert refused() == "ANTHROPIC_API_KEY"
    (secrets_dir / "DEPLOY_TOKEN").write_text("another one")
    assert refused() == "DEPLOY_TOKEN"
    (secrets_dir / "DEPLOY_TOKEN").unlink()
    assert refused() == "DEPLOY_TOKEN"
    (folder / "hidden.json").write_text("{")
    assert "cannot be read" in refused()
    (folder / "hidden.json").unlink()
    assert refused() == "DEPLOY_TOKEN"


def test_who_adopts_what_was_noted_by_nobody_hides_what_it_can(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A version before this one has launched it."""
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    masker = recall(CLAUDE, settings, tmp_path)
    assert isinstance(masker, Masker)
    assert KEY not in masker.mask_line(KEY)


def test_how_it_ended_is_written_down_without_its_secrets() -> None:
    ending = Ending(reason=Reason.CLAUDE_ERROR, detail=f"no {KEY}", result={"text": f"say {KEY}", "turns": 1})
    stars = "*" * len(KEY)
    assert masked(ending, Masker([KEY])).detail == f"no {stars}"
    assert masked(ending, Masker([KEY])).result == {"text": f"say {stars}", "turns": 1}
    assert masked(ending, Masker()) is ending
