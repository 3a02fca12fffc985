from __future__ import annotations

import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from gsd_tasks.domain.errors import InvalidValue
from gsd_tasks.domain.session import ClaudeOptions, Effort, Limits, OnDenied, Submission
from gsd_tasks.domain.submission import digest, validate

GOOD = Submission(command=("echo", "x"), working_dir="/tmp")
EVERYTHING = ClaudeOptions(
    disallowed_tools=("Bash",),
    add_dirs=("/srv",),
    mcp_config={"mcpServers": {"a": {"command": "a"}}},
    append_system_prompt="Be kind.",
    agents={"a": {"description": "b", "prompt": "c"}},
    fallback_model="haiku,sonnet",
    effort=Effort.MAX,
    max_budget_usd=1,
    json_schema={"type": "object"},
)
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def nested(levels: int) -> dict[str, Any]:
    inner: dict[str, Any] = {}
    for _ in range(levels):
        inner = {"a": inner}
    return inner


def test_a_good_request_comes_back_as_it_is() -> None:
    assert validate(GOOD) is GOOD
    assert validate(Submission(prompt="Fix it", working_dir="/srv")).prompt == "Fix it"
    assert validate(replace(GOOD, max_tries=100, max_recoveries=1000)).max_tries == 100
    assert validate(replace(GOOD, max_tries=1, max_recoveries=0)).max_recoveries == 0
    assert validate(replace(GOOD, secrets=("DEPLOY_TOKEN", "_a1"))).secrets == ("DEPLOY_TOKEN", "_a1")
    assert validate(replace(GOOD, claude=EVERYTHING)).claude is EVERYTHING


@pytest.mark.parametrize(
    ("field", "changes"),
    [
        ("prompt", {"command": None}),
        ("prompt", {"prompt": "both"}),
        ("prompt", {"command": None, "prompt": " \n"}),
        ("prompt", {"command": None, "prompt": "a\0b"}),
        ("prompt", {"command": None, "prompt": "\ud800"}),
        ("command", {"command": ()}),
        ("command", {"command": ("",)}),
        ("command", {"command": ("echo", "\0")}),
        ("working_dir", {"working_dir": "relative"}),
        ("env", {"env": {"A=B": "x"}}),
        ("env", {"env": {"": "x"}}),
        ("env", {"env": {"GSD_REDIS_URL": "x"}}),
        ("env", {"env": {"GSDTASKS_MARKER": "x"}}),
        ("env A", {"env": {"A": "\0"}}),
        *(
            ("secrets", {"secrets": (name,)})
            for name in ("", "1A", "A-B", "../A", "A\n", "é", "GSD_REDIS_URL", "gsd_x")
        ),
        ("secrets", {"secrets": ("GsdTasks_Marker",)}),
        ("secrets", {"secrets": ("A",), "env": {"A": "x"}}),
        ("secrets", {"secrets": tuple(f"A{number}" for number in range(101))}),
        ("queue", {"queue": "no queue"}),
        ("queue", {"queue": "a\x06\x163"}),
        ("priority", {"priority": 10}),
        ("priority", {"priority": -1}),
        ("run_at", {"run_at": datetime(2026, 1, 1)}),  # noqa: DTZ001
        ("expires_at", {"run_at": NOW, "expires_at": NOW - timedelta(seconds=1)}),
        ("timeout_s", {"limits": Limits(timeout_s=0)}),
        ("timeout_s", {"limits": Limits(timeout_s=math.inf)}),
        ("idle_timeout_s", {"limits": Limits(idle_timeout_s=math.nan)}),
        ("max_output_bytes", {"limits": Limits(max_output_bytes=0)}),
        ("max_turns", {"claude": ClaudeOptions(max_turns=0)}),
        *(("max_tries", {"max_tries": wrong}) for wrong in (0, 101, -1, True, 1.5, None)),
        *(("max_recoveries", {"max_recoveries": wrong}) for wrong in (-1, 1001, False, "3")),
        ("max_turns", {"claude": ClaudeOptions(max_turns=True)}),
        *(
            (field, {"claude": ClaudeOptions(**{field: value})})  # type: ignore[arg-type]
            for field, value in (
                ("max_budget_usd", 0),
                ("max_budget_usd", -1.0),
                ("max_budget_usd", math.nan),
                ("max_budget_usd", math.inf),
                ("max_budget_usd", True),
                ("max_budget_usd", "1"),
                ("add_dirs", ("relative",)),
                ("add_dirs", ("/a\0",)),
                ("add_dirs", ("/a",) * 101),
                ("append_system_prompt", "\0"),
                ("append_system_prompt", "x" * (1024 * 1024 + 1)),
                ("mcp_config", {}),
                ("mcp_config", {"mcpServers": {"a": 1}}),
                ("mcp_config", {"mcpServers": ["a"]}),
                ("mcp_config", {"mcpServers": {"a": {"b": math.nan}}}),
                ("mcp_config", {"mcpServers": {}, "a": 1}),
                ("agents", {"": {}}),
                ("agents", {"a": "not an object"}),
                ("agents", ["a"]),
                ("json_schema", ["a"]),
                ("json_schema", {"a": "x" * 120 * 1024}),
                ("json_schema", nested(200)),
            )
        ),
        ("claude options", {"claude": ClaudeOptions(fallback_model="\0")}),
        ("claude options", {"claude": ClaudeOptions(disallowed_tools=("x" * 4097,))}),
        ("name", {"name": "x" * 201}),
        ("key", {"key": ""}),
        ("command", {"command": ("echo", 5)}),
        ("command", {"command": ("echo", "x" * 128 * 1024)}),
        ("working_dir", {"working_dir": None}),
        ("context", {"context": {"a": object()}}),
        ("context", {"context": {"a": 1, 2: "b"}}),
        ("context", {"context": nested(200)}),
        ("context", {"context": nested(100_000)}),
        ("context", {"context": {"a": math.nan}}),
        ("context", {"context": {"a": ["\0"]}}),
    ],
)
def test_a_bad_one_is_refused_by_the_name_of_its_field(field: str, changes: dict[str, Any]) -> None:
    with pytest.raises(InvalidValue) as refused:
        validate(replace(GOOD, **changes))
    assert refused.value.field == field


