"""How the claude CLI is started: which binary, which arguments, which variables, which folders.

Prompts are given on stdin, never as arguments: every user of the host can read arguments.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from gsd_tasks.domain.errors import ConfigurationError
from gsd_tasks.domain.session import ClaudeOptions, PermissionMode

if TYPE_CHECKING:
    from collections.abc import Mapping

# The child talks to the API and to nobody else, and does not replace its own binary under a running session.
QUIET: Final = {
    "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    "DISABLE_TELEMETRY": "1",
    "DISABLE_AUTOUPDATER": "1",
    "DISABLE_ERROR_REPORTING": "1",
}
_LONGEST_VERSION: Final = 80


def find_claude(claude_bin: Path | None, path: str) -> Path:
    """The binary: `claude_bin` if it is set, else `claude` on `path`, else the one in the claude-agent-sdk package.

    Raises:
        ConfigurationError: there is none, or `claude_bin` is no program.
    """
    if claude_bin is not None:
        if not _is_program(claude_bin):
            raise ConfigurationError(f"GSD_CLAUDE_BIN: {claude_bin} is no program that this user can run")
        return claude_bin.absolute()
    # Relative entries would mean another binary in every working directory.
    absolute = os.pathsep.join(entry for entry in path.split(os.pathsep) if Path(entry).is_absolute())
    if found := shutil.which("claude", path=absolute):
        return Path(found)
    if (bundled := _bundled()) is not None:
        return bundled
    raise ConfigurationError(
        "no claude CLI: set GSD_CLAUDE_BIN, put `claude` on PATH, or install it with `pip install 'gsd-tasks[claude]'`"
    )


def ask_version(binary: Path, timeout_s: float = 20.0) -> str:
    """What the binary says of itself: `2.1.9 (Claude Code)`. Whatever it writes goes to a folder that is removed.

    Raises:
        ConfigurationError: it cannot be run, or says nothing.
    """
    with tempfile.TemporaryDirectory(prefix="gsd-claude-", ignore_cleanup_errors=True) as folder:
        env = {"PATH": os.environ.get("PATH", ""), "HOME": folder, "CLAUDE_CONFIG_DIR": folder, **QUIET}
        asked = [str(binary), "--version"]
        try:
            ran = subprocess.run(
                asked, env=env, stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout_s, check=True
            )
        except (OSError, subprocess.SubprocessError) as error:
            why = error.strerror if isinstance(error, OSError) else type(error).__name__
            raise ConfigurationError(f"`{binary} --version` does not work ({why}): install it again") from error
    if not (words := ran.stdout.decode(errors="replace").strip()):
        raise ConfigurationError(f"`{binary} --version` says nothing: install it again")
    return words.splitlines()[0][:_LONGEST_VERSION]


def claude_argv(binary: Path, session_id: UUID, options: ClaudeOptions, *, resumes: bool = False) -> tuple[str, ...]:
    """The command line of one headless run, which reads messages from stdin (`domain.transcript`) until EOF.

    `resumes`: its config folder has the conversation's record, and it goes on from there.
    """
    # Else the working directory's own hooks, settings and MCP servers run unasked, and anybody may have written them.
    safe = ("--setting-sources=", "--strict-mcp-config")
    streams = ("--input-format=stream-json", "--output-format=stream-json", "--verbose", "--replay-user-messages")
    which = f"--resume={session_id}" if resumes else f"--session-id={session_id}"
    return (str(binary), "-p", *streams, *safe, which, *_chosen(options))


def claude_env(private_dir: Path, options: ClaudeOptions) -> dict[str, str]:
    """What a claude child needs besides `child_environment`, and on top of it: its folders, and silence.

    `private_dir` comes from `make_private_dir`.
    """
    tmp = str(private_dir / "tmp")
    env = {"CLAUDE_CONFIG_DIR": str(private_dir / "config"), "TMPDIR": tmp, "CLAUDE_CODE_TMPDIR": tmp, **QUIET}
    # A tool that times out would move to the background, outlive its turn and cause a second result.
    env["CLAUDE_CODE_DISABLE_BACKGROUND_TASKS"] = "1"
    if options.permission_mode is PermissionMode.BYPASS and os.geteuid() == 0:
        # The CLI refuses this mode to root unless it is told that the host is made for it. Who starts workers as root
        # and asks for the mode has decided so.
        env["IS_SANDBOX"] = "1"
    return env


def make_private_dir(base: Path, session_id: UUID, attempt: int) -> Path:
    """A new folder, for its owner alone, with the `config` and `tmp` of one attempt.

    One per attempt, because the CLI refuses a session id that its config folder knows already. What is left of an
    earlier life of this attempt number is removed. `remove_private_dir` ends it.
    """
    folder = private_dir(base, session_id, attempt)
    remove_private_dir(base, session_id, attempt)
    base.mkdir(mode=0o700, parents=True, exist_ok=True)
    for missing in (folder, folder / "config", folder / "tmp"):
        missing.mkdir(mode=0o700)
    return folder


def remove_private_dir(base: Path, session_id: UUID, attempt: int) -> None:
    """Remove what `make_private_dir` made; nothing happens if it is gone already. Links in it are not followed."""
    folder = private_dir(base, session_id, attempt)
    try:
        shutil.rmtree(folder, ignore_errors=True)
    except RecursionError:
        # A child has nested folders deeper than Python (up to 3.12) can go. `rm` goes to any depth.
        subprocess.run(["rm", "-rf", "--", folder], check=False, capture_output=True, stdin=subprocess.DEVNULL)


def private_dir(base: Path, session_id: UUID, attempt: int) -> Path:
    """Where that folder is, or would be: named by the random half of the id and the attempt.

    Short, because the CLI puts a socket into its temp folder: where that folder's path is longer than 83 bytes, it
    takes `/tmp/cc-socks-UID` instead and leaves it there. So `base` should have no more than 60.
    """
    return base / f"{session_id.hex[16:]}-{attempt}"


def write_options(private_dir: Path, options: ClaudeOptions) -> tuple[str, ...]:
    """Put what nobody else is to read into files of the private folder; the arguments that name them.

    Only a JSON schema has to be an argument (`_chosen`): the CLI takes it from nowhere else.
    """
    documents = {
        "--mcp-config": _json(options.mcp_config),
        "--agents": _json(options.agents),
        "--append-system-prompt-file": options.append_system_prompt,
    }
    given = {flag: text for flag, text in documents.items() if text is not None}
    return tuple(f"{flag}={write_private(private_dir / flag.strip('-'), text)}" for flag, text in given.items())


def _json(document: Mapping[str, Any] | None) -> str | None:
    return None if document is None else json.dumps(document)


def write_private(path: Path, text: str) -> Path:
    """A new file that its owner alone can read. Raises OSError."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(text.encode())
    return path


def _chosen(options: ClaudeOptions) -> list[str]:
    # With `=`, so that no value is taken for a flag.
    once = {
        "--permission-mode": options.permission_mode,
        "--model": options.model,
        "--fallback-model": options.fallback_model,
        "--effort": options.effort,
        "--max-turns": options.max_turns,
        "--max-budget-usd": options.max_budget_usd,
        "--json-schema": _json(options.json_schema),
    }
    argv = [f"{flag}={value}" for flag, value in once.items() if value is not None]
    # One flag each: it takes any number of values and would swallow what follows.
    argv.extend(f"--add-dir={folder}" for folder in options.add_dirs)
    argv.extend(f"--disallowedTools={tool}" for tool in options.disallowed_tools)
    argv.extend(f"--allowedTools={tool}" for tool in options.allowed_tools)
    return argv


def _bundled() -> Path | None:
    spec = importlib.util.find_spec("claude_agent_sdk")
    if spec is None or spec.origin is None:
        return None
    binary = Path(spec.origin).parent / "_bundled" / "claude"
    return binary if _is_program(binary) else None


def _is_program(path: Path) -> bool:
    return path.is_file() and os.access(path, os.X_OK)
