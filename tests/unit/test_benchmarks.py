"""What is asked of a benchmark, and what is told of it; the figures themselves are measured by nobody here."""

from __future__ import annotations

from itertools import chain, count
from pathlib import Path

import pytest

from benchmarks import report
from benchmarks.__main__ import CONTESTS
from benchmarks.measuring import Figure, Reading, Role, at_most, ratio_at_most, share_told, take_turns, told, within
from benchmarks.sizes import SCALES


class Runner:
    """Takes so many seconds, one more each time."""

    def __init__(self, role: Role, first_s: float) -> None:
        self.name = role.value
        self.role = role
        self._took_s = count(first_s)

    def run(self) -> Reading:
        return {"s": next(self._took_s)}


def test_a_goal_is_held_against_what_counts_of_ours_and_where_there_is_none_it_is_only_told() -> None:
    goals = (at_most(12, "s"), ratio_at_most(2), within(1, "s"), share_told(), told("s"))
    figures = [Figure("F", "how long it takes", "s", "s", goal, more_is_better=False) for goal in goals]
    result = take_turns(figures, [Runner(Role.OURS, 10), Runner(Role.YARDSTICK, 5)], 3)

    assert result.series("ours", "s") == [11, 12, 13]  # the first one was to warm up
    verdicts = [result.verdict(figure) for figure in figures]
    assert [round(verdict.number, 3) for verdict in verdicts] == [12, 1.714, 5, 41.667, 12]
    assert [verdict.met for verdict in verdicts] == [True, True, False, None, None]
    rows = report.table([result], {"where": "here"}, {"runs": 3}).splitlines()[2:7]
    assert [row.split(" | ")[-3:] for row in rows] == [
        ["", "≤ 12 s", "met |"],
        ["1.71 x", "≤ 2 x", "met |"],
        ["5 s more", "≤ 1 s more", "**missed** |"],
        ["41.7 % ours", "", " |"],
        ["", "", " |"],
    ]


def test_a_yardstick_that_took_nothing_that_can_be_measured_is_infinitely_better() -> None:
    assert ratio_at_most(2).judge([3], [0]).met is False


def test_the_table_goes_into_its_place_of_a_page(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{report.BEGIN}\nformer\n{report.END}\nafter\n")
    report.write_into(page, "new")
    assert page.read_text() == f"before\n{report.BEGIN}\nnew\n{report.END}\nafter\n"
    assert (Path(__file__).parents[2] / "docs" / "benchmarks.md").read_text().count(report.BEGIN) == 1


def test_every_figure_of_the_plan_is_in_the_one_run() -> None:
    keys = set(chain.from_iterable(contest.keys for contest in CONTESTS))
    assert keys >= {f"F{number}" for number in range(1, 12)} | {"CLI", "idle"}
    for contest in CONTESTS:
        asked = [(figure.quantity, figure.goal) for figure in contest.figures]
        assert len(set(asked)) == len(asked)


def test_sizes_are_chosen_by_name() -> None:
    some = SCALES["usual"].but("followers=7,ended=300")
    assert (some.followers, some.ended, some.lines) == (7, 300, SCALES["usual"].lines)
    assert SCALES["usual"].but("") == SCALES["usual"]
    with pytest.raises(ValueError, match="no such size: sheep"):
        SCALES["usual"].but("sheep=1")
