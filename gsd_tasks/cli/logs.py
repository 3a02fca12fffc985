"""`logs`: what a session wrote, from any point on, in memory that does not grow with it."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Annotated, Final

import typer

from gsd_tasks.cli import asked, connection
from gsd_tasks.cli.display import Display
from gsd_tasks.cli.reading import Id
from gsd_tasks.cli.screen import Screen
from gsd_tasks.domain.errors import UsageError
from gsd_tasks.domain.session import OutputRow, Session, Stream
from gsd_tasks.domain.units import parse_past

if TYPE_CHECKING:
    from gsd_tasks.client import Client

# A page is shorter where its rows are long: the store bounds it in bytes too.
_PAGE_ROWS: Final = 1000


def register(app: typer.Typer) -> None:
    """Add the command of this file."""
    app.command("logs")(logs)


def logs(
    id_: Id,
    *,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on until the session has ended.")] = False,
    after: Annotated[int, typer.Option("--after", metavar="SEQ", min=0, help="Only what came after this row.")] = 0,
    tail: Annotated[
        int | None,
        typer.Option("--tail", metavar="N", min=0, max=100_000, help="Only the last N rows.", show_default="all"),
    ] = None,
    since: Annotated[
        str | None,
        typer.Option("--since", metavar="TIME", help="Only since: 10m (ago), or 2026-11-21T18:00.", show_default="all"),
    ] = None,
    timestamps: Annotated[bool, typer.Option("-t", "--timestamps", help="The time (UTC) before each line.")] = False,
    stream: Annotated[
        Stream | None, typer.Option("--stream", help="Only this one of the two.", show_default="both")
    ] = None,
    raw: Annotated[bool, typer.Option("--raw", help="The bytes exactly as written, unsafe for a terminal.")] = False,
    json: Annotated[bool, typer.Option("--json", help="One JSON object for each row.")] = False,
) -> None:
    """What a session wrote: both of its streams, on standard output, safe for a terminal."""
    if raw and (json or timestamps):
        raise UsageError("--raw writes the bytes and nothing else: leave out --json and -t")
    moment = asked.read("--since", partial(parse_past, now=asked.now()), since)
    with connection.connect() as client:
        session = client.get(id_)
        start = max(after, _before_tail(client, session, tail, stream))
        if moment is not None:
            found = client.output_since(str(session.id), moment, stream=stream, limit=1)
            start = max(start, found[0].seq - 1 if found else session.seq)
        # What has ended says no more: it is read like one that is not followed, wherever it is by now.
        is_live = follow and not session.status.is_final
        rows = _live(client, session, start, stream) if is_live else _pages(client, session, start, stream)
        if raw:
            _write_bytes(rows, flush=follow)
        elif json:
            _write_json(rows, flush=follow)
        else:
            display = Display(Screen(sys.stdout, sys.stdout), session.kind, timestamps=timestamps, after_seq=start)
            _write_text(rows, display)


def _before_tail(client: Client, session: Session, tail: int | None, stream: Stream | None) -> int:
    """The `seq` after which the last `tail` rows come."""
    if tail is None:
        return 0
    if tail == 0 or stream is None:
        return max(0, session.seq - tail)
    newest = client.output(str(session.id), limit=min(tail, _PAGE_ROWS), stream=stream, newest_first=True)
    if len(newest) == tail:
        return newest[-1].seq - 1
    # There are no more, or they are too long for one page: which row it is, is found from the front.
    last = deque((row.seq for row in _pages(client, session, 0, stream)), maxlen=tail)
    return last[0] - 1 if last else session.seq


def _live(client: Client, session: Session, start: int, stream: Stream | None) -> Iterator[OutputRow]:
    return client.follow(str(session.id), after_seq=start, stream=stream)


def _pages(client: Client, session: Session, start: int, stream: Stream | None) -> Iterator[OutputRow]:
    while page := client.output(str(session.id), after_seq=start, limit=_PAGE_ROWS, stream=stream):
        yield from page
        start = page[-1].seq


def _write_bytes(rows: Iterable[OutputRow], *, flush: bool) -> None:
    out = sys.stdout.buffer
    for row in rows:
        out.write(row.as_bytes())
        if flush:
            out.flush()
    out.flush()


def _write_json(rows: Iterable[OutputRow], *, flush: bool) -> None:
    from gsd_tasks.cli.shapes import print_json

    for row in rows:
        print_json(row)
        if flush:
            sys.stdout.flush()


def _write_text(rows: Iterable[OutputRow], display: Display) -> None:
    for row in rows:
        display.show(row)
    display.finish()
