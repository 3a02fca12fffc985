"""What peers gave, as tables for people."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from typing import Final

from benchmarks.figures import dispatching, lines, peers
from benchmarks.figures.killed import WATCH_S, Outcome
from benchmarks.measuring import Result, Role

#: Which quantities stand in the table, and how: key, what, quantity, unit.
ROWS: Final = (
    ("F1", "lines a second, three children", lines.RATE, "/s"),
    ("", "of these, read by one who was there", peers.READ, "%"),
    ("", "kept for one who comes later", peers.KEPT, "%"),
    ("F9", "CPU for a million of them, servers included", lines.CPU, "s"),
    ("F3", "enqueue to the child's first instruction", dispatching.DISPATCH, "ms"),
    ("F5", "jobs a second that do nothing", dispatching.RATE, "/s"),
)


def figures(results: Sequence[Result]) -> str:
    """Everybody's beside each other, as Markdown; empty where no peer was measured."""
    names = list(dict.fromkeys(name for result in results for name, role in result.roles.items() if role is Role.PEER))
    if not names:
        return ""
    rows = [
        f"| {key} | {what} | {' | '.join(_cells(result, quantity, unit, names))} |"
        for key, what, quantity, unit in ROWS
        for result in results
        if result.names(Role.PEER, quantity)
    ]
    return "\n".join([f"| | | gsd-tasks | {' | '.join(names)} |", f"|---|---|---|{'---|' * len(names)}", *rows])


def killed(outcomes: Sequence[Outcome]) -> str:
    """What the kill of a worker cost each, as Markdown; empty where nobody was asked."""
    head = (
        "| killed worker | its child | the child's tool | output goes on | runs | at once | lines missing | twice |",
        " it says | the next worker's job |",
    )
    if not outcomes:
        return ""
    rows = [f"| {' | '.join(_words(outcome))} |" for outcome in outcomes]
    return "\n".join(["".join(head), "|---|---|---|---|---|---|---|---|---|---|", *rows])


def _cells(result: Result, quantity: str, unit: str, names: Sequence[str]) -> Iterator[str]:
    ours = next(name for name, role in result.roles.items() if role is Role.OURS)
    for name in (ours, *names):
        series = result.series(name, quantity)
        spread = f"({_number(min(series))} to {_number(max(series))})" if series else ""
        yield f"{_number(statistics.median(series))} {unit} {spread}" if series else ""


def _words(of: Outcome) -> Iterator[str]:
    goes_on = of.runs == 1 and of.goes_on_s is not None
    yield of.who
    yield "goes on to its end" if goes_on else _lived(of.child_s)
    yield "ends with it" if goes_on and of.tool_s is not None else _lived(of.tool_s)
    yield f"not within {WATCH_S} s" if of.goes_on_s is None else f"after {of.goes_on_s:.1f} s"
    yield str(of.runs)
    yield str(of.at_once)
    yield str(of.missing)
    yield str(of.repeated)
    yield of.state
    yield f"{_times(of.next_runs)}, {of.next_at_once} at once" if of.next_runs > 1 else _times(of.next_runs)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _lived(s: float | None) -> str:
    return "left behind" if s is None else f"ends after {s:.1f} s"


def _times(runs: int) -> str:
    return "runs once" if runs == 1 else f"runs {runs} times"
