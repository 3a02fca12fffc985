"""Each option has its effect on the real CLI, through the whole of a worker."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from gsd_tasks.domain.session import ClaudeOptions, Effort, Session
from gsd_tasks.domain.state import Reason, Status
from gsd_tasks.testing import ApiError, Request, Text, ToolCall, Turn
from tests.service.conversing import Talks, offline

SERVER = """
import json, os, sys
for line in sys.stdin:
    asked = json.loads(line)
    match asked["method"]:
        case "initialize":
            given = {"protocolVersion": asked["params"]["protocolVersion"], "capabilities": {"tools": {}},
                     "serverInfo": {"name": "planted", "version": "1"}}
        case "tools/list":
            given = {"tools": [{"name": "ping", "description": "Answers.", "inputSchema": {"type": "object"}}]}
        case "tools/call":
            given = {"content": [{"type": "text", "text": "pong " + os.environ["WORD"]}]}
        case _:
            given = {}
    if "id" in asked:
        print(json.dumps({"jsonrpc": "2.0", "id": asked["id"], "result": given}), flush=True)
"""
SCHEMA = {"type": "object", "properties": {"reason": {"type": "string"}, "n": {"type": "integer"}}, "required": ["n"]}
TOKEN = "ghp_0123456789abcdef"


def tools(request: Request) -> set[str]:
    return {tool["name"] for tool in request.body["tools"]}


def test_what_a_session_may_is_told_and_given(talks: Talks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the token of an MCP server, which is a secret of the worker's, is in the server's hands alone."""
    added, secrets_dir = tmp_path / "added", tmp_path / "secrets"
    added.mkdir()
    secrets_dir.mkdir()
    (secrets_dir / "MCP_TOKEN").write_text(TOKEN + "\n")
    (tmp_path / "server.py").write_text(SERVER)
    server = {"command": sys.executable, "args": [str(tmp_path / "server.py")], "env": {"WORD": "${MCP_TOKEN}"}}
    options = ClaudeOptions(
        disallowed_tools=("Bash", "Read(./secret.txt)"),
        allowed_tools=("mcp__planted__ping",),
        add_dirs=(str(added),),
        mcp_config={"mcpServers": {"planted": server}},
        append_system_prompt="Always say plugh.",
        agents={"xyzzy": {"description": "Knows a hollow voice", "prompt": "You are hollow"}},
        effort=Effort.LOW,
        json_schema=SCHEMA,
    )
    script: list[Turn] = [
        ToolCall("mcp__planted__ping", {}),
        ToolCall("Write", {"file_path": str(added / "made.txt"), "content": "x"}),
        ToolCall("StructuredOutput", {"n": 3}),
    ]
    with offline(monkeypatch, script) as model, talks.worker(secrets_dir=secrets_dir) as worker:
        session_id = talks.enqueue("Go", claude=options, secrets=("MCP_TOKEN",))
        ended = talks.run(worker, session_id)

    assert (ended.status, ended.reason) == (Status.COMPLETED, Reason.FINISHED), ended
    first, second = model.requests[:2]
    assert "Bash" not in tools(first)
    assert "Write" in tools(first)
    assert first.body["output_config"]["effort"] == "low"
    assert "Always say plugh." in json.dumps(first.body["system"])
    assert "Knows a hollow voice" in json.dumps(first.body)
    assert (added / "made.txt").read_text() == "x"
    said = "".join(row.as_text() for row in talks.rows(session_id))
    assert '"structured_output":{"n":3}' in said
    assert [result.text for result in second.tool_results] == [f"pong {TOKEN}"]
    assert TOKEN not in said
    assert "pong " + "*" * len(TOKEN) in said
    assert TOKEN not in "".join(line.text for line in talks.transcript(session_id))
    assert list((tmp_path / "state/sessions").iterdir()) == []
    _check_what_is_shown(ended, server)


def _check_what_is_shown(session: Session, server: object) -> None:
    assert session.claude.mcp_config == {"mcpServers": {"planted": "***"}}
    assert list((session.claude.json_schema or {})["properties"]) == ["reason", "n"]


def test_another_model_takes_over_and_the_budget_ends_it(talks: Talks, monkeypatch: pytest.MonkeyPatch) -> None:
    def overloaded(request: Request) -> Turn:
        is_main = request.body["model"] == "claude-opus-4-5"
        return ApiError(529, "overloaded_error", "busy") if is_main else ToolCall("Bash", {"command": "true"})

    options = ClaudeOptions(model="claude-opus-4-5", fallback_model="claude-haiku-4-5", max_budget_usd=0.0001)
    with offline(monkeypatch, overloaded) as model, talks.worker() as worker:
        ended = talks.run(worker, talks.enqueue("Go", claude=options))

    assert (ended.status, ended.reason) == (Status.FAILED, Reason.MAX_BUDGET), ended
    assert [request.body["model"] for request in model.requests][-1] == "claude-haiku-4-5"


def test_a_directory_that_the_worker_does_not_allow_cannot_be_added(
    talks: Talks, monkeypatch: pytest.MonkeyPatch
) -> None:
    with offline(monkeypatch, [Text("Never.")]) as model, talks.worker() as worker:
        ended = talks.run(worker, talks.enqueue("Go", claude=ClaudeOptions(add_dirs=("/",))))

    assert (ended.status, ended.reason) == (Status.FAILED, Reason.WORKING_DIR)
    assert (ended.detail or "").startswith("--add-dir '/': outside the folders")
    assert model.requests == ()
