"""Whether shims go on when their worker is stopped: the decision as a table, the reading on the real host."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import gsd_tasks
from gsd_tasks.process.survival import KillMode, Surroundings, Unit, ask_kill_mode, judge, shims_survive, unit_of
from tests.process.conftest import needs_pid_namespace

ROOT = str(Path(gsd_tasks.__file__).parents[1])
SYSTEM_UNIT = Unit("gsd.service", of_user=False)
PLAIN = Surroundings(
    pid=4711, parent_pid=4710, in_initial_pid_namespace=True, unit=None, kill_mode=None
)  # a worker that was started from a shell


def in_unit(kill_mode: KillMode, **changes: Any) -> Surroundings:
    return PLAIN._replace(unit=SYSTEM_UNIT, kill_mode=kill_mode, **changes)


@pytest.mark.parametrize(
    ("here", "survives", "word"),
    [
        pytest.param(PLAIN, True, "nothing", id="a shell"),
        pytest.param(PLAIN._replace(parent_pid=1), True, "nothing", id="left by its shell"),
        pytest.param(
            PLAIN._replace(in_initial_pid_namespace=False, pid=1, parent_pid=0), False, "container", id="process 1"
        ),
        pytest.param(
            PLAIN._replace(in_initial_pid_namespace=False, parent_pid=1), False, "container", id="below process 1"
        ),
        pytest.param(
            PLAIN._replace(in_initial_pid_namespace=False, parent_pid=0), False, "container", id="beside process 1"
        ),
        pytest.param(
            PLAIN._replace(in_initial_pid_namespace=False), True, "nothing", id="deeper in a container: a supervisor's"
        ),
        pytest.param(in_unit(KillMode("process", "")), True, "KillMode=process", id="process"),
        pytest.param(in_unit(KillMode("none", "")), True, "KillMode=none", id="none"),
        pytest.param(in_unit(KillMode("control-group", "")), False, "KillMode=process in", id="the default"),
        pytest.param(in_unit(KillMode("mixed", "")), False, "KillMode=process in", id="mixed"),
        pytest.param(in_unit(KillMode(None, "systemctl: no such file")), False, "no such file", id="nobody to ask"),
        pytest.param(
            in_unit(KillMode("process", ""), in_initial_pid_namespace=False, parent_pid=1),
            True,
            "KillMode=process",
            id="a container with a systemd of its own",
        ),
    ],
)
def test_shims_survive_where_nothing_ends_them_with_the_worker(here: Surroundings, survives: bool, word: str) -> None:
    judged = judge(here)

    assert judged.survives is survives
    assert word in judged.why


@pytest.mark.parametrize(
    ("cgroups", "unit"),
    [
        ("0::/system.slice/gsd.service\n", SYSTEM_UNIT),
        ("0::/system.slice/gsd.service/supervisor\n", SYSTEM_UNIT),  # DelegateSubgroup=
        ("0::/system.slice/system-gsd.slice/gsd@1.service\n", Unit("gsd@1.service", of_user=False)),
        ("12:pids:/x\n1:name=systemd:/system.slice/gsd.service\n0::/system.slice/gsd.service\n", SYSTEM_UNIT),
        ("9:name=systemd:/system.slice/gsd.service\n0::/\n", SYSTEM_UNIT),
        (
            "0::/user.slice/user-1000.slice/user@1000.service/app.slice/gsd.service\n",
            Unit("gsd.service", of_user=True),
        ),
        ("0::/user.slice/user-1000.slice/user@1000.service/app.slice/app-kitty-1.scope\n", None),
        ("0::/user.slice/user-1000.slice/user@1000.service/init.scope\n", None),
        ("0::/user.slice/user-1000.slice/session-2.scope\n", None),
        ("0::/system.slice/docker-0123.scope\n", None),
        ("0::/\n", None),
        ("8:pids:/gsd.service\n", None),
        ("", None),
    ],
)
def test_a_unit_is_known_by_its_cgroup(cgroups: str, unit: Unit | None) -> None:
    assert unit_of(cgroups) == unit


@pytest.mark.parametrize(
    ("script", "answer"),
    [
        ('echo "$@" >&2; echo process', KillMode("process", "")),
        ("echo no bus >&2; echo more >&2; exit 1", KillMode(None, "systemctl: no bus")),
        ("exit 3", KillMode(None, "systemctl: exit code 3")),
        ("", KillMode(None, "systemctl: exit code 0")),
    ],
)
def test_the_units_manager_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, answer: KillMode
) -> None:
    (tmp_path / "systemctl").write_text(f"#!/bin/sh\n{script}\n")
    (tmp_path / "systemctl").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)

    assert ask_kill_mode(SYSTEM_UNIT) == answer


def test_a_users_unit_is_asked_for_at_the_users_manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "systemctl").write_text('#!/bin/sh\necho "$*"\n')
    (tmp_path / "systemctl").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)

    mode = ask_kill_mode(Unit("gsd.service", of_user=True)).mode

    assert mode == "--user show --property=KillMode --value gsd.service"


def test_without_systemctl_that_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    assert ask_kill_mode(SYSTEM_UNIT) == KillMode(None, "systemctl: No such file or directory")


def test_this_host_has_an_answer() -> None:
    """Whatever it is: a sentence that can be shown."""
    survival = shims_survive()

    assert survival.why
    assert "\n" not in survival.why


@needs_pid_namespace
def test_the_first_process_of_a_container_takes_its_shims_along() -> None:
    """A real PID namespace, without the rest of a container."""
    code = """
import os
from gsd_tasks.process.shim import linux
from gsd_tasks.process.survival import shims_survive
user = os.geteuid(), os.getegid()
try:
    first = linux.fork_into_pid_namespace()
except PermissionError:
    first = linux.fork_into_user_namespace()
    if first == 0:
        linux.be_user(*user)
if first == 0:
    linux.mount_own_proc()
    if os.fork() == 0:
        if os.fork() == 0:
            print("deeper", shims_survive().survives, flush=True)
            os._exit(0)
        os.wait()
        print("below", shims_survive().survives, flush=True)
        os._exit(0)
    os.wait()
    print("first", shims_survive().survives, flush=True)
    os._exit(0)
os.wait()
"""
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)

    if unit_of(Path("/proc/self/cgroup").read_text()) is not None:
        pytest.skip("a systemd unit decides here")
    assert told.stdout.splitlines() == ["deeper True", "below False", "first False"]
