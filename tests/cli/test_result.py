"""`result`, and what `show` has of it: the answer of a Claude session, for scripts and for people."""

from __future__ import annotations

import json
import os
import pty
import sys
from contextlib import suppress
from io import FileIO
from typing import Any

import pytest

from gsd_tasks.domain.claude_results import ResultEvent
from gsd_tasks.domain.session import Kind
from gsd_tasks.domain.state import Reason, Status
from tests.cli.conftest import Run
from tests.cli.fake_client import FakeClient
from tests.sessions import ID, session
from tests.unit.test_claude_events import result as parsed

USAGE = {"inputTokens": 31_204, "outputTokens": 1170, "cacheReadInputTokens": 25, "cacheCreationInputTokens": 7}


def event(**changes: Any) -> ResultEvent:
    return parsed(
        **{"duration_ms": 12_300, "modelUsage": {"claude-opus-5-5": USAGE}, "permission_denials": []} | changes
    )


def client(of: ResultEvent | None = None, **changes: Any) -> FakeClient:
    fake = FakeClient()
    ended = {"status": Status.COMPLETED, "reason": Reason.FINISHED, "result": None if of is None else of.summary()}
    fake.session = session(kind=Kind.CLAUDE, prompt="Do it", command=None, **ended | changes)
    return fake


def test_the_answer_is_printed_exactly(run: Run) -> None:
    ran = run("result", "0199", client=client(event(result="One\r\ntwo \x1b[1m\n")))
    assert (ran.code, ran.out, ran.err) == (0, "One\r\ntwo \x1b[1m\n\n", "")
    assert run("result", "0199", client=client(event(result="", errors=[]))).out == "\n"


def test_on_a_terminal_the_answer_is_made_safe(monkeypatch: pytest.MonkeyPatch) -> None:
    from gsd_tasks.cli import connection, main

    monkeypatch.setattr(connection, "connect", lambda: client(event(result="One\ntwo \x1b[1m")))
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "w") as terminal, os.fdopen(ours, "rb", buffering=0) as screen:
        monkeypatch.setattr(sys, "stdout", terminal)
        assert main(["result", "0199"]) == 0
        terminal.close()
        assert _read_all(screen) == b"One\r\ntwo ^[[1m\r\n"


def _read_all(screen: FileIO) -> bytes:
    """A terminal hands on what is written in pieces, and fails once nobody can write any more."""
    shown = b""
    with suppress(OSError):
        while piece := screen.read(1000):
            shown += piece
    return shown


def test_structured_output_comes_as_json(run: Run) -> None:
    answered = client(event(structured_output={"answer": [42, "ü"]}, result="{}"))
    ran = run("result", "0199", client=answered)
    assert json.loads(ran.out) == {"answer": [42, "ü"]}
    assert run("result", "0199", client=client(event(structured_output=[]))).out == "[]\n"


def test_json_has_the_whole_result_also_of_a_failure(run: Run) -> None:
    failed = event(is_error=True, api_error_status=529)
    ran = run("result", "0199", "--json", client=client(failed, status=Status.FAILED, reason=Reason.OVERLOADED))
    assert (ran.code, json.loads(ran.out)) == (0, failed.summary())


@pytest.mark.parametrize(
    ("fake", "code", "words"),
    [
        (client(status=Status.RUNNING), 2, "has no answer yet: it is running; `gsd-tasks wait` waits for it"),
        (FakeClient(), 2, "is a command, which gives no answer: `gsd-tasks logs` has what it wrote"),
        (
            client(status=Status.FAILED, reason=Reason.NO_RESULT, detail="claude ended with exit code 1"),
            1,
            "ended without an answer (no_result): claude ended with exit code 1",
        ),
        (
            client(event(is_error=True, result="why"), status=Status.FAILED, reason=Reason.OVERLOADED, detail="busy\n"),
            1,
            "ended without an answer (overloaded): busy",
        ),
    ],
)
def test_why_there_is_no_answer_is_one_line_on_standard_error(
    run: Run, fake: FakeClient, code: int, words: str
) -> None:
    ran = run("result", "0199", client=fake)
    assert (ran.code, ran.out) == (code, "")
    assert ran.err.count("\n") == 1
    assert str(ID) in ran.err
    assert ran.err.endswith(f"{words}\n")


def test_show_has_what_an_answer_took(run: Run) -> None:
    denials = [{"tool_name": "Bash", "tool_use_id": "t", "tool_input": {"command": "mkfifo x"}}] * 2
    answered = event(result="Done.\nAll of it.", structured_output={"a": 1}, permission_denials=denials)
    out = run("show", "0199", client=client(answered)).out
    fields = dict(line.split("  ", 1) for line in out.splitlines() if not line.startswith(" ") and "  " in line)
    assert fields["model"].strip() == "claude-opus-5-5"
    assert fields["turns"].strip() == "2 in 12.3s"
    assert fields["tokens"].strip() == "31,204 in, 1,170 out; cache: 25 read, 7 written"
    assert fields["cost"].strip() == "$0.2500"
    assert fields["structured"].strip() == '{"a": 1}'
    assert "not allowed\n  Bash mkfifo x\n  Bash mkfifo x\n" in out
    assert "result\n  Done.\n  All of it.\n" in out


def test_show_makes_do_with_what_an_older_version_kept(run: Run) -> None:
    fake = client()
    fake.session = session(result={"text": "Done.", "turns": 2, "cost_usd": 0.5, "permission_denials": ["Bash"]})
    out = run("show", "0199", client=fake).out
    assert "Done." in out
    assert "tokens" not in out
