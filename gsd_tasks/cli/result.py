"""`result`: the final answer of a Claude session alone, for a script to go on with."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import typer

from gsd_tasks.cli import connection, exits
from gsd_tasks.cli.reading import Id, Json
from gsd_tasks.cli.shapes import print_json
from gsd_tasks.domain.errors import NotAllowed
from gsd_tasks.domain.sanitize import one_line, visible_lines
from gsd_tasks.domain.session import Kind

if TYPE_CHECKING:
    from gsd_tasks.domain.session import Session


def register(app: typer.Typer) -> None:
    """Add the command of this file."""
    app.command("result")(result)


def result(id_: Id, *, json: Json = False) -> int:
    """The final answer of a Claude session and nothing else, or the JSON that --json-schema asked for.

    With --json all that is known of how it ended: text, turns, tokens, cost, denials. Where there is no answer, it says
    why on standard error, and exits with 1 if the session has ended, with 2 if it has not or is a command.
    """
    with connection.connect() as client:
        session = client.get(id_)
    if session.kind is Kind.COMMAND:
        raise NotAllowed(str(session.id), "is a command, which gives no answer: `gsd-tasks logs` has what it wrote")
    if session.result is None:
        return _explain(session)
    if json:
        print_json(session.result)
    elif session.result.get("is_error"):
        return _explain(session)
    elif (structured := session.result.get("structured_output")) is not None:
        print_json(structured)
    else:
        _print_exactly(str(session.result.get("text") or ""))
    return exits.OK


def _explain(session: Session) -> int:
    if not session.status.is_final:
        raise NotAllowed(str(session.id), f"has no answer yet: it is {session.status}; `gsd-tasks wait` waits for it")
    why = one_line(session.detail or "`gsd-tasks logs` shows what it did")
    print(f"gsd-tasks: session {session.id} ended without an answer ({session.reason}): {why}", file=sys.stderr)
    return exits.UNFIT


def _print_exactly(text: str) -> None:
    if sys.stdout.isatty():
        # The model may have been made to say what a terminal obeys.
        print("\n".join(visible_lines(text)))
        return
    sys.stdout.flush()
    sys.stdout.buffer.write(f"{text}\n".encode())
