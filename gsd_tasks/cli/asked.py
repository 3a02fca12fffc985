"""From the words of the command line to the values that `Client.enqueue` takes. What they may be, the client checks."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterable
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO, Final, TypeVar

from gsd_tasks.domain.errors import InvalidValue, UsageError

Value = TypeVar("Value")

# A comma inside of parentheses belongs to the tool's own rule.
_BETWEEN_TOOLS: Final = re.compile(r",(?![^()]*\))")


def read_prompt(argument: str | None, file: str | None, command: tuple[str, ...] | None) -> str | None:
    """The prompt, from wherever it comes; None for a command.

    Raises:
        UsageError: neither of them, or more than one.
        InvalidValue: a prompt that cannot be read, or is no text.
    """
    sources = [source for source in (argument, file, command) if source is not None]
    if not sources:
        raise UsageError('say what to run: a "PROMPT", - for standard input, --prompt-file FILE, or -- COMMAND ARG...')
    if len(sources) > 1:
        raise UsageError("give one of a prompt, --prompt-file and -- COMMAND, not several")
    if command is not None and not command:
        raise UsageError("no command after --")
    if argument == "-" or file == "-":
        return _read_standard_input()
    return argument if file is None else _decode(file, _read_file(file))


def read_variables(written: Iterable[str]) -> dict[str, str]:
    """`NAME=VALUE`s; of one name, the last counts."""
    variables = {}
    for item in written:
        name, equals, value = item.partition("=")
        if not name or not equals:
            raise InvalidValue("--env", f"{item!r} is not NAME=VALUE")
        variables[name] = value
    return variables


def read_context(written: str) -> dict[str, Any]:
    """A JSON object."""
    try:
        context = json.loads(written)
    except (ValueError, RecursionError) as error:
        raise InvalidValue("--context", f"is no JSON: {error}") from error
    if not isinstance(context, dict):
        raise InvalidValue("--context", "must be a JSON object, such as '{\"ticket\": 4711}'")
    return context


def read_document(option: str, written: str | None) -> dict[str, Any] | None:
    """A JSON object, as it is written or in the file of that name; None if the option was not given."""
    if written is None:
        return None
    text = written if written.lstrip().startswith("{") else _read_document(option, written)
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidValue(option, f"is no JSON: {error}") from error
    if not isinstance(document, dict):
        raise InvalidValue(option, f"{written}: holds no JSON object")
    return document


def read_tools(written: Iterable[str]) -> tuple[str, ...]:
    """Comma-separated or repeated; rules in parentheses stay in one piece."""
    return tuple(tool.strip() for item in written for tool in _BETWEEN_TOOLS.split(item) if tool.strip())


def read_ids(written: Iterable[str]) -> tuple[str, ...]:
    """Comma-separated or repeated."""
    return tuple(id_.strip() for item in written for id_ in item.split(",") if id_.strip())


def read(option: str, parse: Callable[[str], Value], written: str | None) -> Value | None:
    """`written` parsed; None if the option was not given.

    Raises:
        InvalidValue: the parser's ValueError, with the option's name.
    """
    try:
        return None if written is None else parse(written)
    except ValueError as error:
        raise InvalidValue(option, str(error)) from error


def now() -> datetime:
    """This moment, in this machine's time zone: what relative times count from."""
    return datetime.now().astimezone()


def absolute(folder: str, option: str = "--working-dir") -> Path:
    """Seen from here. Links and `..` are left to the worker: they may lead elsewhere on its host."""
    try:
        return Path(folder).absolute()
    except FileNotFoundError as error:
        raise InvalidValue(option, "the current directory does not exist any more") from error


def _read_standard_input() -> str:
    if sys.stdin is None:
        raise UsageError("standard input is closed: there is no prompt to read")
    return _decode("standard input", _read(sys.stdin.buffer))


def _read_file(path: str) -> bytes:
    try:
        with Path(path).open("rb") as file:
            return _read(file)
    except OSError as error:
        raise InvalidValue("--prompt-file", f"{path}: {error.strerror}") from error


def _read_document(option: str, path: str) -> str:
    from gsd_tasks.domain.checking import LARGEST_JSON_BYTES

    try:
        with Path(path).open("rb") as file:
            data = file.read(LARGEST_JSON_BYTES + 1)
    except OSError as error:
        raise InvalidValue(option, f"{path}: {error.strerror}: give a JSON object or a file with one") from error
    if len(data) > LARGEST_JSON_BYTES:
        raise InvalidValue(option, f"{path}: is larger than {LARGEST_JSON_BYTES} bytes")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise InvalidValue(option, f"{path}: is no valid text (UTF-8)") from error


def _read(source: BinaryIO) -> bytes:
    from gsd_tasks.domain.submission import LARGEST_PROMPT_BYTES

    data = source.read(LARGEST_PROMPT_BYTES + 1)
    if len(data) > LARGEST_PROMPT_BYTES:
        raise InvalidValue("prompt", f"is longer than {LARGEST_PROMPT_BYTES} bytes")
    return data


def _decode(where: str, data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise InvalidValue("prompt", f"{where} is no valid text (UTF-8): byte {error.start + 1}") from error
