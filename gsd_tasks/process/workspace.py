"""Where a session may work. The worker enforces it, whatever the producer was allowed to ask for."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from pathlib import Path


class WorkingDirRefused(Exception):
    """The session cannot work there: its end has the reason `working_dir`, and this one line as the detail."""

    def __init__(self, path: str, problem: str, what: str = "working directory") -> None:
        super().__init__(f"{what} {path!r}: {problem}")
        self.path = path
        self.problem = problem


def check_working_dir(path: str, roots: tuple[str, ...]) -> Path:
    """The real path of `path`: a directory that can be entered, in one of `roots` or one of them. `/` allows any.

    Links are resolved in the path and in the roots. **Start the child in the path returned**, and compare it with
    `os.getcwd()` after the `chdir`: between this check and the start, whoever may write there can put a link in the
    place of a directory, and the kernel's own answer is the only one that cannot be out of date.

    Raises:
        WorkingDirRefused: missing, no directory, no permission, or outside the roots.
    """
    real = _resolve(path)
    # Before anything is said about what is there: a refused path tells nobody whether it exists.
    if not any(real.is_relative_to(os.path.realpath(root)) for root in roots):
        raise WorkingDirRefused(path, "outside the folders that this worker allows (GSD_WORKSPACE_ROOTS)")
    try:
        mode = real.stat().st_mode
    except OSError as error:
        raise WorkingDirRefused(path, error.strerror or str(error)) from error
    if not stat.S_ISDIR(mode):
        raise WorkingDirRefused(path, "Not a directory")
    if not os.access(real, os.X_OK, effective_ids=True):
        raise WorkingDirRefused(path, "Permission denied")
    return real


def check_added_dirs(paths: Iterable[str], roots: tuple[str, ...]) -> tuple[str, ...]:
    """The real paths of further directories that a Claude session may work in, by the same rules."""
    try:
        return tuple(str(check_working_dir(path, roots)) for path in paths)
    except WorkingDirRefused as refused:
        raise WorkingDirRefused(refused.path, refused.problem, "--add-dir") from refused


def _resolve(path: str) -> Path:
    # A relative path would depend on where the worker happened to be started.
    if not Path(path).is_absolute():
        raise WorkingDirRefused(path, "not an absolute path")
    try:
        return Path(os.path.realpath(path))
    except (OSError, ValueError) as error:  # ValueError: a NUL, or text that no file name can be
        raise WorkingDirRefused(path, str(error)) from error
