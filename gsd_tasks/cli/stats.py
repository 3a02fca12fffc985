"""`stats` and `costs`: figures over many sessions, and what each turn of one cost."""

from __future__ import annotations

from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING, Annotated, Final

import typer

from gsd_tasks.cli import asked, connection
from gsd_tasks.cli.reading import Id, Json
from gsd_tasks.cli.shapes import print_json
from gsd_tasks.domain.state import Status
from gsd_tasks.domain.statistics import LOOK_BACK, By
from gsd_tasks.domain.units import parse_past, print_duration, print_time, print_took

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from gsd_tasks.domain.claude_results import Tokens
    from gsd_tasks.domain.costs import RecordedTurn, Use
    from gsd_tasks.domain.statistics import Figures, Statistics

_ENDS: Final = (Status.COMPLETED, Status.FAILED, Status.CANCELLED)
_TOKENS: Final = ("IN", "OUT", "CACHE READ", "CACHE WRITE", "COST")


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.command("stats")(stats)
    app.command("costs")(costs)


def stats(
    *,
    since: Annotated[
        str | None,
        typer.Option(
            "--since",
            metavar="TIME",
            help="Only since: 7d (ago), or 2026-11-01.",
            show_default=print_duration(LOOK_BACK.total_seconds()),
        ),
    ] = None,
    by: Annotated[
        By | None, typer.Option("--by", help="Tell apart by: day (in UTC), model, thread.", show_default="all together")
    ] = None,
    json: Json = False,
) -> None:
    """How sessions ended, how long they took, and what they cost.

    A session counts when it ended last, with all of its attempts; its model is that of its last turn.

    A turn counts when it was recorded. Costs are those that the claude CLI reports: a turn that was killed has none.
    """
    moment = asked.read("--since", partial(parse_past, now=asked.now()), since)
    with connection.connect() as client:
        found = client.stats(since=moment, by=by)
    if json:
        print_json(found)
    elif by is None:
        _print_all(found)
    else:
        _print_groups(found, by)


def costs(id_: Id, *, json: Json = False) -> None:
    """What each turn of a Claude session cost, and each of its attempts.

    Costs are those that the claude CLI reports as a turn ends: a turn that was killed has none.
    """
    with connection.connect() as client:
        turns = client.turns(id_)
    if json:
        print_json(turns)
    elif not turns:
        print("no turn has ended yet")
    else:
        from gsd_tasks.cli.tables import print_table

        print_table(("ATTEMPT", "AT", "MODEL", "RESULT", "TOOK", *_TOKENS), _lines(turns))


def _print_all(found: Statistics) -> None:
    from gsd_tasks.cli.tables import print_fields, print_table

    total = found.total
    ends = ", ".join(f"{total.count(status)} {status}" for status in _ENDS)
    took = total.took
    times = f"p50 {_time(took.p50_s)}, p95 {_time(took.p95_s)}, longest {_time(took.max_s)}"
    tokens = total.tokens
    print_fields([
        ("since", print_time(found.since)),
        ("ended", f"{total.sessions}: {ends}" if total.sessions else "0"),
        ("took", times if took.sessions else None),
        ("attempts", str(total.attempts)),
        ("failed tries", str(total.tries)),
        ("recoveries", str(total.recoveries)),
        ("turns", str(total.turns)),
        ("tokens", f"{tokens.input:,} in, {tokens.output:,} out"),
        ("cache", f"{tokens.cache_read:,} tokens read, {tokens.cache_write:,} written"),
        ("cost", _cost(total.cost_usd)),
    ])  # fmt: skip
    if total.outcomes:
        print()
        rows = [(str(one.status), str(one.reason), str(one.sessions)) for one in total.outcomes]
        print_table(("STATUS", "REASON", "SESSIONS"), rows)


def _print_groups(found: Statistics, by: By) -> None:
    from gsd_tasks.cli.tables import print_table

    ends = (status.value.upper() for status in _ENDS)
    headings = (by.value.upper(), "ENDED", *ends, "P50", "P95", "LONGEST", "TRIES", "RECOVERIES", "TURNS", *_TOKENS)
    rows = [_row(figures, figures.key or "-") for figures in found.groups]
    print_table(headings, [*rows, _row(found.total, "all")])


def _row(figures: Figures, key: str) -> tuple[str, ...]:
    took = figures.took
    return (
        key,
        str(figures.sessions),
        *(str(figures.count(status)) for status in _ENDS),
        *(_time(seconds) for seconds in (took.p50_s, took.p95_s, took.max_s)),
        *(str(count) for count in (figures.tries, figures.recoveries, figures.turns)),
        *_spent(figures.tokens, figures.cost_usd),
    )


def _lines(turns: Sequence[RecordedTurn]) -> Iterator[tuple[str, ...]]:
    """Each turn, and below those of an attempt what it cost in all, if that is not the same."""
    from gsd_tasks.domain.costs import sum_turns

    attempts = [(attempt, list(of_it)) for attempt, of_it in groupby(turns, key=lambda turn: turn.attempt)]
    for attempt, of_it in attempts:
        for turn in of_it:
            result = "error" if turn.is_error and turn.subtype == "success" else turn.subtype
            took = print_took(turn.duration_s)
            tokens = _spent(turn.tokens, turn.cost_usd)
            yield str(attempt), print_time(turn.at), turn.model or "-", result, took, *tokens
        if len(of_it) > 1 and len(attempts) > 1:
            yield _sum_line(str(attempt), sum_turns(of_it))
    if len(turns) > 1:
        yield _sum_line("all", sum_turns(turns))


def _sum_line(attempt: str, use: Use) -> tuple[str, ...]:
    return attempt, "all turns", "", "", "", *_spent(use, use.cost_usd)


def _spent(tokens: Tokens, cost_usd: float) -> tuple[str, ...]:
    counts = (tokens.input, tokens.output, tokens.cache_read, tokens.cache_write)
    return *(f"{count:,}" for count in counts), _cost(cost_usd)


def _time(seconds: float | None) -> str:
    return "-" if seconds is None else print_took(seconds)


def _cost(usd: float) -> str:
    return f"${usd:,.4f}"
