"""What follows others on the command line: `--after`, `enqueue-many`, `tree`, and how they are shown."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import pytest

from gsd_tasks.cli.progress import Progress
from gsd_tasks.cli.screen import Screen
from gsd_tasks.cli.tree import draw_guides
from gsd_tasks.domain.errors import NoSuchSession
from gsd_tasks.domain.session import Session, SessionId
from gsd_tasks.domain.state import Reason, Status
from gsd_tasks.domain.tree import Branch
from tests.cli.conftest import Run
from tests.cli.fake_client import FakeClient
from tests.sessions import AT, ID, session

OTHER = SessionId(UUID("0199a1b2-c3d4-7e5f-8000-000000000002"))


def waiting(**changes: object) -> FakeClient:
    client = FakeClient()
    client.session = session(after=(OTHER,), waits=True, **changes)
    return client


def test_what_it_is_to_follow_is_given_by_commas_or_again(run: Run) -> None:
    client = FakeClient()
    run("enqueue", "--after", "a, b", "--after", "c", "--after-any", "d,", "--", "make", client=client)
    [asked] = client.requests
    assert (asked["after"], asked["after_any"]) == (("a", "b", "c"), ("d",))


def test_ps_and_show_say_that_it_waits_and_for_what(run: Run) -> None:
    client = waiting(after_any=(ID,))
    assert "queued (waits)" in run("ps", client=client).out
    shown = [line.split() for line in run("show", "0199", client=client).out.splitlines()]
    assert ["status", "queued", "(waits)"] in shown
    assert ["after", str(OTHER)] in shown
    assert ["after", "any", str(ID)] in shown


def test_what_was_given_up_is_not_said_to_wait(run: Run) -> None:
    client = waiting(status=Status.FAILED, reason=Reason.DEPENDENCY, ended_at=AT)
    assert "(waits)" not in run("ps", client=client).out + run("show", "0199", client=client).out


def test_run_says_for_whom_it_waits(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    client = waiting()
    others = {str(OTHER): session(id=OTHER, status=Status.RUNNING), str(ID): client.session}
    monkeypatch.setattr(client, "get", others.__getitem__)
    progress = Progress(client, client.session, Screen(sys.stdout, sys.stderr))  # type: ignore[arg-type]
    progress.refresh()
    progress.refresh()
    progress.refresh()
    assert capsys.readouterr().err.splitlines()[1:] == [f"gsd-tasks: it waits for session {OTHER} (running)"]


def test_run_passes_over_one_that_was_deleted_meanwhile(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    client = waiting()

    def get(session_id: str) -> Session:
        if session_id == str(OTHER):
            raise NoSuchSession(session_id)
        return client.session

    monkeypatch.setattr(client, "get", get)
    progress = Progress(client, client.session, Screen(sys.stdout, sys.stderr))  # type: ignore[arg-type]
    progress.refresh()
    progress.refresh()
    assert "it waits for what has just ended" in capsys.readouterr().err


def test_run_does_not_list_hundreds(capsys: pytest.CaptureFixture[str]) -> None:
    client = FakeClient()
    client.session = session(after=(OTHER,) * 100, waits=True)
    progress = Progress(client, client.session, Screen(sys.stdout, sys.stderr))  # type: ignore[arg-type]
    progress.refresh()
    progress.refresh()
    assert f"it waits for 100 sessions: `gsd-tasks tree {ID}` shows them" in capsys.readouterr().err


def test_what_was_given_up_never_began(run: Run) -> None:
    client = FakeClient(end={"status": Status.FAILED, "reason": Reason.DEPENDENCY, "detail": "session x failed"})
    ran = run("run", "--", "make", client=client)
    assert ran.code == 125
    assert "failed (dependency): session x failed" in ran.err


@pytest.mark.parametrize("form", ["lines", "list"])
@pytest.mark.parametrize("where", ["file", "stdin"])
def test_a_graph_is_read_as_lines_or_as_a_list(run: Run, tmp_path: Path, form: str, where: str) -> None:
    items: list[dict[str, object]] = [
        {"ref": "a", "command": ["make"], "run_at": "2026-11-21T12:00:00Z", "timeout_s": 5},
        {"prompt": "Go on", "after": ["@a"], "mcp_config": {"mcpServers": {}}},
    ]
    text = json.dumps(items, indent=1) if form == "list" else "\n\n".join(map(json.dumps, items)) + "\n"
    (tmp_path / "graph").write_text(text)
    client = FakeClient()

    file = str(tmp_path / "graph") if where == "file" else "-"
    ran = run("enqueue-many", file, client=client, stdin=text.encode() if where == "stdin" else b"")

    assert ran.code == 0
    assert ran.out.split() == [str(UUID(int=1)), str(UUID(int=2))]
    assert client.requests == [{**items[0], "run_at": datetime(2026, 11, 21, 12, tzinfo=UTC)}, items[1]]
    printed = json.loads(run("enqueue-many", file, "--json", client=client, stdin=text.encode()).out)
    assert [each["id"] for each in printed] == ran.out.split()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('{"command": ["make"]}\n{"command": ', "line 2: is no JSON"),
        ('{"command": ["make"]}\n7', "number 2 is no JSON object"),
        ('{"command": ["make"], "comand": 1}', "comand: (of number 1) is nothing that a session can be given"),
        ('{"command": ["make"], "priority": "high"}', "priority: Input should be a valid integer (of number 1)"),
        ('{"command": "make"}', "command:"),
        ('[{"command": ["make"]}', "is no JSON"),
    ],
)
def test_what_is_no_graph_is_refused_in_one_line(run: Run, text: str, told: str) -> None:
    client = FakeClient()
    ran = run("enqueue-many", "-", client=client, stdin=text.encode())
    assert (ran.code, client.requests) == (2, [])
    assert told in ran.err
    assert ran.err.count("\n") == 1


def test_a_file_that_cannot_be_read_is_said(run: Run, tmp_path: Path) -> None:
    assert "No such file" in run("enqueue-many", str(tmp_path / "none")).err
    assert "is no valid text" in run("enqueue-many", "-", stdin=b"\xff").err


def test_a_tree_says_which_is_below_which_and_whether_more_come() -> None:
    assert draw_guides([0, 1, 2, 3, 2, 1, 2]) == ["", "├ ", "│ ├ ", "│ │ └ ", "│ └ ", "└ ", "  └ "]
    assert draw_guides([0]) == [""]


def test_a_tree_is_shown_as_one(run: Run) -> None:
    def one(number: int, **changes: object) -> Session:
        return session(id=SessionId(UUID(int=number << 80)), name=f"name {number}", **changes)

    client = FakeClient()
    root, child, last = one(1), one(2, status=Status.FAILED, reason=Reason.DEPENDENCY, waits=True), one(3, waits=True)
    client.branches = [
        Branch(session=root, depth=0, under=None),
        Branch(session=child, depth=1, under=root.id),
        Branch(session=last, depth=2, under=child.id),
    ]
    lines = run("tree", "0199", client=client).out.splitlines()
    assert [" ".join(line.split()) for line in lines] == [
        "SESSION STATUS REASON WHAT",
        "00000000-0001-0000 queued enqueued name 1",
        "└ 00000000-0002-0000 failed dependency name 2",
        "└ 00000000-0003-0000 queued (waits) enqueued name 3",
    ]
    assert [line.index("00000000") for line in lines[1:]] == [0, 2, 4]
    printed = json.loads(run("tree", "0199", "--json", client=client).out)
    assert [(each["depth"], each["under"]) for each in printed] == [(0, None), (1, str(root.id)), (2, str(child.id))]
    assert printed[1]["session"]["reason"] == "dependency"
