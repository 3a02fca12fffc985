from __future__ import annotations

import json
import os
import uuid
from pathlib import Path

import pytest

from gsd_tasks.domain.errors import ConfigurationError
from gsd_tasks.domain.session import ClaudeOptions, Effort, PermissionMode
from gsd_tasks.process import claude
from gsd_tasks.process.claude import (
    claude_argv,
    claude_env,
    find_claude,
    make_private_dir,
    private_dir,
    remove_private_dir,
    write_options,
)

ID = uuid.UUID("0190c0de-0000-7000-8000-000000000001")
BINARY = Path("/opt/claude")


def program(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


def test_the_setting_comes_before_path_and_path_before_the_package(tmp_path: Path) -> None:
    chosen, on_path = program(tmp_path / "chosen"), program(tmp_path / "bin/claude")
    assert find_claude(chosen, str(on_path.parent)) == chosen
    assert find_claude(None, f"/nowhere:{on_path.parent}") == on_path
    assert find_claude(None, "/nowhere").name == "claude"


def test_a_relative_entry_of_path_is_not_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path / "claude")
    monkeypatch.chdir(tmp_path)
    assert find_claude(None, ".::").parent != tmp_path


@pytest.mark.parametrize("kind", ["missing", "folder", "no program"])
def test_a_setting_that_is_no_program_is_an_error(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "claude"
    if kind == "folder":
        path.mkdir()
    elif kind == "no program":
        path.touch(0o644)
    with pytest.raises(ConfigurationError, match="GSD_CLAUDE_BIN"):
        find_claude(path, "/usr/bin")


def test_without_any_claude_the_error_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claude, "_bundled", lambda: None)
    with pytest.raises(ConfigurationError, match=r"GSD_CLAUDE_BIN.*PATH.*pip install") as missing:
        find_claude(None, "")
    assert "\n" not in str(missing.value)


def test_the_options_become_flags() -> None:
    options = ClaudeOptions(
        model="opus", max_turns=3, allowed_tools=("Read", "Bash(git *)"), permission_mode=PermissionMode.PLAN
    )
    argv = claude_argv(BINARY, ID, options)
    assert argv[0] == str(BINARY)
    assert {"-p", "--output-format=stream-json", "--verbose", "--setting-sources=", "--strict-mcp-config"} < set(argv)
    assert {"--model=opus", "--max-turns=3", "--permission-mode=plan", f"--session-id={ID}"} < set(argv)
    assert argv[-2:] == ("--allowedTools=Read", "--allowedTools=Bash(git *)")


def test_further_options_become_flags_too() -> None:
    options = ClaudeOptions(
        disallowed_tools=("Bash",),
        add_dirs=("/a", "/b c"),
        fallback_model="haiku",
        effort=Effort.HIGH,
        max_budget_usd=0.5,
        json_schema={"type": "object"},
    )
    argv = claude_argv(BINARY, ID, options)
    assert {"--disallowedTools=Bash", "--add-dir=/a", "--add-dir=/b c", "--fallback-model=haiku"} < set(argv)
    assert {"--effort=high", "--max-budget-usd=0.5", '--json-schema={"type": "object"}'} < set(argv)


def test_what_is_not_chosen_is_left_to_the_cli(tmp_path: Path) -> None:
    argv = claude_argv(BINARY, ID, ClaudeOptions(model=None, max_turns=None))
    fixed = {"--input-format", "--output-format", "--setting-sources", "--session-id", "--permission-mode"}
    assert {flag.partition("=")[0] for flag in argv if "=" in flag} == fixed
    assert write_options(tmp_path, ClaudeOptions()) == ()


def test_what_may_hold_a_token_stands_in_files_that_their_owner_alone_can_read(tmp_path: Path) -> None:
    options = ClaudeOptions(
        mcp_config={"mcpServers": {"a": {"env": {"T": "xyzzy"}}}}, agents={"a": {}}, append_system_prompt="xyzzy é"
    )
    old = os.umask(0)
    try:
        flags = write_options(tmp_path, options)
    finally:
        os.umask(old)
    files = {flag: Path(name) for flag, _, name in (flag.partition("=") for flag in flags)}
    assert set(files) == {"--mcp-config", "--agents", "--append-system-prompt-file"}
    assert "xyzzy" not in str(flags)
    assert json.loads(files["--mcp-config"].read_bytes()) == options.mcp_config
    assert json.loads(files["--agents"].read_bytes()) == options.agents
    assert files["--append-system-prompt-file"].read_bytes() == "xyzzy é".encode()
    assert {path.stat().st_mode & 0o777 for path in files.values()} == {0o600}
    assert {path.parent for path in files.values()} == {tmp_path}


def test_a_value_cannot_become_a_flag_of_its_own() -> None:
    argv = claude_argv(BINARY, ID, ClaudeOptions(model="--dangerously-skip-permissions", allowed_tools=("--debug",)))
    assert not {"--dangerously-skip-permissions", "--debug"} & set(argv)


@pytest.mark.parametrize(
    ("euid", "mode", "expected"), [(0, "bypassPermissions", True), (0, "plan", False), (7, "bypassPermissions", False)]
)
def test_only_root_that_bypasses_permissions_calls_itself_a_sandbox(
    monkeypatch: pytest.MonkeyPatch,
    euid: int,
    mode: str,
    expected: bool,
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: euid)
    assert ("IS_SANDBOX" in claude_env(Path("/p"), ClaudeOptions(permission_mode=PermissionMode(mode)))) is expected


def test_a_private_folder_is_closed_to_others_whatever_the_umask(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        folder = make_private_dir(tmp_path / "a/b", ID, 1)
    finally:
        os.umask(old)
    assert [path.stat().st_mode & 0o777 for path in (folder.parent, folder, *folder.iterdir())] == [0o700] * 4
    env = claude_env(folder, ClaudeOptions())
    assert all(Path(env[name]).is_dir() for name in ("CLAUDE_CONFIG_DIR", "TMPDIR", "CLAUDE_CODE_TMPDIR"))


def test_attempts_have_folders_of_their_own_and_one_made_again_is_empty(tmp_path: Path) -> None:
    first = make_private_dir(tmp_path, ID, 1)
    (first / "config/left").touch()
    assert make_private_dir(tmp_path, ID, 2) != first
    assert list((make_private_dir(tmp_path, ID, 1) / "config").iterdir()) == []


def test_removing_takes_one_attempt_and_follows_no_link(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.touch()
    (make_private_dir(tmp_path / "p", ID, 1) / "tmp/link").symlink_to(outside)
    other = make_private_dir(tmp_path / "p", ID, 2)
    remove_private_dir(tmp_path / "p", ID, 1)
    remove_private_dir(tmp_path / "p", ID, 1)
    assert not private_dir(tmp_path / "p", ID, 1).exists()
    assert other.exists()
    assert outside.exists()


def test_folders_that_a_child_has_nested_too_deeply_are_removed_too(tmp_path: Path) -> None:
    folder = make_private_dir(tmp_path, ID, 1)
    here = os.open(folder / "tmp", os.O_RDONLY)
    for _ in range(1500):
        os.mkdir("d", dir_fd=here)
        below = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    remove_private_dir(tmp_path, ID, 1)
    assert not folder.exists()
