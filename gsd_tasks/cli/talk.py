"""`resume`, `send`, `interrupt` and `fork`: going on with a conversation."""

from __future__ import annotations

from typing import Annotated

import typer

from gsd_tasks.cli import asked, connection
from gsd_tasks.cli.control import say
from gsd_tasks.cli.reading import Id, Json

Message = Annotated[str, typer.Argument(metavar="MESSAGE", help="What to say; - reads it from standard input.")]
FurtherPrompt = Annotated[
    str | None,
    typer.Argument(
        metavar="[PROMPT]", help="What Claude is to do next; - reads it from standard input.", show_default=False
    ),
]


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.command("resume")(resume)
    app.command("send")(send)
    app.command("interrupt")(interrupt)
    app.command("fork")(fork)


def resume(id_: Id, prompt: FurtherPrompt = None, *, json: Json = False) -> None:
    """Go on with a paused session; or, with a prompt, with a Claude session that has ended.

    It is the same session and conversation, and its rows count on. A pause that is not carried out yet is taken back.
    """
    words = _read(prompt)
    with connection.connect() as client:
        session = client.resume(id_, words)
    say(session, f"{session.id} {session.status}", json)


def send(id_: Id, message: Message, *, json: Json = False) -> None:
    """Say something more to a Claude session that has not ended. It is delivered exactly once."""
    words = _read(message) or ""
    with connection.connect() as client:
        number = client.send(id_, words)
        session = client.get(id_)
    say(session, f"{session.id} message {number}", json)


def interrupt(id_: Id, *, json: Json = False) -> None:
    """End the turn that a Claude session is at. What was sent to it before is answered next; else the session ends."""
    with connection.connect() as client:
        session = client.interrupt(id_)
    say(session, f"{session.id} is told to end its turn", json)


def fork(
    id_: Id,
    prompt: FurtherPrompt = None,
    *,
    name: Annotated[str | None, typer.Option("--name", help="A name for the new one.", show_default="none")] = None,
    json: Json = False,
) -> None:
    """Start a new session from a copy of this one's conversation, with the same options; prints its id.

    Both work in the same directory: see that they do not get in each other's way.
    """
    words = _read(prompt)
    with connection.connect() as client:
        session = client.fork(id_, words, name=name)
    say(session, str(session.id), json)


def _read(argument: str | None) -> str | None:
    return None if argument is None else asked.read_prompt(argument, None, None)
