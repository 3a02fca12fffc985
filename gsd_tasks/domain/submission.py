"""Checking a request before anything of it is written."""

from __future__ import annotations

import hashlib
import json
import math
import re
from dataclasses import asdict, fields
from datetime import UTC
from typing import TYPE_CHECKING, Any, Final

from gsd_tasks.domain.checking import check_json, check_text, check_whole
from gsd_tasks.domain.claude_options import check_claude
from gsd_tasks.domain.errors import InvalidValue
from gsd_tasks.domain.session import (
    DEFAULT_MAX_RECOVERIES,
    DEFAULT_MAX_TRIES,
    HIGHEST_PRIORITY,
    LOWEST_PRIORITY,
    MOST_RECOVERIES,
    MOST_TRIES,
    ClaudeOptions,
    Limits,
    Submission,
)

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping, Sequence

LONGEST_NAME: Final = 200
LARGEST_PROMPT_BYTES: Final = 8 * 1024 * 1024
#: With every character of it escaped, it still fits into one input of a shim.
LARGEST_MESSAGE_BYTES: Final = 1024 * 1024
LARGEST_COMMAND_BYTES: Final = 1024 * 1024
#: Linux takes no longer argument (MAX_ARG_STRLEN, its NUL included).
LARGEST_ARGUMENT_BYTES: Final = 128 * 1024 - 1
LARGEST_ENV_BYTES: Final = 128 * 1024
LONGEST_TIME_S: Final = 366 * 24 * 3600
LARGEST_OUTPUT_BYTES: Final = 2**50
#: The CLI goes on under another id then, and what it says belongs to no session of ours.
_BEGINS_ANEW: Final = re.compile(r"\s*/(?:clear|reset|new)(?:\s|$)")
#: What Claude could be asked for from the beginning; for the rest `digest` has a rule.
_FIRST_OPTIONS: Final = frozenset({"model", "max_turns", "allowed_tools", "permission_mode"})
_NAMES: Final = {kind: tuple(field.name for field in fields(kind)) for kind in (Submission, ClaudeOptions, Limits)}
_USUAL: Final = asdict(ClaudeOptions())
#: Variables that no session can set: the worker's own, and those by which its shim marks each process.
OWN_PREFIXES: Final = ("GSD_", "GSDTASKS_")
MOST_SECRETS: Final = 100
#: How many others a session may wait for.
MOST_AWAITED: Final = 1000
SECRET_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
QUEUE_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")


def validate(request: Submission) -> Submission:
    """`request` itself, if it can be written and run as far as the producer can know.

    Raises:
        InvalidValue: the first field that cannot be used, and why.
    """
    _check_what(request)
    _check_where(request)
    _check_when(request)
    _check_names(request)
    _check_limits(request)
    _check_secrets(request)
    check_order(request.after, request.after_any)
    check_claude(request.claude)
    check_context(request.context)
    return request


def check_message(text: str) -> None:
    """Raise `InvalidValue` unless this can be said to a conversation."""
    check_text("message", text, LARGEST_MESSAGE_BYTES)
    _check_says("message", text)


def check_context(context: Mapping[str, Any]) -> None:
    """Raise `InvalidValue` unless this can be stored as a session's context."""
    check_json("context", context)


def check_order(after: Sequence[Hashable], after_any: Sequence[Hashable]) -> None:
    """Raise `InvalidValue` unless a session can follow these."""
    if len(after) + len(after_any) > MOST_AWAITED:
        raise InvalidValue("after", f"names more than {MOST_AWAITED} sessions: let some of them follow others")
    if twice := set(after) & set(after_any):
        raise InvalidValue("after_any", f"names {min(map(str, twice))}, which `after` has, too: give it once")


#: In place of a digest where there is no key: nobody ever compares it.
UNASKED: Final = b""


def digest(request: Submission) -> bytes:
    """What two requests with one idempotency key must have in common: everything that they ask for."""
    asked = _fields(request) | {"env": dict(request.env), "context": dict(request.context)}
    for name in ("run_at", "expires_at"):
        # The same instant is the same, in whichever time zone it was given.
        asked[name] = asked[name] and asked[name].astimezone(UTC).isoformat()
    later: dict[str, Any] = {"max_tries": DEFAULT_MAX_TRIES, "max_recoveries": DEFAULT_MAX_RECOVERIES}
    later |= dict.fromkeys(("secrets", "after", "after_any"), ())
    for name, default in later.items():
        # As if they had always been there: a key that was given before them still stands for the same request.
        if asked[name] == default:
            del asked[name]
    chosen = _fields(request.claude).items()
    asked["claude"] = {name: value for name, value in chosen if name in _FIRST_OPTIONS or value != _USUAL[name]}
    asked["limits"] = {name: float(value) for name, value in _fields(request.limits).items()}
    return hashlib.sha256(json.dumps(asked, sort_keys=True, default=str).encode()).digest()


