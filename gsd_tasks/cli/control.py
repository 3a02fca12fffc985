"""`cancel`, `pause`, `retry`, `rm` and `wait`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Final

import typer

from gsd_tasks.cli import asked, connection, exits
from gsd_tasks.cli.reading import Id, Json
from gsd_tasks.cli.shapes import print_json
from gsd_tasks.domain.sanitize import one_line
from gsd_tasks.domain.state import Status
from gsd_tasks.domain.units import parse_duration, print_duration

if TYPE_CHECKING:
    from gsd_tasks.domain.session import Session

_WAIT_S: Final = 24 * 3600.0


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.command("cancel")(cancel)
    app.command("pause")(pause)
    app.command("retry")(retry)
    app.command("rm")(remove)
    app.command("wait")(wait)


def cancel(id_: Id, *, json: Json = False) -> None:
    """End a session: at once if it waits, else as soon as its worker has ended it, with everything it started."""
    with connection.connect() as client:
        session = client.cancel(id_)
    say(session, f"{session.id} {session.status}" if session.status.is_final else f"{session.id} is told to end", json)


def pause(id_: Id, *, json: Json = False) -> None:
    """Set a session aside until it is resumed: at once if it waits, else as soon as its worker has ended its child.

    A Claude session goes on then where it was. A running command cannot be paused.
    """
    with connection.connect() as client:
        session = client.pause(id_)
    is_idle = session.status is not Status.RUNNING
    say(session, f"{session.id} {session.status}" if is_idle else f"{session.id} is told to pause", json)


def retry(id_: Id, *, json: Json = False) -> None:
    """Queue a session once more that failed or was cancelled: it runs at once, and has all of its tries again."""
    with connection.connect() as client:
        session = client.retry(id_)
    say(session, f"{session.id} {session.status}", json)


def remove(id_: Id) -> None:
    """Delete a session that has ended, with its output and its history."""
    with connection.connect() as client:
        session = client.get(id_)
        client.delete(str(session.id))
    print(f"{session.id} deleted")


def wait(
    id_: Id,
    *,
    timeout: Annotated[
        str | None,
        typer.Option(
            "--timeout", metavar="DURATION", help="Wait no longer than this.", show_default=print_duration(_WAIT_S)
        ),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the session, once it has ended, as JSON.")] = False,
) -> int:
    """Wait for a session's end, and exit as `run` would have; with 124 if it has not ended by then."""
    timeout_s = asked.read("--timeout", parse_duration, timeout)
    with connection.connect() as client:
        try:
            session = client.wait(id_, timeout_s=_WAIT_S if timeout_s is None else timeout_s)
        except TimeoutError:
            print(
                f"gsd-tasks: {one_line(id_)} has not ended yet: `gsd-tasks show` says where it stands", file=sys.stderr
            )
            return exits.LIMIT
    if json:
        print_json(session)
    return exits.of_session(session)


def say(session: Session, words: str, as_json: bool) -> None:
    """One line about it, or the session as JSON."""
    if as_json:
        print_json(session)
    else:
        print(words)
