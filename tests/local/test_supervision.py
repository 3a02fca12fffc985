"""How `up` keeps parts alive and stops them, with parts made up for it and no servers."""

from __future__ import annotations

import json
import os
import re
import signal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gsd_tasks.local.supervisor import FIRST_DELAY_S, LONGEST_DELAY_S, STABLE_S, describe, next_delay
from tests.local.conftest import Runner, Script, is_alive, processes_in, wait_for

NO_SERVERS = {
    "GSD_DATABASE_URL": "postgresql://u:dbsecret@db.example/x",
    "GSD_REDIS_URL": "redis://:rsecret@r.example:1/0",
}
STEADY = "import signal; signal.pause()"
STUBBORN = "import signal; signal.signal(15, signal.SIG_IGN); open('deaf', 'w').close()\nwhile True: signal.pause()"
NOTES_ITS_END = """
import signal, sys
def end(*_):
    open('ends', 'a').write(NAME + '\\n')
    sys.exit()
signal.signal(15, end)
open(NAME + '.up', 'w').close()
signal.pause()
"""
STARTS_A_SHIM = f"""
import os, signal, subprocess, sys
from tests.waiting import BOUND_S
shim = subprocess.Popen([sys.executable, '-c', {STEADY!r}], start_new_session=True)
open('draft', 'w').write(str(shim.pid))
os.rename('draft', 'shim')
signal.pause()
"""


def part(name: str, code: str, **rest: Any) -> dict[str, Any]:
    return {"name": name, "code": f"NAME = {name!r}\n{code}", **rest}


def up(runner: Runner, *groups: list[dict[str, Any]]) -> Script:
    return runner.run("fake_up.py", runner.folder / "state", json.dumps(groups), env=NO_SERVERS)


def pid_of(runner: Runner, name: str) -> int:
    return int(json.loads((runner.folder / "state" / "parts" / f"{name}.json").read_text())["pid"])


def test_a_part_that_dies_is_started_again_and_waits_longer_each_time(me: Runner) -> None:
    script = up(me, [part("flaky", "print('my last words'); raise SystemExit(3)"), part("steady", STEADY)])
    for delay in ("0.5", "1", "2"):
        line = script.line("flaky ended")
        assert f"(exit status 3): again in {delay} s" in line
        assert line.endswith("flaky.log")
    assert script.end(signal.SIGTERM) == 0
    assert "my last words" in (me.folder / "state" / "logs" / "flaky.log").read_text()


def test_a_part_that_is_killed_is_back_within_a_second(me: Runner) -> None:
    script = up(me, [part("steady", STEADY)])
    script.line("ready")
    former = pid_of(me, "steady")
    os.kill(former, signal.SIGKILL)
    assert "killed by SIGKILL" in script.line("steady ended")
    wait_for(lambda: (me.folder / "state/parts/steady.json").exists() and pid_of(me, "steady") != former, "a new life")
    assert script.end(signal.SIGINT) == 0


def test_parts_are_stopped_group_by_group_in_the_opposite_order(me: Runner) -> None:
    names = ["maintenance", "worker", "beat"]
    script = up(me, *([part(name, NOTES_ITS_END, probe_file=str(me.folder / f"state/{name}.up"))] for name in names))
    script.line("ready")
    assert script.end(signal.SIGTERM) == 0
    assert (me.folder / "state" / "ends").read_text().split() == ["beat", "worker", "maintenance"]
    assert [line.split()[1] for line in script.lines if line.startswith("stopping")] == [
        "beat",
        "worker",
        "maintenance",
    ]


def test_a_part_that_does_not_stop_is_killed_at_its_bound(me: Runner) -> None:
    script = up(me, [part("deaf", STUBBORN, stop_bound_s=0.3, probe_file=str(me.folder / "state/deaf"))])
    script.line("ready")
    assert script.end(signal.SIGTERM, bound_s=15) == 0, "by its own bound, not by the usual one of 20 s"
    assert "deaf does not stop: killed" in script.lines


def test_a_second_ctrl_c_shortens_the_wait(me: Runner) -> None:
    script = up(me, [part("deaf", STUBBORN, stop_bound_s=100, probe_file=str(me.folder / "state/deaf"))])
    script.line("ready")
    script.process.send_signal(signal.SIGINT)
    assert "at most 100 s" in script.line("stopping deaf")
    for _ in range(100):
        script.process.send_signal(signal.SIGINT)  # within a second of the first it counts as its echo
        if script.says("deaf does not stop: killed", bound_s=0.1):
            break
    assert script.wait(bound_s=60) == 0


def test_ready_is_not_said_before_the_probe_says_so(me: Runner) -> None:
    script = up(me, [part("slow", "open('begun', 'w').close()\n" + STEADY, probe_file=str(me.folder / "now"))])
    wait_for((me.folder / "state/begun").exists, "the part runs")
    assert not any("ready" in line for line in script.lines)
    (me.folder / "now").touch()
    script.line("ready after")
    script.line("gsd-tasks run -- echo hello")
    script.line("called back")
    assert script.end(signal.SIGHUP) == 0


