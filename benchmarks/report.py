"""The figures as a table for people and as JSON for programs.

A figure is the median of its repetitions, with the least and the most of ours; a ratio is the median of the ratios of
those that stood beside each other.
"""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from textwrap import wrap
from typing import Any, Final

import psycopg

from benchmarks.measuring import Counts, Figure, Result, Role, shown

#: Between them, a page has its figures.
BEGIN: Final = "<!-- figures -->"
END: Final = "<!-- end of figures -->"
WIDTH: Final = 120


def table(results: Sequence[Result], machine: Mapping[str, Any], sizes: Mapping[str, int]) -> str:
    """All of it, as Markdown."""
    rows = [_row(result, figure) for result in results for figure in result.figures]
    head = ["| | figure | gsd-tasks | yardstick | | goal | |", "|---|---|---|---|---|---|---|"]
    measured = f"Measured on: {', '.join(f'{name} {value}' for name, value in machine.items())}."
    asked = f"Sizes: {', '.join(f'{name} {number:,}' for name, number in sizes.items())}."
    return "\n".join([*head, *rows, "", *wrap(measured, WIDTH), "", *wrap(asked, WIDTH)])


def document(results: Sequence[Result], machine: dict[str, Any]) -> dict[str, Any]:
    """All of it, as what JSON has, every repetition included."""
    figures = [_figure(result, figure) for result in results for figure in result.figures]
    return {"machine": machine, "figures": figures}


def machine(database_url: str) -> dict[str, Any]:
    """Where and with what it was measured."""
    with psycopg.connect(database_url) as connection:
        postgres = connection.info.server_version // 10_000
    cpu = next((line.partition(":")[2].strip() for line in _cpuinfo() if line.startswith("model name")), "unknown")
    return {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "CPU": f"{len(os.sched_getaffinity(0))} x {cpu}",
        "Linux": platform.release(),
        "Python": platform.python_version(),
        "Postgres": postgres,
        "Celery": version("celery"),
        "psycopg": version("psycopg"),
        "load before": f"{os.getloadavg()[0]:.1f}",
    }


def write_into(page: Path, text: str) -> None:
    """Put it where the page has its figures."""
    before, begin, rest = page.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    assert end, f"{page} has no place for figures: {BEGIN} and {END}"
    page.write_text(f"{before}{begin}\n{text}\n{end}{after}")


def _row(result: Result, figure: Figure) -> str:
    (ours,) = result.names(Role.OURS, figure.quantity)
    yardstick = result.yardstick(figure)
    verdict = result.verdict(figure)
    cells = [
        figure.key,
        figure.what,
        _spread(result.series(ours, figure.quantity), figure.unit),
        "" if yardstick is None else _beside(result, figure, yardstick),
        "" if figure.goal.counts is Counts.ITSELF else verdict.words,
        str(figure.goal),
        {True: "met", False: "**missed**", None: ""}[verdict.met],
    ]
    return f"| {' | '.join(cells)} |"


def _figure(result: Result, figure: Figure) -> dict[str, Any]:
    verdict = result.verdict(figure)
    series = {name: result.series(name, figure.quantity) for name in result.roles}
    return {
        "key": figure.key,
        "what": figure.what,
        "unit": figure.unit,
        "goal": str(figure.goal),
        "number": verdict.number,
        "met": verdict.met,
        "repetitions": {name: its for name, its in series.items() if its},
        "roles": {name: role.value for name, role in result.roles.items()},
    }


def _beside(result: Result, figure: Figure, yardstick: str) -> str:
    return f"{shown(statistics.median(result.series(yardstick, figure.quantity)))} {figure.unit}, {yardstick}"


def _spread(series: Sequence[float], unit: str) -> str:
    median, least, most = map(shown, (statistics.median(series), min(series), max(series)))
    return f"{median} {unit}" if least == most else f"{median} {unit} ({least} to {most})"


def _cpuinfo() -> list[str]:
    return Path("/proc/cpuinfo").read_text().splitlines()
