"""The units: systemd takes them, and what they start is a worker that hands over, as the unit's KillMode lets it."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

from gsd_tasks.cli.app import _app
from gsd_tasks.domain.state import Reason, Status
from gsd_tasks.process.survival import KillMode, Surroundings, Unit, judge
from gsd_tasks.service.node import LAST_WORDS_S
from gsd_tasks.settings import Settings
from tests.cluster import Cluster
from tests.go import Go
from tests.waiting import BOUND_S, until

FOLDER = Path(__file__).parents[2] / "deploy/systemd"
PROGRAM = "/opt/gsd-tasks/bin/gsd-tasks"
SERVICES = sorted(FOLDER.glob("*.service"))
WORKER = FOLDER / "gsd-worker@.service"

Section = dict[str, list[str]]


def read_unit(path: Path) -> dict[str, Section]:
    """Its sections; what is written twice counts twice."""
    sections: dict[str, Section] = {}
    section: Section = {}
    for line in path.read_text().splitlines():
        if match := re.fullmatch(r"\[(\w+)\]", line):
            section = sections.setdefault(match[1], {})
        elif line and not line.startswith("#"):
            name, _, value = line.partition("=")
            section.setdefault(name, []).append(value)
    return sections


def started(path: Path, instance: str = "") -> list[str]:
    """The words of its ExecStart."""
    (line,) = read_unit(path)["Service"]["ExecStart"]
    return line.replace("%i", instance).split()


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd-analyze")
def test_systemd_takes_the_units(tmp_path: Path) -> None:
    """With a program that is there; and it would say so if one of them were wrong."""
    units = [*SERVICES, *FOLDER.glob("*.target")]
    for unit in units:
        name = unit.name.replace("@.", "@1.")
        (tmp_path / name).write_text(unit.read_text().replace(PROGRAM, "/bin/true"))

    def verify() -> subprocess.CompletedProcess[str]:
        paths = sorted(str(path) for path in tmp_path.glob("gsd-*"))
        command = ["systemd-analyze", "verify", "--man=no", *paths]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    verified = verify()
    assert (verified.returncode, [line for line in verified.stderr.splitlines() if "gsd-" in line]) == (0, [])
    broken = tmp_path / "gsd-worker@1.service"
    broken.write_text(broken.read_text().replace("KillMode=process", "KillMode=gently"))
    assert "gently" in verify().stderr


@pytest.mark.parametrize("path", SERVICES, ids=lambda path: path.stem)
def test_each_unit_starts_a_command_that_there_is_as_a_user_who_is_not_root(path: Path) -> None:
    group: Any = typer.main.get_command(_app())
    program, command, *options = started(path, "1")
    service = read_unit(path)["Service"]

    assert program == PROGRAM
    assert command in group.commands
    assert {option for option in options if option.startswith("--")} <= {
        one for parameter in group.commands[command].params for one in parameter.opts
    }
    assert service["User"] == ["gsd"]
    assert service["NoNewPrivileges"] == ["yes"]
    assert service["EnvironmentFile"][0] == "/etc/gsd-tasks/env"


def test_each_variable_of_the_units_and_their_file_is_a_setting() -> None:
    settings = {f"GSD_{name.upper()}" for name in Settings.model_fields}
    lines = [line for path in SERVICES for line in read_unit(path)["Service"].get("Environment", [])]
    lines += [line for line in (FOLDER / "env.example").read_text().splitlines() if line and line[0] != "#"]

    assert {line.partition("=")[0] for line in lines} <= settings


def test_the_workers_unit_lets_children_outlive_it_and_nothing_in_it_takes_from_them() -> None:
    service = read_unit(WORKER)["Service"]

    (mode,) = service["KillMode"]
    unit = Unit("gsd-worker@1.service", of_user=False)
    here = Surroundings(100, 1, in_initial_pid_namespace=True, unit=unit, kill_mode=KillMode(mode, ""))
    assert judge(here).survives
    # A /tmp that goes with the unit; a /proc that no namespace can have of its own; no namespaces; no compiling.
    breaking = (
        "Private|Protect(?!System)|ProcSubset|RestrictNamespaces|SystemCall|MemoryDeny|Temporary|Root|Dynamic|Bind"
    )
    assert [name for name in service if re.match(breaking, name)] == []
    assert service["ProtectSystem"] == ["full"]
    # One session's end by the kernel is not the worker's.
    assert service["OOMPolicy"] == ["continue"]
    assert float(service["TimeoutStopSec"][0]) >= LAST_WORDS_S + 2 * Settings().grace_s
    assert int(service["TasksMax"][0]) > 3 * Settings().max_processes


class Started:
    """What a unit would run, with the environment that it would give."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(self, path: Path, instance: str) -> subprocess.Popen[bytes]:
        _, *arguments = started(path, instance)
        given = dict(line.split("=", 1) for line in read_unit(path)["Service"].get("Environment", []))
        # Where its state folder and its file of variables are on this machine.
        env = given | self._cluster.env
        with (self._cluster.folder / f"celery-unit-{len(self._processes)}.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "gsd_tasks", *arguments], env=env, cwd="/", stdout=log, stderr=log
            )
        self._processes.append(process)
        return process

    def close(self) -> None:
        for process in self._processes:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
                process.wait(BOUND_S)


@pytest.fixture
def units(cluster: Cluster) -> Iterator[Started]:
    running = Started(cluster)
    yield running
    running.close()


@pytest.mark.slow
def test_restarting_a_workers_unit_interrupts_nothing(cluster: Cluster, units: Started) -> None:
    """systemd sends SIGTERM to its main process alone, waits for that, and starts the next one."""
    client = cluster.client
    first = units.start(WORKER, "1")
    until(lambda: cluster.is_up(first), timeout_s=BOUND_S)
    go = Go(cluster.folder)
    session = client.enqueue(command=["sh", "-c", "echo one; read x < go; echo two"], working_dir=cluster.folder)
    until(lambda: len(client.output(session.id)) == 1, timeout_s=BOUND_S)

    first.send_signal(signal.SIGTERM)
    assert first.wait(float(read_unit(WORKER)["Service"]["TimeoutStopSec"][0])) == 0
    second = units.start(WORKER, "1")
    until(lambda: any(entry.reason is Reason.ADOPTED for entry in client.history(session.id)), timeout_s=BOUND_S)
    go.say()

    done = client.wait(session.id, timeout_s=BOUND_S)
    assert (done.status, done.attempt) == (Status.COMPLETED, 1)
    assert [row.data for row in client.output(session.id)] == ["one", "two"]
    assert {worker.name.partition("@")[0] for worker in client.workers()} == {"1"}
    assert second.poll() is None
