"""With which variables the claude CLI can talk to a model, and which of them are secrets.

Read from the CLI (2.1.327); a newer one may know more: GSD_CLAUDE_ENV passes those on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_HEADERS: Final = "ANTHROPIC_CUSTOM_HEADERS"
_SECRET_PARTS: Final = ("KEY", "TOKEN", "SECRET", "PASSWORD")
_NO_SECRETS: Final = ("_ID", "_FILE", "_URL")
_ON: Final = frozenset({"1", "true", "yes", "on"})

_VALUES: Final = (
    "ANTHROPIC_API_KEY",
    "ANTHROPIC_AUTH_TOKEN",
    "CLAUDE_CODE_OAUTH_TOKEN",
    _HEADERS,
    "ANTHROPIC_IDENTITY_TOKEN",
    "ANTHROPIC_IDENTITY_TOKEN_FILE",
    "ANTHROPIC_PROFILE",
    "ANTHROPIC_UNIX_SOCKET",
)
#: A cloud, once one of its switches is on, and the worker's variables that Claude needs there. It may take its
#: credentials from the machine itself, so the switch is enough.
CLOUDS: Final = (
    (("CLAUDE_CODE_USE_BEDROCK", "CLAUDE_CODE_USE_MANTLE", "CLAUDE_CODE_USE_ANTHROPIC_AWS"), ("AWS_*",)),
    (
        ("CLAUDE_CODE_USE_VERTEX", "CLAUDE_CODE_USE_ANTHROPIC_GOOGLE_CLOUD"),
        ("CLOUD_ML_REGION", "GOOGLE_*", "GCLOUD_PROJECT", "VERTEX_REGION_*"),
    ),
    (("CLAUDE_CODE_USE_FOUNDRY",), ("AZURE_*",)),
)
_SWITCHES: Final = tuple(switch for switches, _ in CLOUDS for switch in switches)
#: Each is enough by itself.
ENOUGH: Final = (*_VALUES, *_SWITCHES)
#: What a Claude child gets of the worker's variables, unless GSD_CLAUDE_ENV says otherwise.
PASSED_ON: Final = (
    "ANTHROPIC_*",
    "CLAUDE_CODE_OAUTH_TOKEN",
    "CLAUDE_CODE_USE_*",
    "CLAUDE_CODE_SKIP_*_AUTH",
    *(pattern for _, patterns in CLOUDS for pattern in patterns),
)
#: A shorter value of a credential is a stand-in, as tests have.
SHORTEST_CREDENTIAL: Final = 16
ADVICE: Final = (
    "give the worker ANTHROPIC_API_KEY, or CLAUDE_CODE_OAUTH_TOKEN from `claude setup-token`, in its environment or as "
    "a file in its GSD_SECRETS_DIR"
)


def are_there(variables: Mapping[str, str]) -> bool:
    """Whether a Claude child that has these variables has credentials."""
    return bool(names_among(variables))


def names_among(variables: Mapping[str, str]) -> list[str]:
    """Those by which it has some."""
    return [name for name in ENOUGH if (is_on(variables, name) if name in _SWITCHES else variables.get(name))]


def may_come_with(secrets: Iterable[str]) -> bool:
    """Whether a session brings its own credentials by secrets of these names, whatever their values are."""
    return not set(ENOUGH).isdisjoint(secrets)


def is_on(variables: Mapping[str, str], switch: str) -> bool:
    """As the CLI reads its switches."""
    return variables.get(switch, "").strip().lower() in _ON


def patterns_in_use(patterns: Iterable[str], variables: Mapping[str, str]) -> tuple[str, ...]:
    """`patterns` without those of clouds that Claude is not told to use.

    The operator's keys for a cloud are there for other things, too. A name that is written out stays: it was meant.
    """
    unused = {
        pattern
        for switches, of_cloud in CLOUDS
        if not any(is_on(variables, switch) for switch in switches)
        for pattern in of_cloud
    }
    return tuple(pattern for pattern in patterns if pattern not in unused)


def secrets_among(variables: Mapping[str, str]) -> dict[str, str]:
    """Those of a Claude child's variables whose values nobody is to read: by their names, and not too short."""
    # `Name: Scheme token`, a line each: a long word is the token.
    words = enumerate(variables.get(_HEADERS, "").split())
    found = {name: value for name, value in variables.items() if _is_secret(name)}
    found |= {f"{_HEADERS}[{number}]": word for number, word in words}
    return {name: value for name, value in found.items() if len(value) >= SHORTEST_CREDENTIAL}


def _is_secret(name: str) -> bool:
    return any(part in name for part in _SECRET_PARTS) and not name.endswith(_NO_SECRETS)
