"""What is asked of `enqueue`, and what is checked of it and of other arguments before anything is sent."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, TypedDict, TypeVar
from uuid import UUID

from gsd_tasks.domain.errors import InvalidValue
from gsd_tasks.domain.session import (
    CLAUDE,
    DEFAULT_MAX_RECOVERIES,
    DEFAULT_MAX_TRIES,
    DEFAULT_PRIORITY,
    DEFAULT_QUEUE,
    LIMITS,
    ClaudeOptions,
    Effort,
    Limits,
    OnDenied,
    OnLost,
    PermissionMode,
    SessionId,
    Submission,
)
from gsd_tasks.domain.submission import check_order

#: The longest page of sessions, and of output rows.
MOST_SESSIONS: Final = 1000
MOST_ROWS: Final = 10_000
#: The longest page of a transcript.
MOST_ENTRIES: Final = 1000

E = TypeVar("E", bound=StrEnum)
T = TypeVar("T")


class NewSession(TypedDict, total=False):
    """A Claude session (`prompt`) or a command, and how it is to run. What is left out has its default.

    It runs in `working_dir` (default: this process's), at the earliest at `run_at`, and fails if it has not begun
    by `expires_at`. `priority` 0 runs first, 9 last (default: 5). With a `key`, submitting the same again gives the
    session that there is. `on_lost` is `requeue` or `fail`; the default is `requeue` for Claude and `fail` for a
    command.

    It waits until the sessions of `after` have completed, and those of `after_any` have ended in whatever way. If one
    of `after` fails, it fails, too; if one is cancelled, so is it.

    What fails is run again, after a rest, until `max_tries` have failed, unless a limit ended it or it could not
    begin; where it was the API that was overloaded, limited or out of reach, until 30 have, whatever `max_tries`
    says. What loses its worker is run again at most `max_recoveries` times, if `on_lost` allows it at all. A
    Claude session that was not allowed to use a tool has failed, unless `on_denied` is `ignore`.

    `secrets` are names: the worker has a file of each in its `GSD_SECRETS_DIR`, and hands it over as a variable;
    its value is hidden in what the child writes. `mcp_config`, `agents` and `json_schema` are what the claude CLI
    takes as JSON; `add_dirs` must lie below the worker's roots, as `working_dir` must.
    """

    prompt: str | None
    command: Sequence[str] | None
    working_dir: str | Path | None
    env: Mapping[str, str] | None
    secrets: Sequence[str]
    name: str | None
    thread: str | None
    parent: str | UUID | None
    after: Sequence[str | UUID]
    after_any: Sequence[str | UUID]
    queue: str
    priority: int
    run_at: datetime | None
    expires_at: datetime | None
    timeout_s: float
    idle_timeout_s: float
    max_output_bytes: int
    key: str | None
    context: Mapping[str, Any] | None
    model: str | None
    max_turns: int | None
    allowed_tools: Sequence[str]
    permission_mode: str
    on_denied: str
    disallowed_tools: Sequence[str]
    add_dirs: Sequence[str | Path]
    mcp_config: Mapping[str, Any] | None
    append_system_prompt: str | None
    agents: Mapping[str, Any] | None
    fallback_model: str | None
    effort: str | None
    max_budget_usd: float | None
    json_schema: Mapping[str, Any] | None
    on_lost: str | None
    max_tries: int
    max_recoveries: int


_NAMES: Final = frozenset(NewSession.__annotations__)
_LIMITS: Final = frozenset(field.name for field in fields(Limits))
_CLAUDE: Final = frozenset(field.name for field in fields(ClaudeOptions))


def to_submission(request: NewSession, id_of: Callable[[str | UUID], SessionId]) -> Submission:
    """The request with every default filled in. `id_of` turns what may be given for a session into its id.

    Raises:
        InvalidValue: a value that no request can have; `domain.submission.validate` sees to the others.
        TypeError: a name that `NewSession` does not have.
    """
    check_names(request)
    parent, on_lost = request.get("parent"), request.get("on_lost")
    after, after_any = several("after", request.get("after", ())), several("after_any", request.get("after_any", ()))
    # Before any of them is looked up.
    check_order(after, after_any)
    return Submission(
        prompt=request.get("prompt"),
        command=_command(request.get("command")),
        working_dir=absolute(request.get("working_dir") or Path.cwd()),
        env=dict(request.get("env") or {}),
        secrets=several("secrets", request.get("secrets", ())),
        name=request.get("name"),
        thread=request.get("thread"),
        parent_id=None if parent is None else id_of(parent),
        queue=request.get("queue", DEFAULT_QUEUE),
        priority=request.get("priority", DEFAULT_PRIORITY),
        run_at=request.get("run_at"),
        expires_at=request.get("expires_at"),
        limits=_limits(request),
        claude=_claude(request),
        on_lost=None if on_lost is None else choose("on_lost", OnLost, on_lost),
        max_tries=request.get("max_tries", DEFAULT_MAX_TRIES),
        max_recoveries=request.get("max_recoveries", DEFAULT_MAX_RECOVERIES),
        key=request.get("key"),
        context=dict(request.get("context") or {}),
        after=tuple(map(id_of, after)),
        after_any=tuple(map(id_of, after_any)),
    )


def check_names(request: NewSession) -> None:
    """Raise `TypeError` for an argument that `enqueue` does not have."""
    if unknown := request.keys() - _NAMES:
        raise TypeError(f"enqueue() got an unexpected keyword argument {min(unknown)!r}")


def absolute(path: str | Path) -> str:
    """Seen from here. Links are left alone: they are the worker's to resolve."""
    return os.path.abspath(path)  # noqa: PTH100


def several(field: str, values: Sequence[T]) -> tuple[T, ...]:
    """Many, and not the letters of one."""
    if isinstance(values, str):
        raise InvalidValue(field, "is one string: give a list")
    return tuple(values)


def choose(field: str, kind: type[E], value: str) -> E:
    """One of a closed set. Raises `InvalidValue` for what is not in it."""
    try:
        return kind(value)
    except ValueError:
        raise InvalidValue(field, f"{value!r} is none of {', '.join(kind)}") from None


def check_moment(field: str, moment: datetime) -> None:
    """Raise `InvalidValue` for a time that could be anywhere."""
    if moment.utcoffset() is None:
        raise InvalidValue(field, "has no time zone")


def check_limit(limit: int, most: int) -> None:
    """Raise `InvalidValue` for a page of no size, or of one that nobody should hold in memory."""
    if isinstance(limit, bool) or not 1 <= limit <= most:
        raise InvalidValue("limit", f"{limit} is not in 1 to {most}")


def _command(command: Sequence[str] | None) -> tuple[str, ...] | None:
    if isinstance(command, str):
        raise InvalidValue("command", "is one string: give the program and each argument by itself")
    return None if command is None else tuple(command)


def _limits(request: NewSession) -> Limits:
    if _LIMITS.isdisjoint(request):
        return LIMITS
    return Limits(
        timeout_s=request.get("timeout_s", LIMITS.timeout_s),
        idle_timeout_s=request.get("idle_timeout_s", LIMITS.idle_timeout_s),
        max_output_bytes=request.get("max_output_bytes", LIMITS.max_output_bytes),
    )


def _claude(request: NewSession) -> ClaudeOptions:
    if _CLAUDE.isdisjoint(request):
        return CLAUDE
    effort = request.get("effort")
    return ClaudeOptions(
        model=request.get("model"),
        max_turns=request.get("max_turns", CLAUDE.max_turns),
        allowed_tools=several("allowed_tools", request.get("allowed_tools", ())),
        permission_mode=choose(
            "permission_mode", PermissionMode, request.get("permission_mode", CLAUDE.permission_mode)
        ),
        on_denied=choose("on_denied", OnDenied, request.get("on_denied", CLAUDE.on_denied)),
        disallowed_tools=several("disallowed_tools", request.get("disallowed_tools", ())),
        add_dirs=tuple(absolute(path) for path in several("add_dirs", request.get("add_dirs", ()))),
        mcp_config=request.get("mcp_config"),
        append_system_prompt=request.get("append_system_prompt"),
        agents=request.get("agents"),
        fallback_model=request.get("fallback_model"),
        effort=None if effort is None else choose("effort", Effort, effort),
        max_budget_usd=request.get("max_budget_usd"),
        json_schema=request.get("json_schema"),
    )
