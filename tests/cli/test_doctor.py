"""`doctor`: a table, a sentence for what needs one, an exit code; with real servers and on the real host."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.cli.conftest import Run

CHECKS = (
    "gsd-tasks",
    "state folder",
    "memory",
    "containment",
    "process limit",
    "shims",
    "claude",
    "credentials",
    "workspace roots",
    "Postgres",
    "clock",
    "Postgres TLS",
    "leases",
    "spools",
    "Redis",
    "Redis TLS",
    "Redis eviction",
    "Redis persistence",
    "secret files",
    "API port",
    "Flower port",
)


@pytest.fixture(autouse=True)
def state_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GSD_STATE_DIR", str(tmp_path / "state"))
    return tmp_path / "state"


@pytest.fixture
def well_set_up(database_url: str, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GSD_DATABASE_URL", database_url)
    monkeypatch.setenv("GSD_REDIS_URL", redis_url)
    monkeypatch.setenv("GSD_WORKSPACE_ROOTS", str(tmp_path))


def test_where_a_worker_could_run_nothing_is_a_problem(run: Run, well_set_up: None, state_dir: Path) -> None:
    """And nothing was touched."""
    ran = run("doctor")

    assert (ran.code, ran.err) == (0, "")
    table, *_ = ran.out.partition("\n\n")
    heading, *lines = [re.split(r"\s{2,}", line.strip()) for line in table.splitlines()]
    assert heading == ["CHECK", "STATE", "FOUND"]
    assert tuple(line[0] for line in lines) == CHECKS
    assert {line[1] for line in lines} <= {"ok", "note"}
    assert not state_dir.exists()


def test_where_it_could_not_each_problem_says_what_to_do(run: Run) -> None:
    ran = run("doctor")

    assert ran.code == 1
    assert ran.err == ""
    for check, variable in (
        ("workspace roots", "GSD_WORKSPACE_ROOTS"),
        ("Postgres", "GSD_DATABASE_URL"),
        ("Redis", "GSD_REDIS_URL"),
    ):
        (sentence,) = [line for line in ran.out.splitlines() if line.startswith(f"{check} (problem): ")]
        assert variable in sentence


def test_the_same_as_one_json_document(run: Run, well_set_up: None, monkeypatch: pytest.MonkeyPatch) -> None:
    document = json.loads(run("doctor", "--json").out)

    assert document["can_run"] is True
    assert tuple(finding["check"] for finding in document["findings"]) == CHECKS
    assert set(document["findings"][0]) == {"check", "state", "found", "detail"}

    monkeypatch.setenv("GSD_REDIS_URL", "redis://127.0.0.1:1/0")
    ran = run("doctor", "--json")
    assert ran.code == 1
    assert [f["check"] for f in json.loads(ran.out)["findings"] if f["state"] == "problem"] == ["Redis"]


def test_a_setting_that_cannot_be_used_is_a_finding(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GSD_LEASE_S", "soon")

    ran = run("doctor")

    assert ran.code == 1
    assert "settings (problem): GSD_LEASE_S: " in ran.out


def test_the_servers_of_a_running_up_are_looked_at(
    run: Run, database_url: str, redis_url: str, state_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As every command finds them; one that is named comes first."""
    from gsd_tasks.local.state_dir import StateDir

    state = StateDir(state_dir)
    state.create()
    with state.hold():
        state.remember(running={"database_url": database_url, "redis_url": "redis://127.0.0.1:1/0"})
        monkeypatch.setenv("GSD_REDIS_URL", redis_url)
        findings = json.loads(run("doctor", "--json").out)["findings"]

    assert [f["check"] for f in findings if f["state"] == "problem"] == ["workspace roots"]
