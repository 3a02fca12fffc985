from __future__ import annotations

import uuid

import pytest

from gsd_tasks.domain.session import ClaudeOptions, PermissionMode
from gsd_tasks.domain.state import Reason
from gsd_tasks.testing import OfflineModel, Reply, Script, Text, ToolCall, by_prompt
from tests.claude.conftest import Claude

WRITE = ToolCall("Write", {"file_path": "{cwd}/hello.txt", "content": "hello\n"})
TOUCH = ToolCall("Bash", {"command": "/usr/bin/touch made"})


def test_an_answer_ends_the_session_well(claude: Claude) -> None:
    session_id = uuid.uuid4()
    with OfflineModel([Text("Forty-two.")]) as model:
        ended = claude.run(model, "What is the answer?", session_id=session_id)

    assert ended.verdict[:2] == (True, Reason.FINISHED)
    assert ended.conversation.result is not None
    assert ended.conversation.result.text == "Forty-two."
    assert ended.conversation.init is not None
    assert ended.conversation.init.session_id == str(session_id)
    assert [request.prompt for request in model.requests] == ["What is the answer?"]
    assert [request.session_id for request in model.requests] == [str(session_id)]


def test_a_tool_works_in_the_working_directory(claude: Claude) -> None:
    with OfflineModel([Reply.of(Text("I write it."), WRITE), Text("Done.")]) as model:
        ended = claude.run(model, "Greet me")

    assert ended.verdict.reason is Reason.FINISHED
    assert (claude.cwd / "hello.txt").read_text() == "hello\n"
    assert [result.is_error for result in model.requests[-1].tool_results] == [False]


def test_a_line_of_megabytes_passes_whole(claude: Claude) -> None:
    content = "x" * 3_000_000
    with OfflineModel([ToolCall("Write", {"file_path": "{cwd}/big", "content": content}), Text("Done.")]) as model:
        ended = claude.run(model, "Write much")

    assert ended.verdict.reason is Reason.FINISHED
    assert (claude.cwd / "big").read_text() == content
    assert max(map(len, ended.stdout.splitlines())) > len(content)


@pytest.mark.parametrize("mode", PermissionMode)
def test_the_cli_knows_every_permission_mode(claude: Claude, mode: PermissionMode) -> None:
    with OfflineModel([Text("Yes.")]) as model:
        ended = claude.run(model, "Do you?", ClaudeOptions(permission_mode=mode))

    assert ended.verdict.ok, ended.stderr
    assert ended.conversation.init is not None
    # The CLI has two names for one of them, and says the older.
    same = {PermissionMode.MANUAL: PermissionMode.DEFAULT}
    assert ended.conversation.init.permission_mode == same.get(mode, mode)


def test_allowed_tools_and_no_others_run_unasked(claude: Claude) -> None:
    rules = ("Read", "Bash(/usr/bin/touch *)")
    with OfflineModel([TOUCH, ToolCall("Bash", {"command": "/usr/bin/mkfifo other"}), Text("Done.")]) as model:
        options = ClaudeOptions(permission_mode=PermissionMode.DONT_ASK, allowed_tools=rules)
        ended = claude.run(model, "Try both", options)

    assert ended.verdict[:2] == (False, Reason.PERMISSION_DENIED)
    assert (claude.cwd / "made").exists()
    assert not (claude.cwd / "other").exists()
    assert ended.conversation.result is not None
    assert ended.conversation.result.permission_denials[0].tool == "Bash"


def test_the_limit_on_turns_and_the_model_are_passed_on(claude: Claude) -> None:
    options = ClaudeOptions(max_turns=1, model="claude-sonnet-4-5")
    with OfflineModel([WRITE, WRITE, Text("Done.")]) as model:
        ended = claude.run(model, "Take your time", options)

    assert ended.verdict[:2] == (False, Reason.MAX_TURNS)
    assert "Reached maximum number of turns (1)" in ended.verdict.detail
    assert {request.body["model"] for request in model.requests} == {"claude-sonnet-4-5"}


def test_a_second_attempt_may_use_the_session_id_again(claude: Claude) -> None:
    session_id = uuid.uuid4()
    with OfflineModel([Text("Here.")]) as model:
        verdicts = [claude.run(model, "Are you there?", None, session_id, attempt).verdict for attempt in (1, 2)]

    assert [verdict.ok for verdict in verdicts] == [True, True]


def test_three_sessions_play_their_own_scripts_side_by_side(claude: Claude) -> None:
    names = ("one", "two", "three")
    scripts: dict[str, Script] = {
        f"session {name}.": [
            ToolCall("Write", {"file_path": f"{{cwd}}/{name}", "content": name}),
            Text(f"I am {name}."),
        ]
        for name in names
    }
    with OfflineModel(by_prompt(scripts)) as model:
        processes = [claude.start(model, f"You are session {name}.") for name in names]
        ended = [claude.end(process) for process in processes]

    assert [run.conversation.result and run.conversation.result.text for run in ended] == [f"I am {n}." for n in names]
    assert sorted(path.name for path in claude.cwd.iterdir()) == sorted(names)
