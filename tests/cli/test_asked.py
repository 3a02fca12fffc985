"""What the words of the command line become, and what cannot be understood."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from gsd_tasks.cli import asked
from gsd_tasks.domain.session import Effort, OnDenied, OnLost, PermissionMode
from tests.cli.conftest import Run
from tests.cli.fake_client import FakeClient
from tests.sessions import ID


def test_options_become_the_clients_arguments(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    now = asked.now()
    monkeypatch.setattr(asked, "now", lambda: now)
    client = FakeClient()
    ran = run(
        *("enqueue", "Fix it", "-C", "/srv/x", "--env", "A=1=2", "--env", "B=", "--name", "n", "--thread", "t"),
        *("--parent", "0199", "--queue", "q", "--priority", "0", "--run-at", "10m", "--expires", "1h"),
        *("--timeout", "30m", "--idle-timeout", "90", "--max-output", "10MB", "--key", "k", "--context", '{"a": [1]}'),
        *("--on-lost", "fail", "--model", "m", "--max-turns", "7", "--allowed-tools", "Bash(a, b),Read"),
        *("--allowed-tools", "Edit", "--permission-mode", "plan", "--max-tries", "5", "--max-recoveries", "0"),
        *("--secret", "A_TOKEN", "--secret", "B", "--disallowed-tools", "Bash(rm:*),WebFetch", "--add-dir", "/srv/y"),
        *("--add-dir", "z", "--mcp-config", '{"mcpServers": {}}', "--append-system-prompt", "Be kind", "--agents"),
        *('{"a": {}}', "--fallback-model", "h", "--effort", "max", "--max-budget-usd", "0.5", "--json-schema", "{}"),
        *("--on-denied", "ignore"),
        client=client,
    )
    assert (ran.code, ran.out, ran.err) == (0, f"{ID}\n", "")
    assert client.requests == [
        {
            "prompt": "Fix it",
            "working_dir": Path("/srv/x"),
            "env": {"A": "1=2", "B": ""},
            "name": "n",
            "thread": "t",
            "parent": "0199",
            "queue": "q",
            "priority": 0,
            "run_at": now + timedelta(minutes=10),
            "expires_at": now + timedelta(hours=1),
            "timeout_s": 1800,
            "idle_timeout_s": 90,
            "max_output_bytes": 10**7,
            "key": "k",
            "context": {"a": [1]},
            "on_lost": OnLost.FAIL,
            "model": "m",
            "max_turns": 7,
            "allowed_tools": ("Bash(a, b)", "Read", "Edit"),
            "permission_mode": PermissionMode.PLAN,
            "on_denied": OnDenied.IGNORE,
            "max_tries": 5,
            "max_recoveries": 0,
            "secrets": ["A_TOKEN", "B"],
            "disallowed_tools": ("Bash(rm:*)", "WebFetch"),
            "add_dirs": [Path("/srv/y"), Path.cwd() / "z"],
            "mcp_config": {"mcpServers": {}},
            "append_system_prompt": "Be kind",
            "agents": {"a": {}},
            "fallback_model": "h",
            "effort": Effort.MAX,
            "max_budget_usd": 0.5,
            "json_schema": {},
        }
    ]


def test_what_is_not_given_is_left_to_the_clients_defaults(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")
    client = FakeClient()
    assert run("run", "-d", "--", "make", client=client).out == f"{ID}\n"
    assert client.requests == [
        {"command": ("make",), "working_dir": Path("/"), "env": {}, "queue": "sessions", "priority": 5}
    ]


def test_a_prompt_comes_from_standard_input_or_a_file(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "prompt"
    file.write_text("Füge es\nzusammen\n", encoding="utf-8")
    client = FakeClient()
    run("enqueue", "-", client=client, stdin=b"Repariere es\n")
    run("enqueue", "--prompt-file", str(file), client=client)
    assert [request["prompt"] for request in client.requests] == ["Repariere es\n", "Füge es\nzusammen\n"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run"], "say what to run"),
        (["run", "--"], "no command after --"),
        (["run", "a prompt", "--", "make"], "not several"),
        (["run", "a prompt", "--prompt-file", "x"], "not several"),
        (["run", "two", "prompts"], "unexpected extra argument"),
        (["run", "--prompt-file", "/nowhere/x"], "No such file"),
        (["run", "--prompt-file", "/"], "directory"),
        (["run", "p", "--env", "A"], "'A' is not NAME=VALUE"),
        (["run", "p", "--env", "=a"], "'=a' is not NAME=VALUE"),
        (["run", "p", "--priority", "10"], "--priority"),
        (["run", "p", "--priority", "x"], "--priority"),
        (["run", "p", "--context", "[1]"], "must be a JSON object"),
        (["run", "p", "--context", "{"], "is no JSON"),
        (["run", "p", "--context", '{"a":' * 100_000], "is no JSON"),
        (["run", "p", "--timeout", "soon"], "--timeout: 'soon' is no duration"),
        (["run", "p", "--max-output", "10M"], "--max-output: '10M' is no size"),
        (["run", "p", "--run-at", "later"], "--run-at: 'later' is no time"),
        (["run", "p", "--expires", "\x1b[2J"], "is no time"),
        (["run", "--model", "m", "--", "make"], "--model is for a Claude session"),
        (["run", "--max-turns", "3", "--", "make"], "--max-turns is for a Claude session"),
        (["run", "--allowed-tools", "Read", "--", "make"], "--allowed-tools is for a Claude session"),
        (["run", "--permission-mode", "acceptEdits", "--", "make"], "--permission-mode is for a Claude session"),
        (["run", "--permission-mode", "yolo", "p"], "--permission-mode"),
        (["run", "--on-denied", "ignore", "--", "make"], "--on-denied is for a Claude session"),
        (["run", "--on-denied", "shrug", "p"], "--on-denied"),
        (["run", "--effort", "utmost", "p"], "--effort"),
        (["run", "--max-budget-usd", "much", "p"], "--max-budget-usd"),
        (["run", "--mcp-config", "{", "p"], "--mcp-config: is no JSON"),
        (["run", "--mcp-config", "/nowhere/x", "p"], "--mcp-config: /nowhere/x: No such file"),
        (["run", "--agents", "[1]", "p"], "--agents: [1]: No such file"),
        (["run", "--agents", "/dev/zero", "p"], "--agents: /dev/zero: is larger than"),
        (["run", "--json-schema", "", "p"], "--json-schema: "),
        *(
            (["run", option, value, "--", "make"], f"{option} is for a Claude session")
            for option, value in (
                ("--disallowed-tools", "Read"),
                ("--add-dir", "/"),
                ("--mcp-config", "{}"),
                ("--append-system-prompt", "x"),
                ("--agents", "{}"),
                ("--fallback-model", "m"),
                ("--effort", "low"),
                ("--max-budget-usd", "1"),
                ("--json-schema", "{}"),
            )
        ),
        (["run", "caf\udce9"], "argument 2 is no valid text"),
        (["run", "--no-such-option"], "o such option"),
        (["no-such-command"], "o such command"),
        (["show"], "issing argument"),
        (["show", "ffff"], "no session 'ffff'"),
        (["logs", "0199", "--raw", "--json"], "--raw"),
        (["logs", "0199", "--stream", "stdin"], "--stream"),
        (["logs", "0199", "--since", "soon"], "--since: 'soon' is no time"),
        (["ps", "--limit", "0"], "--limit"),
        (["ps", "--status", "lost"], "--status"),
        (["wait", "0199", "--timeout", "x"], "--timeout: 'x' is no duration"),
    ],
)
def test_what_cannot_be_understood_gets_one_line_and_exit_code_2(run: Run, arguments: list[str], words: str) -> None:
    client = FakeClient()
    ran = run(*arguments, client=client)
    assert ran.code == 2
    assert ran.err.startswith("gsd-tasks: ")
    assert words in ran.err
    assert ran.err.count("\n") == 1
    assert ran.err[:-1].isprintable()
    assert (ran.out, client.requests) == ("", [])


def test_a_document_comes_from_a_file_as_well(run: Run, tmp_path: Path) -> None:
    """It is read here: the worker may be on another host."""
    file = tmp_path / "schema.json"
    file.write_text('\n{"type": "object"}', encoding="utf-8")
    client = FakeClient()
    run("enqueue", "p", "--json-schema", str(file), client=client)
    assert client.requests[0]["json_schema"] == {"type": "object"}

    file.write_text("[1]")
    ran = run("enqueue", "p", "--json-schema", str(file), client=client)
    assert (ran.code, ran.err) == (2, f"gsd-tasks: --json-schema: {file}: holds no JSON object\n")


def test_a_secret_is_for_a_command_as_well(run: Run) -> None:
    client = FakeClient()
    run("enqueue", "--secret", "TOKEN", "--", "make", client=client)
    assert client.requests[0]["secrets"] == ["TOKEN"]


def test_a_prompt_that_is_no_text_is_refused(run: Run) -> None:
    ran = run("run", "-", stdin=b"Fix caf\xe9")
    assert (ran.code, ran.err) == (2, "gsd-tasks: prompt: standard input is no valid text (UTF-8): byte 8\n")


def test_an_endless_prompt_is_refused_and_not_read_to_its_end(run: Run) -> None:
    ran = run("run", "--prompt-file", "/dev/zero")
    assert ran.code == 2
    assert "is longer than" in ran.err
