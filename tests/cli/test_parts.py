"""`worker`, `maintenance`, `beat` and `flower` become the Celery command that is meant, or say what is wrong."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

import pytest

from gsd_tasks.service.sign import BEAT, MAINTENANCE, WORKER, Sign
from tests.cli.conftest import Ran, Run

ROOT = Path(__file__).parents[2]


class Became(Exception):
    """What the process would be from now on."""


@pytest.fixture(autouse=True)
def servers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GSD_DATABASE_URL", "postgresql://gsd:secret@127.0.0.1:1/gsd")
    monkeypatch.setenv("GSD_REDIS_URL", "redis://:secret@127.0.0.1:1/0")
    monkeypatch.setenv("GSD_STATE_DIR", str(tmp_path / "state"))


@pytest.fixture
def became(run: Run, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    words: list[str] = []

    def execv(program: str, argv: list[str]) -> None:
        assert program == argv[0] == sys.executable
        words.extend(argv[1:])
        raise Became

    monkeypatch.setattr(os, "execv", execv)
    return words


def procfile(part: str) -> list[str]:
    lines = dict(line.split(": ", 1) for line in (ROOT / "Procfile").read_text().splitlines() if ": celery" in line)
    return lines[part].split()[1:]


@pytest.mark.parametrize("part", ["worker", "maintenance", "beat", "flower"])
def test_each_part_becomes_the_command_of_the_procfile(run: Run, became: list[str], part: str) -> None:
    run(part)

    command = procfile(part)
    assert command[:2] == ["-A", "gsd_tasks.celery_app"]
    assert became[:4] == ["-P", "-m", "gsd_tasks.celery_part", command[2]]
    assert set(command[3:]) <= set(became)


def test_a_worker_is_told_its_name_slots_and_queues(run: Run, became: list[str]) -> None:
    run("worker", "--name", "big-1", "--slots", "2", "--queues", "a, b,")

    words = " ".join(became)
    assert " worker -n big-1@%h -c 2 -E " in words
    assert " -Q a,b " in words


def test_maintenance_takes_from_its_own_queue_however_that_is_called(
    run: Run, became: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GSD_MAINTENANCE_QUEUE", "chores")
    run("maintenance")

    assert became[became.index("-Q") + 1] == "chores"


@pytest.mark.parametrize(
    ("arguments", "said", "code"),
    [
        (["--slots", "4"], "'--slots'", 2),
        (["--slots", "0"], "'--slots'", 2),
        (["--name", "a@b"], "--name: 'a@b'", 2),
        (["--name", ""], "--name: ''", 2),
        (["--queues", " , "], "--queues: ' , ' names none", 2),
        (["--queues", "a,b c"], "--queues: 'b c'", 2),
        (["--queues", "a,maint"], "run `gsd-tasks maintenance` beside this", 125),
    ],
)
def test_what_a_worker_cannot_be_is_refused_in_one_line(
    run: Run, became: list[str], arguments: list[str], said: str, code: int
) -> None:
    ran = run("worker", *arguments)

    assert (ran.code, became) == (code, [])
    assert said in ran.err
    assert ran.err.count("\n") == 1


def test_a_worker_without_servers_is_refused_and_one_over_the_api_too(
    run: Run, became: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GSD_DATABASE_URL")
    monkeypatch.delenv("GSD_REDIS_URL")
    assert "no servers" in run("worker").err

    monkeypatch.setenv("GSD_API_URL", "http://127.0.0.1:1")
    assert "not over GSD_API_URL" in run("worker").err
    assert became == []


@pytest.mark.parametrize(("part", "node"), [("worker", WORKER), ("maintenance", MAINTENANCE), ("beat", BEAT)])
def test_a_part_is_looked_for_by_the_name_that_it_has_of_itself(
    run: Run, tmp_path: Path, part: str, node: str, became: list[str]
) -> None:
    sign = Sign(tmp_path / "state", f"{node}@{socket.gethostname()}")
    assert run("healthy", part).code == 1
    sign.give("in the way")
    assert run("healthy", part) == Ran(125, "hindered: in the way\n", "")
    sign.give()
    assert run("healthy", part).code == 0
    if part != "beat":
        run(part)
        assert f"{node}@%h" in became


def test_a_part_of_another_name_is_looked_for_by_that(run: Run, tmp_path: Path) -> None:
    Sign(tmp_path / "state", f"big-1@{socket.gethostname()}").give()

    assert run("healthy", "worker").code == 1
    assert run("healthy", "worker", "--name", "big-1").code == 0


@pytest.mark.parametrize("part", ["api", "flower"])
def test_what_nobody_answers_for_is_silent(run: Run, monkeypatch: pytest.MonkeyPatch, part: str) -> None:
    monkeypatch.setenv("GSD_API_PORT", "1")
    monkeypatch.setenv("GSD_FLOWER_PORT", "1")
    ran = run("healthy", part)

    assert (ran.code, ran.err) == (1, "")
    assert ran.out.startswith("silent: nothing answers at 127.0.0.1 port 1")
