"""The environment of a child: made from nothing, so that the worker's secrets are not in it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase

from gsd_tasks.domain.errors import InvalidValue
from gsd_tasks.domain.submission import OWN_PREFIXES


def child_environment(source: Mapping[str, str], patterns: Iterable[str], extra: Mapping[str, str]) -> dict[str, str]:
    """The variables of `source` whose name matches one of `patterns` (`LC_*`), with `extra` on top.

    No `GSD_` variable comes out of `source`, whatever the patterns say: the addresses of the servers are among them.
    Nor does the marker of another session, in which the worker may have been started. What the launcher itself wants to
    tell the child it adds afterwards, so that no session can set it.

    Raises:
        InvalidValue: a name or value in `extra` that the operating system cannot pass on.
    """
    check_environment(extra)
    allowed = tuple(patterns)
    picked = {name: value for name, value in source.items() if _passes(name, allowed)}
    return picked | dict(extra)


def check_environment(variables: Mapping[str, str]) -> None:
    """Raise `InvalidValue` for a name or value that `execve` cannot pass on. A value is never in the message."""
    for name, value in variables.items():
        if not name or "=" in name or "\0" in name:
            raise InvalidValue("env", f"{name!r} is no name for a variable: it must not be empty nor hold '=' or NUL")
        if "\0" in value:
            raise InvalidValue("env", f"the value of {name!r} holds a NUL")
        if not _encodable(name) or not _encodable(value):
            raise InvalidValue("env", f"{name!r}: name or value is no valid text")


def _passes(name: str, patterns: tuple[str, ...]) -> bool:
    return not name.upper().startswith(OWN_PREFIXES) and any(fnmatchcase(name, pattern) for pattern in patterns)


def _encodable(text: str) -> bool:
    try:
        os.fsencode(text)
    except UnicodeEncodeError:
        return False
    return True
