"""`ps`, `show`, `history`, `workers`, `wait`, `cancel`, `pause`, `resume`, `retry` and `rm`: for people and as JSON."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta

import pytest

from gsd_tasks import __version__
from gsd_tasks.domain.errors import NotAllowed
from gsd_tasks.domain.session import ClaudeOptions, OnDenied, Session, Worker
from gsd_tasks.domain.state import Reason, Status
from tests.cli.conftest import Run
from tests.cli.fake_client import FakeClient
from tests.sessions import ID, session


@pytest.mark.parametrize("name", ["ps", "ls"])
def test_sessions_are_listed_with_an_id_that_can_be_used(run: Run, name: str) -> None:
    client = FakeClient()
    ran = run(name, client=client)
    heading, line = ran.out.splitlines()
    assert heading.split() == ["ID", "STATUS", "REASON", "AGE", "TOOK", "ROWS", "WHAT"]
    assert line.split()[:3] == ["0199a1b2-c3d4-7e5f", "queued", "enqueued"]
    assert run("show", line.split()[0], client=client).code == 0


def test_what_ps_is_asked_for_is_passed_on(run: Run) -> None:
    client = FakeClient()
    words = (
        "--status failed --status queued --name n --thread t --parent p --queue q --since 2026-11-01 --until 2026-11-02"
    )
    run("ps", *words.split(), "--limit", "3", "--after", "a", client=client)
    (asked,) = client.requests
    assert asked.pop("until") - asked.pop("since") == timedelta(days=1)
    assert asked == {
        "status": [Status.FAILED, Status.QUEUED],
        "name": "n",
        "thread": "t",
        "parent": "p",
        "queue": "q",
        "limit": 3,
        "after": "a",
    }


def test_names_and_prompts_are_shown_as_they_are_but_cannot_touch_the_terminal(run: Run) -> None:
    client = FakeClient()
    client.session = session(name="[bold]x[/bold] \x1b[2J :smile:", detail="\x9b31m", prompt="a\nb\x07", command=None)
    assert "[bold]x[/bold] ^[[2J :smile:" in run("ps", client=client).out
    shown = run("show", "0199", client=client).out
    assert "[bold]x[/bold] ^[[2J :smile:" in shown
    assert "\ufffd31m" in shown
    assert "prompt\n  a\n  b^G\n" in shown


def test_history_and_workers_are_tables(run: Run) -> None:
    history = run("history", "0199").out.splitlines()
    assert history[0].split() == ["AT", "FROM", "TO", "ATTEMPT", "REASON", "WORKER", "DETAIL"]
    assert history[1].split() == ["2026-11-21T12:00:00.000Z", "-", "queued", "1", "enqueued", "w@host"]
    workers = run("workers").out.splitlines()
    assert workers[1].startswith("w@host")
    assert "1 of 3" in workers[1]
    assert "2:0199a1b2-c3d4-7e5f" in workers[1]


@pytest.mark.parametrize(
    ("arguments", "fields"),
    [
        (("ps",), session().__dataclass_fields__),
        (("show", "0199"), session().__dataclass_fields__),
        (("wait", "0199"), session().__dataclass_fields__),
        *(((command, "0199"), session().__dataclass_fields__) for command in ("cancel", "pause", "resume", "retry")),
        (("workers",), Worker.__dataclass_fields__),
        (
            ("history", "0199"),
            ["session_id", "from_status", "to_status", "attempt", "worker", "reason", "detail", "at"],
        ),
    ],
)
def test_every_reading_command_has_one_json_document(run: Run, arguments: tuple[str, ...], fields: list[str]) -> None:
    ran = run(*arguments, "--json")
    assert ran.code == 0
    assert ran.out.count("\n") == 1
    document = json.loads(ran.out)
    one = document[0] if isinstance(document, list) else document
    assert set(fields) <= set(one)


def test_json_is_ascii_and_says_times_and_enums_as_text(run: Run) -> None:
    client = FakeClient()
    client.session = session(name="ü\x7f\x9b")
    ran = run("show", "0199", "--json", client=client)
    assert ran.out[:-1].isascii()
    assert ran.out[:-1].isprintable()
    document = json.loads(ran.out)
    assert document["name"] == "ü\x7f\x9b"
    assert (document["id"], document["status"], document["kind"]) == (str(ID), "queued", "command")
    assert document["created_at"] == "2026-11-21T12:00:00+00:00"
    assert document["limits"]["timeout_s"] == 7200


def test_wait_exits_as_run_would_or_with_124(run: Run) -> None:
    failed = {"status": Status.FAILED, "reason": Reason.TIMEOUT}
    assert run("wait", "0199", client=FakeClient(end=failed)).code == 124
    ran = run("wait", "0199", "--timeout", "0.01", client=FakeClient(hold=True))
    assert ran.code == 124
    assert "has not ended yet" in ran.err


def test_cancel_and_rm_say_what_they_did(run: Run) -> None:
    client = FakeClient()
    assert run("cancel", "0199", client=client).out == f"{ID} is told to end\n"
    client.session = replace(client.session, status=Status.CANCELLED)
    assert run("cancel", "0199", client=client).out == f"{ID} cancelled\n"
    assert run("rm", "0199", client=client).out == f"{ID} deleted\n"
    assert f"delete {ID}" in client.calls


@pytest.mark.parametrize(
    ("command", "status", "said"),
    [
        ("pause", Status.QUEUED, "paused"),
        ("pause", Status.RUNNING, "is told to pause"),
        ("resume", Status.PAUSED, "queued"),
        ("resume", Status.RUNNING, "running"),
        ("retry", Status.FAILED, "queued"),
    ],
)
def test_pause_resume_and_retry_say_how_it_stands_now(run: Run, command: str, status: Status, said: str) -> None:
    client = FakeClient()
    client.session = replace(client.session, status=status)
    ran = run(command, "0199", client=client)
    assert (ran.code, ran.out, ran.err) == (0, f"{ID} {said}\n", "")
    assert client.calls == [command, "close"]


@pytest.mark.parametrize("command", ["pause", "resume", "retry"])
def test_what_the_state_forbids_is_one_line_and_a_wrong_request(
    run: Run, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: str | None) -> Session:
        raise NotAllowed(str(ID), "has completed: enqueue it again")

    client = FakeClient()
    monkeypatch.setattr(client, command, refuse)
    ran = run(command, "0199", client=client)
    assert (ran.code, ran.out, ran.err) == (2, "", f"gsd-tasks: session {ID}: has completed: enqueue it again\n")
    assert run(command, "nothing").code == 2


def test_budgets_are_shown_with_what_is_used_of_them(run: Run) -> None:
    client = FakeClient()
    client.session = session(tries=1, max_tries=4, recoveries=2, max_recoveries=3)
    lines = [line.split() for line in run("show", "0199", client=client).out.splitlines()]
    assert ["tries", "1", "of", "4", "failed"] in lines
    assert ["recoveries", "2", "of", "3"] in lines


def test_what_a_claude_session_was_given_is_shown(run: Run) -> None:
    options = ClaudeOptions(
        model="opus",
        allowed_tools=("Read", "Bash(git:*)"),
        disallowed_tools=("Write",),
        add_dirs=("/srv/lib",),
        mcp_config={"mcpServers": {"tickets": "***"}},
        append_system_prompt="Be\nbrief.",
        agents={"reviewer": {"prompt": "x"}},
        fallback_model="haiku",
        max_budget_usd=2.5,
        json_schema={"type": "object"},
        on_denied=OnDenied.IGNORE,
    )
    client = FakeClient()
    client.session = session(
        prompt="Work", command=None, claude=options, secrets=("TICKETS",), messages=2, forked_from=ID
    )
    lines = (line.partition("  ") for line in run("show", "0199", client=client).out.splitlines())
    shown = {name: value.strip() for name, _, value in lines}
    expected = {
        "claude": "opus, 200 turns, acceptEdits, $2.5, else haiku, may be denied tools",
        "allowed tools": "Read, Bash(git:*)",
        "denied tools": "Write",
        "further dirs": "/srv/lib",
        "system prompt": "Be brief.",
        "MCP servers": "tickets",
        "agents": "reviewer",
        "JSON schema": '{"type": "object"}',
        "secrets": "TICKETS",
        "messages": "2",
        "forked from": str(ID),
    }
    assert {name: shown.get(name) for name in expected} == expected


def test_version_and_help(run: Run) -> None:
    assert run("--version").out == f"gsd-tasks {__version__}\n"
    assert run().out == run("--help").out
    for line in ("2h", "30m", "2GiB", "200", "acceptEdits", "sessions"):
        assert line in run("run", "--help").out