def test_a_part_that_cannot_start_ends_it_all_with_one_line(me: Runner) -> None:
    broken = part("broken", "import sys; sys.exit('no such thing')", probe_file="/nonexistent")
    script = up(me, [part("steady", STEADY)], [broken])
    assert script.wait() == 125
    assert re.search(r"broken ended \(exit status 1\) 3 times: no such thing; see .*broken\.log", script.lines[-1])
    assert processes_in(me.folder / "state") == {}


def test_stopping_while_it_starts_starts_nothing_more(me: Runner) -> None:
    waiting = part("waiting", STEADY, probe_file="/nonexistent")
    script = up(me, [waiting, part("flaky", "open('tries', 'a').write('x'); raise SystemExit(1)", probe_file="/none")])
    script.line("again in 1 s")
    assert script.end(signal.SIGTERM) == 0
    assert (me.folder / "state/tries").read_text() == "xx"
    assert not any("ready" in line for line in script.lines)


def test_no_part_outlives_a_kill_of_up(runner: Runner) -> None:
    script = up(runner, [part("a", STEADY), part("b", STEADY)])
    script.line("ready")
    script.end(signal.SIGKILL)
    wait_for(lambda: not processes_in(runner.folder / "state"), "the parts end with `up`")


def test_what_a_killed_up_has_left_is_ended_before_its_part_starts_again(me: Runner) -> None:
    deaf = part("deaf", STUBBORN, stop_bound_s=0.5, probe_file=str(me.folder / "state/deaf"))
    script = up(me, [deaf])
    script.line("ready")
    former = pid_of(me, "deaf")
    script.end(signal.SIGKILL)
    assert is_alive(former)
    script = up(me, [deaf])
    script.line(f"waiting for the deaf of a former run (pid {former})")
    script.line("ready")
    assert not is_alive(former)
    assert pid_of(me, "deaf") != former
    assert script.end(signal.SIGTERM) == 0


def test_what_a_part_has_started_is_left_alone(me: Runner) -> None:
    script = up(me, [part("worker", STARTS_A_SHIM, probe_file=str(me.folder / "state/shim"))])
    script.line("ready")
    shim = int((me.folder / "state/shim").read_text())
    assert script.end(signal.SIGTERM) == 0
    assert is_alive(shim)
    os.kill(shim, signal.SIGKILL)


def test_a_record_of_a_process_that_is_another_by_now_harms_nobody(me: Runner) -> None:
    state = me.folder / "state"
    script = up(me, [part("steady", STEADY)])
    script.line("ready")
    record = json.loads((state / "parts/steady.json").read_text())
    script.end(signal.SIGTERM)
    (state / "parts/steady.json").write_text(json.dumps({**record, "pid": os.getpid()}))
    script = up(me, [part("steady", STEADY)])
    script.line("ready")
    assert not any("waiting" in line for line in script.lines)
    assert script.end(signal.SIGTERM) == 0


def test_a_second_up_on_the_folder_refuses_and_names_the_first(me: Runner) -> None:
    first = up(me, [part("steady", STEADY)])
    first.line("ready")
    second = up(me, [part("steady", STEADY)])
    assert second.wait() == 125
    assert f"already runs on {me.folder}/state (pid {first.process.pid})" in second.lines[-1]
    assert first.end(signal.SIGTERM) == 0
    third = up(me, [part("steady", STEADY)])
    third.line("ready")
    assert third.end(signal.SIGTERM) == 0


def test_no_password_is_shown(me: Runner) -> None:
    script = up(me, [part("steady", STEADY)])
    script.line("ready")
    script.end(signal.SIGTERM)
    assert "Postgres  db.example/x" in script.lines
    assert "secret" not in "".join(script.lines)


def test_a_large_log_is_put_aside_at_the_next_start(me: Runner) -> None:
    logs = me.folder / "state" / "logs"
    logs.mkdir(parents=True, mode=0o700)
    with Path(logs / "steady.log").open("wb") as log:
        log.truncate(11 * 1024**2)
    me.folder.joinpath("state").chmod(0o700)
    script = up(me, [part("steady", STEADY)])
    script.line("ready")
    assert (logs / "steady.log").stat().st_size == 0
    assert (logs / "steady.log.1").stat().st_size == 11 * 1024**2
    assert script.end(signal.SIGTERM) == 0


@settings(database=None)  # the checkout may be read-only
@given(st.lists(st.floats(0, 2 * STABLE_S), min_size=1, max_size=40))
def test_the_wait_grows_within_its_bounds_and_begins_anew_after_a_stable_life(lives_s: list[float]) -> None:
    delay_s = 0.0
    for lived_s in lives_s:
        former_s, delay_s = delay_s, next_delay(delay_s, lived_s)
        assert FIRST_DELAY_S <= delay_s <= LONGEST_DELAY_S
        if lived_s >= STABLE_S or former_s == 0:
            assert delay_s == FIRST_DELAY_S
        else:
            assert delay_s == min(2 * former_s, LONGEST_DELAY_S)


@pytest.mark.parametrize(
    ("status", "words"), [(0, "exit status 0"), (-9, "killed by SIGKILL"), (-40, "killed by signal 40")]
)
def test_an_exit_status_is_said_in_words(status: int, words: str) -> None:
    assert describe(status) == words
