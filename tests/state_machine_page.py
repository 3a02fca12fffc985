"""docs/state-machine.md as values: what it says that happens, by which function, and why."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple

PAGE: Final = Path(__file__).parents[1] / "docs/state-machine.md"
NEW: Final = "(new)"
NONE_YET: Final = "none yet"


class Documented(NamedTuple):
    """A row of the table. The sentences about it are for people."""

    before: str
    after: str
    function: str
    reasons: frozenset[str]


@cache
def transitions() -> tuple[Documented, ...]:
    """Every row."""
    found: list[Documented] = []
    for before, after, function, _, reasons, _ in _table("## Transitions"):
        named = _reasons(reasons) | (found[-1].reasons if reasons.startswith("the same") else frozenset())
        found.append(Documented(before.strip("`"), after.strip("`"), function.strip("`"), named))
    return tuple(found)


@cache
def drawn() -> frozenset[tuple[str, str, str]]:
    """Every arrow of the drawing: from, to, function."""
    arrows = re.findall(r"^ +(\S+) --> (\S+): (.*)$", PAGE.read_text(), re.MULTILINE)
    return frozenset(
        (NEW if before == "[*]" else before, after, function)
        for before, after, functions in arrows
        for function in functions.split(", ")
    )


@cache
def again() -> dict[str, str]:
    """For each way to fail, whether it is tried again. What it says about them is for people."""
    found = {reason.strip("`"): words for reason, words, _ in _table("## Why a session has failed")}
    assert all(meaning for _, _, meaning in _table("## Why a session has failed"))
    return found


@cache
def _groups() -> dict[str, frozenset[str]]:
    """The reasons that go by one name."""
    groups: dict[str, frozenset[str]] = {}
    name = ""
    for group, reasons in _table("## Reasons"):
        name = group.partition(":")[0] or name
        groups[name] = groups.get(name, frozenset()) | frozenset(re.findall(r"`(\w+)`", reasons))
    return groups


def _reasons(cell: str) -> frozenset[str]:
    grouped = (reasons for name, reasons in _groups().items() if name in cell)
    return frozenset(re.findall(r"`(\w+)`", cell)).union(*grouped)


def _table(heading: str) -> list[list[str]]:
    section = PAGE.read_text().partition(f"{heading}\n")[2].partition("\n## ")[0]
    rows = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row] for row in rows[2:]]
