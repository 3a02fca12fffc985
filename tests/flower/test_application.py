"""What Flower is set up with, and what it refuses to be set up with."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import pytest
from pydantic import SecretStr
from tornado.options import OptionParser

from gsd_tasks.celery_app import app
from gsd_tasks.celery_flower.application import credentials, set_defaults
from gsd_tasks.domain.errors import ConfigurationError
from gsd_tasks.settings import Settings

OWN = "gsd:a password that is set"


def options(**given: Any) -> OptionParser:
    """Flower's, as a process begins with them."""
    parser = OptionParser()
    kinds = {"address": str, "port": int, "read_only": bool, "max_tasks": int, "tasks_columns": str, "persistent": bool}
    for name, kind in kinds.items():
        parser.define(name, type=kind)
    parser.define("purge_offline_workers", type=int)
    parser.define("basic_auth", type=str, multiple=True)
    for name, value in given.items():
        setattr(parser, name, value)
    return parser


def settings(tmp_path: Path, **given: Any) -> Settings:
    return Settings(state_dir=tmp_path / "state", **given)


def test_it_listens_where_the_settings_say_and_changes_nothing(tmp_path: Path) -> None:
    chosen = options()
    set_defaults(chosen, settings(tmp_path))
    assert (chosen.address, chosen.port, chosen.read_only) == ("127.0.0.1", 5555, True)
    set_defaults(chosen, settings(tmp_path, flower_host="0.0.0.0", flower_port=1))
    assert (chosen.address, chosen.port) == ("0.0.0.0", 1)


def test_there_is_always_a_password(tmp_path: Path) -> None:
    (made,) = credentials(settings(tmp_path), options())
    assert made == f"gsd:{(tmp_path / 'state/flower-password').read_text().strip()}"
    assert credentials(settings(tmp_path), options(persistent=True)) == [made]
    given = settings(tmp_path / "other", flower_password=SecretStr("a password that is set"))
    assert credentials(given, options()) == [OWN]
    assert credentials(given, options(basic_auth=["me:twelve chars"])) == ["me:twelve chars", OWN]
    assert credentials(settings(tmp_path / "third"), options(basic_auth=["me:twelve chars"])) == ["me:twelve chars"]
    assert list(tmp_path.iterdir()) == [tmp_path / "state"]


@pytest.mark.parametrize("one", ["me:eleven char", "me:", "a long user without a password", "me:a password with an é"])
def test_a_password_that_guards_nothing_is_refused(tmp_path: Path, one: str) -> None:
    with pytest.raises(ConfigurationError, match="--basic_auth: is user:password, with a password of 12") as caught:
        credentials(settings(tmp_path), options(basic_auth=["me:twelve chars", one]))
    assert one not in str(caught.value)


def test_no_other_command_of_celery_loads_flowers_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    arranged: list[bool] = []
    monkeypatch.setattr("gsd_tasks.celery_flower.command.arrange", lambda: arranged.append(True))
    configured: list[str] = []
    monkeypatch.setattr("gsd_tasks.celery_app.configure_part", lambda _settings, part: configured.append(part))
    (option,) = app.user_options["preload"]
    for name in ("worker", "beat", "flower"):
        command = click.Command(name, params=[option], callback=lambda: None)
        assert "gsd-tasks" not in command.get_help(click.Context(command))
        command.main([], standalone_mode=False, obj=SimpleNamespace(quiet=False))
        assert arranged == ([True] if name == "flower" else [])
    assert configured == ["worker", "beat", "flower"]