def _fields(of: Submission | ClaudeOptions | Limits) -> dict[str, Any]:
    """As `dataclasses.asdict` has them, but not copied: there may be thousands of requests."""
    return {name: getattr(of, name) for name in _NAMES[type(of)]}


def _check_what(request: Submission) -> None:
    if (request.prompt is None) == (request.command is None):
        raise InvalidValue("prompt", "give either a prompt or a command")
    if request.prompt is not None:
        check_text("prompt", request.prompt, LARGEST_PROMPT_BYTES)
        _check_says("prompt", request.prompt)
    if request.command is not None:
        if not request.command or not request.command[0]:
            raise InvalidValue("command", "is empty: name a program")
        for argument in request.command:
            check_text("command", argument, LARGEST_ARGUMENT_BYTES)
        if sum(len(argument.encode()) for argument in request.command) > LARGEST_COMMAND_BYTES:
            raise InvalidValue("command", f"is longer than {LARGEST_COMMAND_BYTES} bytes")


def _check_says(field: str, text: str) -> None:
    if not text.strip():
        raise InvalidValue(field, "is empty: say what Claude is to do")
    if _BEGINS_ANEW.match(text):
        raise InvalidValue(field, "would begin another conversation: enqueue another session instead")


def _check_where(request: Submission) -> None:
    check_text("working_dir", request.working_dir, 4095)
    if not request.working_dir.startswith("/"):
        raise InvalidValue("working_dir", f"{request.working_dir!r} is not an absolute path")
    if not QUEUE_NAME.fullmatch(request.queue):
        raise InvalidValue("queue", f"{request.queue!r}: letters, digits, '_', '.' and '-' alone, at most 100")
    size = 0
    for name, value in request.env.items():
        _check_variable(name, value)
        size += len(name.encode()) + len(value.encode())
    if size > LARGEST_ENV_BYTES:
        raise InvalidValue("env", f"is larger than {LARGEST_ENV_BYTES} bytes")


def _check_variable(name: str, value: str) -> None:
    if not name or "=" in name:
        raise InvalidValue("env", f"{name!r} is no name of a variable")
    if name.startswith(OWN_PREFIXES):
        raise InvalidValue("env", f"{name!r}: names that start with {' or '.join(OWN_PREFIXES)} are the worker's own")
    check_text("env", name, LARGEST_ENV_BYTES)
    check_text(f"env {name}", value, LARGEST_ENV_BYTES)


def _check_secrets(request: Submission) -> None:
    if len(request.secrets) > MOST_SECRETS:
        raise InvalidValue("secrets", f"are more than {MOST_SECRETS}")
    for name in request.secrets:
        check_text("secrets", name, LONGEST_NAME)
        if not SECRET_NAME.fullmatch(name):
            raise InvalidValue("secrets", f"{name!r}: letters, digits and '_' alone, and no digit first")
        if name.upper().startswith(OWN_PREFIXES):
            raise InvalidValue("secrets", f"{name!r}: the worker's own settings are not handed over")
        if name in request.env:
            raise InvalidValue("secrets", f"{name!r} is given as a variable, too: give it once")


def _check_when(request: Submission) -> None:
    for name, moment in (("run_at", request.run_at), ("expires_at", request.expires_at)):
        if moment is not None and moment.utcoffset() is None:
            raise InvalidValue(name, "has no time zone")
    if request.run_at and request.expires_at and request.expires_at <= request.run_at:
        raise InvalidValue("expires_at", "lies before run_at: it could never run")
    if isinstance(request.priority, bool) or not HIGHEST_PRIORITY <= request.priority <= LOWEST_PRIORITY:
        raise InvalidValue("priority", f"{request.priority} is not in 0 (first) to 9 (last)")


def _check_names(request: Submission) -> None:
    for name, value in (("name", request.name), ("thread", request.thread), ("key", request.key)):
        if value is not None:
            check_text(name, value, LONGEST_NAME)
            if not value:
                raise InvalidValue(name, "is empty: leave it out instead")


def _check_limits(request: Submission) -> None:
    limits = request.limits
    for name, seconds in (("timeout_s", limits.timeout_s), ("idle_timeout_s", limits.idle_timeout_s)):
        if not (math.isfinite(seconds) and 0 < seconds <= LONGEST_TIME_S):
            raise InvalidValue(name, f"{seconds} is not in more than 0 to {LONGEST_TIME_S} seconds")
    if not 0 < limits.max_output_bytes <= LARGEST_OUTPUT_BYTES:
        raise InvalidValue("max_output_bytes", f"{limits.max_output_bytes} is not in 1 to {LARGEST_OUTPUT_BYTES}")
    check_whole("max_tries", request.max_tries, 1, MOST_TRIES)
    check_whole("max_recoveries", request.max_recoveries, 0, MOST_RECOVERIES)
