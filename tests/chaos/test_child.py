from __future__ import annotations

import contextlib
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.chaos import child
from tests.chaos.child import Plan, line
from tests.chaos.load import draw_plan
from tests.chaos.records import Life, read_lives
from tests.waiting import BOUND_S, until


def start(tmp_path: Path, plan: Plan, attempt: int = 1) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-I", "-S", child.__file__, str(tmp_path), plan.encode()],
        env={"GSDTASKS_SESSION_ID": "a-session", "GSDTASKS_ATTEMPT": str(attempt)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def only_life(tmp_path: Path) -> Life:
    (life,) = read_lives(tmp_path)
    return life


def test_a_child_writes_its_lines_and_records_how_much_and_when(tmp_path: Path) -> None:
    began_ns = child.boot_ns()
    process = start(tmp_path, Plan(lines=20, interval_s=0.001, torn_every=5, stderr_every=4, exits=(3,)), attempt=2)
    out, err = process.communicate(timeout=BOUND_S)

    life = only_life(tmp_path)
    assert out == b"".join(line("a-session", 2, "stdout", number) for number in range(1, 16))
    assert err == b"".join(line("a-session", 2, "stderr", number) for number in range(1, 6))
    assert life.began_bytes == life.wrote_bytes == {"stdout": len(out), "stderr": len(err)}
    assert (life.session, life.attempt, life.is_helper) == ("a-session", 2, False)
    assert life.exit_code == process.returncode == 3
    assert began_ns < life.moments[0] < life.moments[-1] < child.boot_ns()
    assert life.moments == sorted(life.moments)


def test_a_child_that_is_killed_has_recorded_all_that_it_wrote(tmp_path: Path) -> None:
    process = start(tmp_path, Plan(lines=10**6, interval_s=0, stderr_every=10**9))
    assert process.stdout is not None
    read = process.stdout.read(100_000)
    process.kill()
    read += process.communicate(timeout=BOUND_S)[0]

    life = only_life(tmp_path)
    assert life.wrote_bytes["stdout"] <= len(read) <= life.began_bytes["stdout"]
    assert life.exit_code is None


def test_a_helper_has_a_record_of_its_own_and_outlives_its_child(tmp_path: Path) -> None:
    process = start(tmp_path, Plan(lines=5, interval_s=0.01, helper="quiet"))
    process.communicate(timeout=BOUND_S)

    def helper() -> Life:
        return next(life for life in read_lives(tmp_path) if life.is_helper)

    def has_outlived(ended_ns: int) -> bool:
        """Its record is made after it has let go of the pipes by which its child's end is seen."""
        return any(life.is_helper and max(life.moments, default=0) > ended_ns for life in read_lives(tmp_path))

    ended_ns = child.boot_ns()
    until(lambda: has_outlived(ended_ns), what="the helper's own record")
    (main,) = (life for life in read_lives(tmp_path) if not life.is_helper)
    assert (helper().name, helper().attempt) == (main.name, main.attempt)
    for one in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if str(tmp_path) in one.cmdline():
                one.kill()


def test_the_exit_code_is_that_of_the_attempt() -> None:
    plan = Plan(exits=(3, 4, 0))

    assert [plan.exit_code(attempt) for attempt in (1, 2, 3, 4)] == [3, 4, 0, 0]


def test_a_plan_travels_as_text() -> None:
    plan = draw_plan(random.Random(1))

    assert Plan.decode(plan.encode()) == plan


def test_no_two_places_have_the_same_line() -> None:
    places = [
        (session, attempt, stream, number)
        for session in ("one", "other")
        for attempt in (1, 2)
        for stream in child.STREAMS
        for number in range(1, 300)
    ]
    lines = {line(*place) for place in places}

    assert len(lines) == len(places)
    assert all(text.count(b"\n") == 1 for text in lines)


@pytest.mark.parametrize("rest", ["", "t 12", "t 123456 7"])
def test_a_record_that_was_cut_short_is_read_up_to_there(tmp_path: Path, rest: str) -> None:
    (tmp_path / "a-session").mkdir()
    (tmp_path / "a-session" / "1.5-7").write_text(f"t 10\no 20 5\n{rest}")

    life = only_life(tmp_path)
    assert (life.moments, life.began_bytes, life.wrote_bytes) == ([10, 20], {"stdout": 5}, {})


def test_all_children_of_the_machine_share_a_clock() -> None:
    told = subprocess.run(
        [sys.executable, "-c", "import time; print(time.clock_gettime_ns(time.CLOCK_BOOTTIME))"],
        capture_output=True,
        check=True,
        env=os.environ,
    )

    assert 0 < time.clock_gettime_ns(time.CLOCK_BOOTTIME) - int(told.stdout) < 10**10
