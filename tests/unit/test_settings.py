from __future__ import annotations

from pathlib import Path

import pytest

from gsd_tasks.domain.errors import ConfigurationError
from gsd_tasks.settings import read_settings, settings


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("GSD_LEASE_S", "soon"),
        ("GSD_LEASE_S", "0"),
        ("GSD_HEARTBEAT_S", "40"),
        ("GSD_LOG_LEVEL", "loud"),
        ("GSD_SECRETS_DIR", "/no/such/folder"),
    ],
)
def test_a_value_that_cannot_be_used_is_refused_by_its_name(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError) as refused:
        read_settings()
    assert str(refused.value).startswith(name)
    assert "\n" not in str(refused.value)


def test_secrets_come_from_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "GSD_REDIS_URL").write_text("redis://:pa55word@here/0\n")
    monkeypatch.setenv("GSD_SECRETS_DIR", str(tmp_path))
    found = read_settings()
    assert found.redis_url is not None
    assert found.redis_url.get_secret_value() == "redis://:pa55word@here/0"
    assert "pa55word" not in repr(found)


def test_lists_are_separated_as_people_write_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GSD_QUEUES", "sessions, slow")
    monkeypatch.setenv("GSD_WORKSPACE_ROOTS", "/srv/a:/srv/b")
    monkeypatch.setenv("GSD_LOG_LEVEL", "debug")
    found = read_settings()
    assert found.queues == ("sessions", "slow")
    assert found.workspace_roots == ("/srv/a", "/srv/b")
    assert found.log_level == "DEBUG"


@pytest.mark.parametrize("level", ["DEBUG", "ERROR"])
def test_a_process_reads_them_once_but_each_test_its_own(monkeypatch: pytest.MonkeyPatch, level: str) -> None:
    monkeypatch.setenv("GSD_LOG_LEVEL", level)
    assert settings().log_level == level
    monkeypatch.setenv("GSD_LOG_LEVEL", "INFO")
    assert settings().log_level == level
