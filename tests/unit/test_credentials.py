from __future__ import annotations

import pytest

from gsd_tasks.domain import credentials
from gsd_tasks.domain.credentials import PASSED_ON, are_there, may_come_with, patterns_in_use, secrets_among


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, False),
        ({"ANTHROPIC_BASE_URL": "http://here", "ANTHROPIC_MODEL": "opus"}, False),
        ({"ANTHROPIC_API_KEY": ""}, False),
        ({"ANTHROPIC_API_KEY": "k"}, True),
        ({"CLAUDE_CODE_OAUTH_TOKEN": "t"}, True),
        ({"ANTHROPIC_CUSTOM_HEADERS": "x-api-key: k"}, True),
        ({"CLAUDE_CODE_USE_BEDROCK": "1"}, True),
        ({"CLAUDE_CODE_USE_VERTEX": "True"}, True),
        ({"CLAUDE_CODE_USE_FOUNDRY": "0"}, False),
        ({"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "s"}, False),
    ],
)
def test_a_key_or_a_token_or_a_cloud_is_enough(variables: dict[str, str], expected: bool) -> None:
    assert are_there(variables) is expected


@pytest.mark.parametrize(
    ("names", "expected"), [((), False), (("GITHUB_TOKEN",), False), (("GITHUB_TOKEN", "ANTHROPIC_API_KEY"), True)]
)
def test_a_session_may_bring_its_own_by_a_secrets_name(names: tuple[str, ...], expected: bool) -> None:
    assert may_come_with(names) is expected


def test_a_clouds_variables_are_passed_on_only_where_claude_uses_that_cloud() -> None:
    assert "AWS_*" in PASSED_ON
    assert not {"AWS_*", "GOOGLE_*", "AZURE_*"} & set(patterns_in_use(PASSED_ON, {"ANTHROPIC_API_KEY": "k"}))
    bedrock = patterns_in_use(PASSED_ON, {"CLAUDE_CODE_USE_BEDROCK": "1"})
    assert "AWS_*" in bedrock
    assert "GOOGLE_*" not in bedrock
    assert {"GOOGLE_*", "CLOUD_ML_REGION"} <= set(patterns_in_use(PASSED_ON, {"CLAUDE_CODE_USE_VERTEX": "on"}))


def test_a_name_that_an_operator_writes_out_is_passed_on_in_any_case() -> None:
    assert patterns_in_use(("AWS_PROFILE", "AWS_*"), {}) == ("AWS_PROFILE",)


def test_only_what_is_secret_and_long_enough_is_hidden() -> None:
    variables = {
        "ANTHROPIC_API_KEY": "sk-ant-0123456789",
        "ANTHROPIC_AUTH_TOKEN": "short",
        "ANTHROPIC_BASE_URL": "http://127.0.0.1:8080/",
        "ANTHROPIC_MODEL": "claude-opus-5-20260101",
        "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMIK7MDENG",
        "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE",
        "AWS_WEB_IDENTITY_TOKEN_FILE": "/var/run/secrets/token",
        "ANTHROPIC_CUSTOM_HEADERS": "Authorization: Bearer 0123456789abcdef\nX-Team: ours",
    }
    assert sorted(secrets_among(variables).values()) == [
        "0123456789abcdef",
        "sk-ant-0123456789",
        "wJalrXUtnFEMIK7MDENG",
    ]


def test_the_advice_is_one_line_that_names_what_to_do() -> None:
    assert "ANTHROPIC_API_KEY" in credentials.ADVICE
    assert "`claude setup-token`" in credentials.ADVICE
    assert "\n" not in credentials.ADVICE
