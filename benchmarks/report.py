"""The figures as a table for people and as JSON for programs.

A figure is the median of its repetitions, with the least and the most; a ratio is the median of the ratios of those
that stood beside each other.
"""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psycopg

from benchmarks.measuring import Figure, Result, Role


def table(results: Sequence[Result], machine: dict[str, Any]) -> str:
    """All of it, as Markdown."""
    rows = [_row(result, figure) for result in results for figure in result.figures]
    head = ["| | figure | gsd-tasks | yardstick | | goal | |", "|---|---|---|---|---|---|---|"]
    said = ", ".join(f"{name} {value}" for name, value in machine.items())
    return "\n".join([*head, *rows, "", f"Measured on: {said}."])


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


def _row(result: Result, figure: Figure) -> str:
    (ours,) = result.names(Role.OURS, figure.quantity)
    yardstick = result.yardstick(figure)
    verdict = result.verdict(figure)
    cells = [
        figure.key,
        figure.what,
        _spread(result.series(ours, figure.quantity), figure.unit),
        f"{_spread(result.series(yardstick, figure.quantity), figure.unit)}, {yardstick}" if yardstick else "",
        verdict.words,
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


def _spread(series: Sequence[float], unit: str) -> str:
    return f"{_number(statistics.median(series))} {unit} ({_number(min(series))} to {_number(max(series))})"


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _cpuinfo() -> list[str]:
    return Path("/proc/cpuinfo").read_text().splitlines()
