"""`top`: workers, queues and sessions, live."""

from __future__ import annotations

import select
import signal
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Final, NoReturn

import typer

from gsd_tasks.cli import connection, exits
from gsd_tasks.cli.glance import Glance, compare, look
from gsd_tasks.cli.reading import Json, shorten_ids
from gsd_tasks.cli.signals import Leave
from gsd_tasks.domain.errors import Unavailable
from gsd_tasks.domain.sanitize import one_line
from gsd_tasks.domain.units import print_age, print_took
from gsd_tasks.local.signals import Wakeup, handled

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

    from rich.console import Console, RenderableType
    from rich.live import Live

    from gsd_tasks.client import Client

_WORKERS: Final = ("WORKER", "STATUS", "BUSY", "QUEUES", "SEEN")
_QUEUES: Final = ("QUEUE", "RUNNING", "QUEUED", "WAITING")
_SESSIONS: Final = ("ID", "WORKER", "SLOT", "TOOK", "LINES", "LINES/S", "WHAT")
#: Before the sessions a blank line and their heading, and after them how many more there are.
_FRAME_LINES: Final = 3
_FEWEST: Final = 3


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.command("top")(top)


def top(
    *,
    every: Annotated[
        float, typer.Option("--every", min=0.2, max=3600, metavar="SECONDS", help="How often to look.")
    ] = 1.0,
    once: Annotated[bool, typer.Option("--once", help="One look, and no lines a second: they need two.")] = False,
    json: Json = False,
) -> int:
    """Watch the cluster: workers and their slots, queues, and how many lines a second each session writes.

    Until Ctrl-C; off a terminal it is one look. Servers that are away for a while are waited for.
    """
    from rich.console import Console

    screen = Console(file=sys.stdout, markup=False, highlight=False, emoji=False)
    with connection.connect() as client:
        if not once and not json and sys.stdout.isatty() and not screen.is_dumb_terminal:
            return _watch(client, screen, every)
        glance = compare(look(client), None)
    if json:
        from gsd_tasks.cli.shapes import print_json

        print_json(glance)
    else:
        from gsd_tasks.cli.tables import print_table

        print(_heading(glance))
        for headings, rows in _tables(glance):
            print()
            print_table(headings, rows)
    return exits.OK


def _watch(client: Client, screen: Console, every: float) -> int:
    from rich.live import Live

    with _signals() as wakeup:
        try:
            with Live(console=screen, screen=True, auto_refresh=False, transient=True) as live:
                _refresh(client, live, every, wakeup)
        except Leave as leave:
            return exits.of_signal(leave.number)
        except KeyboardInterrupt:
            return exits.OK  # the way out of it


def _refresh(client: Client, live: Live, every: float, wakeup: Wakeup) -> NoReturn:
    before, glance, trouble = None, None, None
    while True:
        due = time.monotonic() + every
        try:
            seen = look(client)
            glance, before, trouble = compare(seen, before), seen, None
        except Unavailable as error:
            trouble = str(error)
        live.update(_picture(glance, trouble, live.console), refresh=True)
        while (rest_s := due - time.monotonic()) > 0:
            if select.select([wakeup], [], [], rest_s)[0]:
                wakeup.drain()
                live.update(_picture(glance, trouble, live.console), refresh=True)


def _picture(glance: Glance | None, trouble: str | None, screen: Console) -> RenderableType:
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    parts: list[RenderableType] = []
    if trouble is not None:
        parts.append(Text(f"waiting: {one_line(trouble)}", style="red"))
    if glance is not None:
        parts.append(Text(_heading(glance), style="dim" if trouble else "bold", no_wrap=True, overflow="ellipsis"))
        *others, sessions = _tables(glance)
        for headings, rows in others:
            parts += _cut(headings, rows, screen.height // 4)
        above = len(parts) + sum(part.row_count for part in parts if isinstance(part, Table))
        parts += _cut(*sessions, screen.height - above - _FRAME_LINES)
    return Group(*parts)


def _cut(headings: tuple[str, ...], rows: list[tuple[str, ...]], most: int) -> list[RenderableType]:
    from rich.text import Text

    from gsd_tasks.cli.tables import make_table

    shown = rows[: max(_FEWEST, most)]
    more = len(rows) - len(shown)
    return [
        Text(),
        make_table(headings, shown),
        *([Text(f"and {more} more", style="dim")] if more else []),
    ]


def _heading(glance: Glance) -> str:
    more = "+" if glance.is_cut else ""
    busy, sessions = f"{glance.busy} of {glance.slots} busy", f"{len(glance.sessions)}{more} running"
    rate = _rate(glance.lines_per_s)
    return f"workers: {len(glance.workers)}; slots: {busy}; sessions: {sessions}; lines/s: {rate}"


def _tables(glance: Glance) -> list[tuple[tuple[str, ...], list[tuple[str, ...]]]]:
    more = "+" if glance.is_cut else ""
    workers: list[tuple[str, ...]] = [
        (
            worker.name,
            str(worker.status),
            f"{len(worker.busy)} of {worker.slots}",
            ",".join(worker.queues),
            f"{print_age((glance.at - worker.seen_at).total_seconds())} ago",
        )
        for worker in glance.workers
    ]
    queues: list[tuple[str, ...]] = [
        (queue.name, *(f"{number}{more}" for number in (queue.running, queue.queued, queue.waiting)))
        for queue in glance.queues
    ]
    sessions: list[tuple[str, ...]] = [
        (
            short,
            one.worker or "-",
            "-" if one.slot is None else str(one.slot),
            "-" if one.started_at is None else print_took((glance.at - one.started_at).total_seconds()),
            str(one.lines),
            _rate(one.lines_per_s),
            one.what,
        )
        for short, one in zip(shorten_ids([str(one.id) for one in glance.sessions]), glance.sessions, strict=True)
    ]
    return [(_WORKERS, workers), (_QUEUES, queues), (_SESSIONS, sessions)]


def _rate(lines_per_s: float | None) -> str:
    return "-" if lines_per_s is None else f"{lines_per_s:,.1f}"


@contextmanager
def _signals() -> Iterator[Wakeup]:
    """SIGTERM leaves as Ctrl-C does, and the terminal as it was; what is yielded wakes for another size of it, too."""

    def leave(number: int, _frame: FrameType | None) -> None:
        raise Leave(number)

    with handled({signal.SIGTERM: leave, signal.SIGWINCH: lambda *_: None}), Wakeup() as wakeup:
        yield wakeup
