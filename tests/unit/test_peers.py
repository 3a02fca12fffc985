from __future__ import annotations

import json
import shlex
import subprocess
from pathlib import Path

from benchmarks import peer_tables
from benchmarks.figures import dispatching, killed, lines
from benchmarks.figures.killed import Job, Outcome, Row, Watched
from benchmarks.measuring import Result, Role

ROOT = Path(__file__).parents[2]
STAND_IN = ROOT / "benchmarks" / "peers" / "bin" / "claude"
KILLED_AT = 1000.0
ENDED_AT = 1100.0


class Stored:
    """A case that has these rows."""

    name = "somebody"

    def __init__(self, rows: list[Row]) -> None:
        self._rows = rows

    def rows(self, job: str) -> list[Row]:
        return self._rows

    def state(self, job: str) -> str:
        return "done"

    def worker(self) -> subprocess.Popen[bytes]:
        raise NotImplementedError

    def begin(self, command: object) -> str:
        raise NotImplementedError

    def stop(self) -> None:
        raise NotImplementedError


def outcome(folder: Path, rows: list[Row], *, runs: int, child_seen_at: float) -> Outcome:
    (folder / "runs").write_text("1.0\n" * runs)
    (folder / "next").write_text("1.0\n")
    job = Job(folder / "runs", 4, 1.0, children={7}, tools={8}, seen_at={7: child_seen_at, 8: ENDED_AT})
    return killed._outcome(Watched(Stored(rows), job, Job(folder / "next", 1, 1.0), KILLED_AT), ENDED_AT)


def test_a_job_that_is_lost_lacks_its_rows_and_leaves_its_tool(tmp_path: Path) -> None:
    of = outcome(tmp_path, [Row(1, 998.0), Row(2, 999.0)], runs=1, child_seen_at=1000.5)

    assert (of.missing, of.repeated, of.goes_on_s, of.child_s, of.tool_s) == (2, 0, None, 0.5, None)
    assert "| ends after 0.5 s | left behind | not within 180 s |" in peer_tables.killed([of])


def test_a_job_that_is_run_again_has_rows_twice(tmp_path: Path) -> None:
    rows = [Row(1, 998.0), Row(2, 999.0), *(Row(number, 1060.0 + number) for number in range(1, 5))]

    of = outcome(tmp_path, rows, runs=2, child_seen_at=999.0)

    assert (of.missing, of.repeated, of.goes_on_s, of.child_s, of.runs) == (0, 2, 61.0, 0.0, 2)


def test_a_job_that_goes_on_is_said_to(tmp_path: Path) -> None:
    of = outcome(tmp_path, [Row(number, 997.0 + 2 * number) for number in range(1, 5)], runs=1, child_seen_at=1005.0)

    assert (of.missing, of.repeated, of.goes_on_s) == (0, 0, 1.0)
    assert "| goes on to its end |" in peer_tables.killed([of])


def test_peers_stand_beside_ours_and_have_no_part_in_its_goal() -> None:
    result = Result(lines.FIGURES, {"gsd-tasks": Role.OURS, "COPY": Role.YARDSTICK, "Celery": Role.PEER})
    for name, rate in (("gsd-tasks", 80.0), ("COPY", 100.0), ("Celery", 1000.0)):
        result.readings[name] = [{lines.RATE: rate, lines.CPU: 1.0}]

    assert result.verdict(lines.FIGURES[0]).number == 0.8
    assert peer_tables.figures([result]).splitlines()[2].endswith("| 80 /s (80 to 80) | 1,000 /s (1,000 to 1,000) |")


def test_without_peers_there_is_no_table_of_them() -> None:
    assert peer_tables.figures([Result(dispatching.FIGURES, {"gsd-tasks": Role.OURS})]) == ""


def test_the_stand_in_for_the_cli_runs_its_prompt_and_prints_what_the_peer_reads(tmp_path: Path) -> None:
    (tmp_path / "begin").touch()
    command = lines.command(tmp_path / "begin", tmp_path / "begin", 3)

    prompted = [str(STAND_IN), "-p", "--output-format", "stream-json", "--", shlex.join(command)]
    written = subprocess.run(prompted, stdout=subprocess.PIPE, check=True, text=True).stdout.splitlines(keepends=True)

    assert [len(line) for line in written] == [lines.LENGTH] * 3
    texts = [json.loads(line)["message"]["content"][0]["text"].strip() for line in written]
    assert texts == ["ready", "1", "2"]
