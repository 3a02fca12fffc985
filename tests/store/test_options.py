"""What a session is asked for comes back as it was asked for, and what may hold a token to its worker alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

from sqlalchemy import text

from gsd_tasks.domain.session import ClaudeOptions, Effort, OnDenied, PermissionMode, SessionId, Submission
from gsd_tasks.store import Claim, Database, sessions

SERVERS = {"mcpServers": {"a": {"command": "a", "env": {"TOKEN": "xyzzy"}}, "b": {"url": "http://xyzzy@there"}}}
OPTIONS = ClaudeOptions(
    model="opus",
    permission_mode=PermissionMode.AUTO,
    on_denied=OnDenied.IGNORE,
    disallowed_tools=("Bash(rm:*)", "WebFetch"),
    add_dirs=("/srv/a", "/srv/b"),
    mcp_config=SERVERS,
    append_system_prompt="Be kind.",
    agents={"a": {"prompt": "p", "description": "d"}},
    fallback_model="haiku",
    effort=Effort.XHIGH,
    max_budget_usd=0.25,
    json_schema={"properties": {"reasoning": {}, "n": {}}, "type": "object"},
)
REQUEST = Submission(prompt="Do it", working_dir="/", claude=OPTIONS, secrets=("DEPLOY_TOKEN", "B"))


def test_a_worker_gets_what_was_asked_for_and_others_see_no_token(
    database: Database, enqueue: Callable[..., SessionId], claim: Callable[..., Claim]
) -> None:
    session_id = enqueue(REQUEST)
    with database.connection() as connection:
        seen = sessions.get(connection, session_id)
    assert seen is not None
    assert seen.secrets == ("DEPLOY_TOKEN", "B")
    assert seen.claude == replace(OPTIONS, mcp_config={"mcpServers": {"a": "***", "b": "***"}})

    claimed = claim(session_id).session

    assert (claimed.claude, claimed.secrets) == (OPTIONS, REQUEST.secrets)
    # In this order: a model fills in a schema from the first property to the last.
    assert json.dumps(claimed.claude.json_schema) == json.dumps(OPTIONS.json_schema)


def test_a_session_of_a_version_without_these_options_has_their_defaults(
    database: Database, enqueue: Callable[..., SessionId]
) -> None:
    session_id = enqueue(Submission(prompt="Do it", working_dir="/"))
    old: dict[str, object] = {"model": None, "max_turns": 200, "allowed_tools": [], "permission_mode": "acceptEdits"}
    with database.connection() as connection:
        change = text("UPDATE sessions SET claude = :old WHERE id = :id")
        connection.execute(change, {"old": json.dumps(old), "id": session_id})
        found = sessions.get(connection, session_id)
    assert found is not None
    assert found.claude == ClaudeOptions()
