"""`enqueue-many`: sessions that are queued all at once, as JSON has them."""

from __future__ import annotations

import json
import sys
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Final, get_type_hints

import typer

from gsd_tasks.cli import connection, exits
from gsd_tasks.cli.reading import Json
from gsd_tasks.cli.shapes import print_json
from gsd_tasks.domain.errors import InvalidValue, UsageError

LARGEST_FILE_BYTES: Final = 256 * 1024 * 1024
_STANDARD_INPUT: Final = "-"
_HELP: Final = """Queue many sessions at once, all of them or none, and print their ids in the same order.

    FILE has a JSON object for each, one a line or all in a list: {"ref": "b", "command": ["make"], "after": ["@a"]}.
    Its names are those of the arguments of `Client.enqueue`; `ref` is a name of its own, by which the others may call
    it in `after`, `after_any` and `parent`, with an @ before it."""


def register(app: typer.Typer) -> None:
    """Add the command of this file."""
    app.command("enqueue-many", help=_HELP)(enqueue_many)


def enqueue_many(
    file: Annotated[str, typer.Argument(metavar="FILE | -", help="Where they stand; - is standard input.")],
    *,
    json: Json = False,
) -> int:
    """Queue what the file has."""
    requests = [_read_one(number, document) for number, document in enumerate(_parse(file, _read(file)), 1)]
    with connection.connect() as client:
        sessions = client.enqueue_many(requests)
    if json:
        print_json(sessions)
    else:
        for session in sessions:
            print(session.id)
    return exits.OK


def _read(file: str) -> str:
    if file == _STANDARD_INPUT and sys.stdin is None:
        raise UsageError("standard input is closed: there is nothing to read")
    try:
        if file == _STANDARD_INPUT:
            data = sys.stdin.buffer.read(LARGEST_FILE_BYTES + 1)
        else:
            with Path(file).open("rb") as opened:
                data = opened.read(LARGEST_FILE_BYTES + 1)
        text = data.decode()
    except OSError as error:
        raise InvalidValue("FILE", f"{file}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InvalidValue("FILE", f"{file}: is no valid text (UTF-8): byte {error.start + 1}") from error
    if len(data) > LARGEST_FILE_BYTES:
        raise InvalidValue("FILE", f"{file}: is larger than {LARGEST_FILE_BYTES} bytes: give less at once")
    return text


def _parse(file: str, text: str) -> list[Any]:
    """A list, or a value a line."""
    if text.lstrip().startswith("["):
        documents = _load(f"{file}", text)
        return documents if isinstance(documents, list) else [documents]
    lines = enumerate(text.split("\n"), 1)
    return [_load(f"{file}, line {number}", line) for number, line in lines if line.strip()]


def _load(where: str, text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidValue("FILE", f"{where}: is no JSON: {error}") from error


def _read_one(number: int, document: Any) -> dict[str, Any]:
    if not isinstance(document, dict):
        raise InvalidValue("FILE", f"number {number} is no JSON object")
    hints = _hints()
    for name in document:
        if name not in hints:
            raise InvalidValue(name, f"(of number {number}) is nothing that a session can be given")
    return {name: _value(number, name, value) for name, value in document.items()}


def _value(number: int, name: str, value: Any) -> Any:
    from pydantic import ValidationError

    try:
        return _adapter(name).validate_json(json.dumps(value))
    except ValidationError as error:
        raise InvalidValue(name, f"{error.errors()[0]['msg']} (of number {number})") from error


@cache
def _hints() -> dict[str, Any]:
    from gsd_tasks.client.graph import NewGraphSession

    return get_type_hints(NewGraphSession)


@cache
def _adapter(name: str) -> Any:
    # Late: it takes a while to import.
    from pydantic import ConfigDict, TypeAdapter

    return TypeAdapter(_hints()[name], config=ConfigDict(strict=True))