def test_requests_have_one_digest_exactly_if_they_ask_for_the_same() -> None:
    assert digest(GOOD) == digest(Submission(command=("echo", "x"), working_dir="/tmp"))
    assert digest(GOOD) != digest(replace(GOOD, priority=4))
    elsewhere = NOW.astimezone(timezone(timedelta(hours=2)))
    assert digest(replace(GOOD, run_at=NOW)) == digest(replace(GOOD, run_at=elsewhere))
    assert digest(replace(GOOD, limits=Limits(timeout_s=60))) == digest(replace(GOOD, limits=Limits(timeout_s=60.0)))
    assert digest(GOOD) != digest(replace(GOOD, command=("echo", "y")))


@pytest.mark.parametrize(
    ("request_", "known"),
    [
        (GOOD, "0641ccc4def4c4b14df46d2abb069f1b7a1abf07751d4866b4aef8600cfb7cc0"),
        (
            Submission(
                prompt="Fix it",
                working_dir="/tmp",
                claude=ClaudeOptions(model="m", max_turns=None, allowed_tools=("Bash",)),
            ),
            "c51da2189cf9355a8a60415b7e8d96ac9df711bbd1d6b339a09a21e322f67dcb",
        ),
    ],
)
def test_a_request_that_uses_nothing_new_has_the_digest_it_always_had(request_: Submission, known: str) -> None:
    """A key that was given before an option was there still stands for the same request."""
    assert digest(request_).hex() == known
    changed = [replace(request_, secrets=("A",))]
    for name in ("disallowed_tools", "add_dirs", "mcp_config", "agents", "effort", "max_budget_usd", "json_schema"):
        options = replace(request_.claude, **{name: getattr(EVERYTHING, name)})
        changed.append(replace(request_, claude=options))
    assert len({digest(one) for one in [request_, *changed]}) == len(changed) + 1
    ignoring = replace(request_, claude=replace(request_.claude, on_denied=OnDenied.IGNORE))
    assert digest(ignoring) != digest(request_)
