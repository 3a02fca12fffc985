"""Checking a request before anything of it is written."""

from __future__ import annotations

import hashlib
import json
import math
import re
from dataclasses import asdict
from datetime import UTC
from typing import TYPE_CHECKING, Any, Final

from gsd_tasks.domain.errors import InvalidValue
from gsd_tasks.domain.session import (
    DEFAULT_MAX_RECOVERIES,
    DEFAULT_MAX_TRIES,
    HIGHEST_PRIORITY,
    LOWEST_PRIORITY,
    MOST_RECOVERIES,
    MOST_TRIES,
    Submission,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

LONGEST_NAME: Final = 200
LARGEST_PROMPT_BYTES: Final = 8 * 1024 * 1024
LARGEST_COMMAND_BYTES: Final = 1024 * 1024
#: Linux takes no longer argument (MAX_ARG_STRLEN, its NUL included).
LARGEST_ARGUMENT_BYTES: Final = 128 * 1024 - 1
DEEPEST_CONTEXT: Final = 100
LARGEST_CONTEXT_BYTES: Final = 1024 * 1024
LARGEST_ENV_BYTES: Final = 128 * 1024
LONGEST_TIME_S: Final = 366 * 24 * 3600
LARGEST_OUTPUT_BYTES: Final = 2**50
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
    check_context(request.context)
    return request


def check_context(context: Mapping[str, Any]) -> None:
    """Raise `InvalidValue` unless this can be stored as a session's context."""
    _check_json("context", context)


def digest(request: Submission) -> bytes:
    """What two requests with one idempotency key must have in common: everything that they ask for."""
    asked = asdict(request)
    for name in ("run_at", "expires_at"):
        # The same instant is the same, in whichever time zone it was given.
        asked[name] = asked[name] and asked[name].astimezone(UTC).isoformat()
    for name, default in (("max_tries", DEFAULT_MAX_TRIES), ("max_recoveries", DEFAULT_MAX_RECOVERIES)):
        # As if they had always been there: a key that was given before them still stands for the same request.
        if asked[name] == default:
            del asked[name]
    asked["limits"] = {name: float(value) for name, value in asked["limits"].items()}
    return hashlib.sha256(json.dumps(asked, sort_keys=True, default=str).encode()).digest()


def _check_what(request: Submission) -> None:
    if (request.prompt is None) == (request.command is None):
        raise InvalidValue("prompt", "give either a prompt or a command")
    if request.prompt is not None:
        _check_text("prompt", request.prompt, LARGEST_PROMPT_BYTES)
        if not request.prompt.strip():
            raise InvalidValue("prompt", "is empty: say what Claude is to do")
    if request.command is not None:
        if not request.command or not request.command[0]:
            raise InvalidValue("command", "is empty: name a program")
        for argument in request.command:
            _check_text("command", argument, LARGEST_ARGUMENT_BYTES)
        if sum(len(argument.encode()) for argument in request.command) > LARGEST_COMMAND_BYTES:
            raise InvalidValue("command", f"is longer than {LARGEST_COMMAND_BYTES} bytes")


def _check_where(request: Submission) -> None:
    _check_text("working_dir", request.working_dir, 4095)
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
    if name.startswith("GSD_"):
        raise InvalidValue("env", f"{name!r}: names that start with GSD_ are the worker's own")
    _check_text("env", name, LARGEST_ENV_BYTES)
    _check_text(f"env {name}", value, LARGEST_ENV_BYTES)


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
            _check_text(name, value, LONGEST_NAME)
            if not value:
                raise InvalidValue(name, "is empty: leave it out instead")
    for value in (request.claude.model, *request.claude.allowed_tools):
        if value is not None:
            _check_text("claude options", value, 4096)


def _check_limits(request: Submission) -> None:
    limits = request.limits
    for name, seconds in (("timeout_s", limits.timeout_s), ("idle_timeout_s", limits.idle_timeout_s)):
        if not (math.isfinite(seconds) and 0 < seconds <= LONGEST_TIME_S):
            raise InvalidValue(name, f"{seconds} is not in more than 0 to {LONGEST_TIME_S} seconds")
    if not 0 < limits.max_output_bytes <= LARGEST_OUTPUT_BYTES:
        raise InvalidValue("max_output_bytes", f"{limits.max_output_bytes} is not in 1 to {LARGEST_OUTPUT_BYTES}")
    if request.claude.max_turns is not None:
        _check_whole("max_turns", request.claude.max_turns, 1, 1_000_000)
    _check_whole("max_tries", request.max_tries, 1, MOST_TRIES)
    _check_whole("max_recoveries", request.max_recoveries, 0, MOST_RECOVERIES)


def _check_whole(name: str, value: object, least: int, most: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise InvalidValue(name, f"{value!r} is not in {least} to {most}")


def _check_text(name: str, value: object, largest: int) -> None:
    if not isinstance(value, str):
        raise InvalidValue(name, f"{value!r} is no text")
    if "\0" in value:
        raise InvalidValue(name, "has a NUL character in it")
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        raise InvalidValue(name, "is no valid text (UTF-8)") from None
    if size > largest:
        raise InvalidValue(name, f"is longer than {largest} bytes")


def _check_json(name: str, value: Mapping[str, Any]) -> None:
    try:
        text = json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidValue(name, f"is no JSON object: {error}") from error
    if len(text) > LARGEST_CONTEXT_BYTES:
        raise InvalidValue(name, f"is larger than {LARGEST_CONTEXT_BYTES} bytes")
    _check_value(name, value, DEEPEST_CONTEXT)


def _check_value(name: str, value: object, depth: int) -> None:
    """What JSON, and then Postgres, keeps as it is: keys that are text, text without NUL, and no bottomless nesting."""
    if depth == 0:
        raise InvalidValue(name, f"is nested deeper than {DEEPEST_CONTEXT} levels")
    if isinstance(value, str):
        _check_text(name, value, LARGEST_CONTEXT_BYTES)
    elif isinstance(value, dict):
        for key, inner in value.items():
            _check_text(name, key, LARGEST_CONTEXT_BYTES)
            _check_value(name, inner, depth - 1)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            _check_value(name, inner, depth - 1)
