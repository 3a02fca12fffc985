"""The operator's secrets: a file each, in the folder that GSD_SECRETS_DIR names, read anew whenever one is needed.

So a file that is exchanged counts from the next session on. A link may lead to another file of the folder, as in a
volume of Kubernetes, and nowhere else.
"""

from __future__ import annotations

import os
import stat
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Final

from gsd_tasks.domain.masking import LARGEST_VALUE_BYTES, why_not_hidden
from gsd_tasks.domain.submission import OWN_PREFIXES, SECRET_NAME

if TYPE_CHECKING:
    from collections.abc import Iterable

#: What an administrator of this host has decided for every claude CLI on it.
MANAGED_SETTINGS: Final = Path("/etc/claude-code/managed-settings.json")


class SecretRefused(Exception):
    """This secret cannot be handed over: one line that says which, why, and what to do. Its value is not in it."""

    def __init__(self, name: str, problem: str) -> None:
        super().__init__(f"secret {name}: {problem}")
        self.name = name


def read_secret(folder: Path | None, name: str) -> str:
    """The value of a named secret; newlines at its end do not count.

    Raises:
        SecretRefused: there is no such file in the folder, or it holds nothing that can be handed over and hidden.
    """
    if not SECRET_NAME.fullmatch(name) or name.upper().startswith(OWN_PREFIXES):
        raise SecretRefused(name, "no secret has such a name: the worker's own settings are not handed over")
    if folder is None:
        raise SecretRefused(name, "this worker has no folder of secrets: set GSD_SECRETS_DIR for it")
    value = _read(folder, name)
    if problem := why_not_hidden(value):
        raise SecretRefused(name, f"its value {problem}, and cannot be hidden: change it, or put it into --env")
    return value


def read_named_like(folder: Path | None, patterns: Iterable[str]) -> dict[str, str]:
    """The files whose names match one of `patterns`, by their names. What cannot be read as a value is left out."""
    wanted = tuple(patterns)
    found: dict[str, str] = {}
    for name in _names(folder):
        if folder is not None and any(fnmatchcase(name, pattern) for pattern in wanted):
            try:
                found[name] = _read(folder, name)
            except SecretRefused:
                continue
    return found


def read_by_others(folder: Path, name: str) -> bool:
    """Whether other users may read this file, too."""
    try:
        return bool((folder / name).stat().st_mode & (stat.S_IRGRP | stat.S_IROTH))
    except OSError:
        return False


def host_has_credentials(names: Iterable[str], managed: Path = MANAGED_SETTINGS) -> bool:
    """Whether the administrator's settings of this host give every claude CLI on it credentials, by one of `names`."""
    try:
        text = managed.read_text(errors="replace")
    except OSError:
        return False
    return any(f'"{name}"' in text for name in ("apiKeyHelper", *names))


def _names(folder: Path | None) -> list[str]:
    try:
        return sorted(os.listdir(folder)) if folder is not None else []
    except OSError:
        return []


def _read(folder: Path, name: str) -> str:
    base = os.path.realpath(folder)
    real = os.path.realpath(os.path.join(base, name))
    if os.path.commonpath([base, real]) != base:
        raise SecretRefused(name, "it is a link that leads out of GSD_SECRETS_DIR: put a file there")
    try:
        data = _read_file(real)
    except OSError as error:
        raise SecretRefused(
            name, f"{error.strerror}: put a file of this name into the worker's GSD_SECRETS_DIR"
        ) from error
    data = data.rstrip(b"\r\n")
    if len(data) > LARGEST_VALUE_BYTES:
        raise SecretRefused(name, f"it is longer than {LARGEST_VALUE_BYTES} bytes: hand over something shorter")
    try:
        value = data.decode()
    except UnicodeDecodeError:
        raise SecretRefused(name, "it is no text (UTF-8): encode it, in base64 for example") from None
    if "\0" in value:
        raise SecretRefused(name, "it holds a NUL, which no variable can: encode it, in base64 for example")
    return value


def _read_file(path: str) -> bytes:
    # Not blocking: a named pipe that nobody writes to must not hold up a slot.
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise OSError(0, "it is no file")
        return os.read(fd, LARGEST_VALUE_BYTES + 3)  # a newline may follow, of two bytes, and one more says too much
    finally:
        os.close(fd)
