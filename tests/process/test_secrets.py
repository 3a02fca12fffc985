"""Secrets are files of one folder, and what cannot be handed over or hidden is refused in words without its value."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gsd_tasks.domain.masking import LARGEST_VALUE_BYTES
from gsd_tasks.process.secrets import SecretRefused, host_has_credentials, read_by_others, read_named_like, read_secret


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "secrets"
    folder.mkdir()
    return folder


def test_newlines_at_its_end_do_not_count_and_others_do(folder: Path) -> None:
    (folder / "PEM").write_bytes(b"first\nsecond\r\n\n")
    assert read_secret(folder, "PEM") == "first\nsecond"
    (folder / "LARGEST").write_bytes(b"x" * LARGEST_VALUE_BYTES + b"\r\n")
    assert read_secret(folder, "LARGEST") == "x" * LARGEST_VALUE_BYTES


@pytest.mark.parametrize("name", ["GSD_DATABASE_URL", "gsd_redis_url", "GSDTASKS_MARKER", "../etc/passwd", "A/B", ""])
def test_the_workers_own_settings_are_no_secrets_of_anybodys(folder: Path, name: str) -> None:
    """Whoever wrote the session, and however."""
    (folder / "A").mkdir()
    for path in ("GSD_DATABASE_URL", "gsd_redis_url", "GSDTASKS_MARKER", "A/B"):
        (folder / path).write_text("value")
    with pytest.raises(SecretRefused, match="no secret has such a name"):
        read_secret(folder, name)


def test_a_link_within_the_folder_is_followed(folder: Path) -> None:
    """As Kubernetes makes them: the folder itself may be reached through one."""
    (folder / "..2026").mkdir()
    (folder / "..2026/TOKEN").write_text("a value 1")
    (folder / "..data").symlink_to("..2026")
    (folder / "TOKEN").symlink_to("..data/TOKEN")
    (folder.parent / "mounted").symlink_to(folder)
    assert read_secret(folder.parent / "mounted", "TOKEN") == "a value 1"


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "No such file"),
        (b"", "shorter than 4"),
        (b"abc\n", "shorter than 4"),
        (b"type", "plain word"),
        (b"assistant", "plain word"),
        (b"15432", "plain word or number"),
        (b"2026-11-21", "plain word or number"),
        (b'"quoted0"', "quotation mark"),
        (b"ends0\\", "backslash"),
        (b"x" * (LARGEST_VALUE_BYTES + 1), "longer than"),
        (b"value\xff", "no text"),
        (b"val\0ue", "NUL"),
    ],
)
def test_what_cannot_be_handed_over_and_hidden_is_refused(folder: Path, content: bytes | None, problem: str) -> None:
    if content is not None:
        (folder / "TOKEN").write_bytes(content)
    with pytest.raises(SecretRefused, match=problem) as refused:
        read_secret(folder, "TOKEN")
    assert str(refused.value).startswith("secret TOKEN: ")
    assert "val" not in str(refused.value).replace("value", "")
    assert "\n" not in str(refused.value)


def test_a_link_out_of_the_folder_is_refused(folder: Path) -> None:
    (folder.parent / "elsewhere").write_text("not yours")
    (folder / "TOKEN").symlink_to("../elsewhere")
    with pytest.raises(SecretRefused, match="leads out of"):
        read_secret(folder, "TOKEN")
    assert read_named_like(folder, ["*"]) == {}


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo], ids=["folder", "pipe"])
def test_what_is_no_file_is_refused_at_once(folder: Path, make: object) -> None:
    make(folder / "TOKEN")  # type: ignore[operator]
    with pytest.raises(SecretRefused, match="TOKEN"):
        read_secret(folder, "TOKEN")


def test_without_a_folder_it_says_what_to_set() -> None:
    with pytest.raises(SecretRefused, match="GSD_SECRETS_DIR"):
        read_secret(None, "TOKEN")
    assert read_named_like(None, ["*"]) == {}


def test_files_count_like_variables_by_their_names(folder: Path) -> None:
    for name in ("ANTHROPIC_API_KEY", "ANTHROPIC_MODEL", "GITHUB_TOKEN"):
        (folder / name).write_text(f"{name}\n")
    (folder / "ANTHROPIC_BROKEN").write_bytes(b"\xff")
    found = read_named_like(folder, ["ANTHROPIC_*"])
    assert found == {"ANTHROPIC_API_KEY": "ANTHROPIC_API_KEY", "ANTHROPIC_MODEL": "ANTHROPIC_MODEL"}


def test_it_is_known_who_else_may_read_one(folder: Path) -> None:
    (folder / "TOKEN").write_text("value")
    for mode, expected in ((0o600, False), (0o640, True), (0o604, True)):
        (folder / "TOKEN").chmod(mode)
        assert read_by_others(folder, "TOKEN") is expected
    assert not read_by_others(folder, "MISSING")


def test_an_administrators_settings_may_give_credentials(tmp_path: Path) -> None:
    managed = tmp_path / "managed-settings.json"
    assert not host_has_credentials(["ANTHROPIC_API_KEY"], managed)
    managed.write_text('{"env": {"ANTHROPIC_MODEL": "opus"}}')
    assert not host_has_credentials(["ANTHROPIC_API_KEY"], managed)
    managed.write_text('{"apiKeyHelper": "/usr/local/bin/key"}')
    assert host_has_credentials(["ANTHROPIC_API_KEY"], managed)
