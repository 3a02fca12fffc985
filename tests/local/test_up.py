"""`up` with its real servers; parts are made up, because the real ones have tests of their own."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
from pathlib import Path
from typing import Any

import psycopg
import pytest
from pydantic import SecretStr

from gsd_tasks.local.addresses import Addresses, running_cluster
from gsd_tasks.local.api_place import ApiPlace
from gsd_tasks.local.flower_password import Password
from gsd_tasks.local.flower_place import FlowerPlace
from gsd_tasks.local.parts import ClusterParts
from gsd_tasks.local.state_dir import StateDir
from gsd_tasks.local.up import starting_order
from gsd_tasks.settings import Settings
from tests.local.conftest import Runner, Script, command_lines, processes_in, wait_for

STEADY = [[{"name": "worker", "code": "import signal; signal.pause()"}]]


def up(runner: Runner) -> Script:
    script = runner.run("fake_up.py", runner.folder / "state", json.dumps(STEADY))
    script.line("ready after")
    return script


def addresses_of(runner: Runner) -> Addresses:
    addresses = running_cluster(runner.folder / "state")
    assert addresses is not None
    return addresses


def query(runner: Runner, statement: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(addresses_of(runner).database_url, autocommit=True) as connection:
        cursor = connection.execute(statement)
        return cursor.fetchall() if cursor.description else []


def test_it_runs_servers_that_clients_find_while_it_runs(runner: Runner) -> None:
    script = up(runner)
    assert "migrate after []" in script.lines  # of the parts, none had been started
    assert query(runner, "SELECT 1") == [(1,)]
    assert script.end(signal.SIGINT) == 0
    stops = [line.split()[1] for line in script.lines if line.startswith("stopping")]
    assert stops == ["worker", "valkey", "postgres"]
    assert running_cluster(runner.folder / "state") is None
    assert processes_in(runner.folder / "state") == {}


def test_after_a_kill_the_next_one_has_the_same_data_at_the_same_addresses(runner: Runner) -> None:
    script = up(runner)
    query(runner, "CREATE TABLE kept AS SELECT 7 AS seven")
    former = addresses_of(runner)
    script.end(signal.SIGKILL)
    assert running_cluster(runner.folder / "state") is None
    script = up(runner)  # at once: what is left of the former one is seen to
    assert query(runner, "SELECT seven FROM kept") == [(7,)]
    assert addresses_of(runner) == former
    assert script.end(signal.SIGTERM) == 0


def test_a_port_that_is_taken_by_now_is_replaced_and_remembered(me: Runner) -> None:
    script = up(me)
    query(me, "CREATE TABLE kept AS SELECT 7 AS seven")
    former = json.loads((me.folder / "state/cluster.json").read_text())
    assert script.end(signal.SIGTERM) == 0
    with socket.create_server(("127.0.0.1", former["postgres"]["port"])):
        script = up(me)
        assert query(me, "SELECT seven FROM kept") == [(7,)]
        now = json.loads((me.folder / "state/cluster.json").read_text())
    assert now["postgres"]["port"] != former["postgres"]["port"]
    assert now["valkey"] == former["valkey"]
    assert script.end(signal.SIGTERM) == 0


def test_a_lost_cluster_file_costs_no_data(me: Runner) -> None:
    script = up(me)
    query(me, "CREATE TABLE kept AS SELECT 7 AS seven")
    assert script.end(signal.SIGTERM) == 0
    (me.folder / "state/cluster.json").write_text("{ broken")
    script = up(me)
    assert query(me, "SELECT seven FROM kept") == [(7,)]
    assert script.end(signal.SIGTERM) == 0


@pytest.mark.parametrize("server", ["postgres", "valkey"])
def test_a_server_that_is_killed_comes_back_on_its_data(me: Runner, server: str) -> None:
    script = up(me)
    record = me.folder / "state" / server / "process.json"
    former = json.loads(record.read_text())["pid"]
    os.kill(former, signal.SIGKILL)
    script.line(f"{server} ended (killed by SIGKILL)")
    wait_for(lambda: record.exists() and json.loads(record.read_text())["pid"] != former, "a new life")

    def answers() -> bool:
        try:
            return query(me, "SELECT 1") == [(1,)]
        except psycopg.OperationalError:
            return False

    wait_for(answers, "it answers again")
    assert script.end(signal.SIGTERM) == 0


def test_what_it_keeps_is_the_owners_alone_and_no_command_line_shows_a_password(me: Runner) -> None:
    script = up(me)
    secrets = [
        entry["password"]
        for entry in json.loads((me.folder / "state/cluster.json").read_text()).values()
        if "password" in entry
    ]
    for path in (me.folder / "state", *(me.folder / "state").rglob("*")):
        mode = path.lstat().st_mode
        assert stat.S_ISSOCK(mode) or mode & 0o077 == 0, f"{path}: {stat.filemode(mode)}"
    commands = b"".join(command_lines().values())
    for secret in secrets:
        assert secret.encode() not in commands
        assert secret not in "".join(script.lines)
    assert len(secrets) == 2
    assert script.end(signal.SIGTERM) == 0


def cluster_parts(root: Path, **fields: Any) -> ClusterParts:
    settings = Settings(state_dir=root, **fields)
    return ClusterParts(settings, StateDir(root), Addresses("postgresql://d", "redis://r"))


def test_parts_are_started_with_the_address_and_folders_of_this_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", "relative:/absolute")
    monkeypatch.setenv("INHERITED", "yes")
    monkeypatch.setenv("GSD_API_URL", "https://elsewhere.example")
    monkeypatch.setenv("GSD_API_TOKEN", "somebody's")
    env = cluster_parts(tmp_path).beat().env
    assert env["GSD_DATABASE_URL"] == "postgresql://d"
    assert env["GSD_REDIS_URL"] == "redis://r"
    assert env["GSD_STATE_DIR"] == str(tmp_path)
    assert env["GSD_WORKSPACE_ROOTS"] == "/"
    assert env["INHERITED"] == "yes"
    assert {"GSD_API_URL", "GSD_API_TOKEN"} & set(env) == set()
    assert env["PYTHONPATH"] == f"{Path.cwd()}/relative:/absolute"
    assert cluster_parts(tmp_path, workspace_roots=("/a", "/b")).beat().env["GSD_WORKSPACE_ROOTS"] == "/a:/b"


def test_the_parts_of_a_cluster_in_starting_order(tmp_path: Path) -> None:
    parts = cluster_parts(tmp_path, drain_s=30, maintenance_queue="m")
    password = Password("never on a command line", "FILE")
    faces = [parts.flower(FlowerPlace("127.0.0.1", 21002), password), parts.api(ApiPlace("0.0.0.0", 21001))]
    groups = starting_order(parts, faces, lambda _a, _pid: True, workers=2)
    names = [[part.name for part in group] for group in groups]
    assert names == [["maintenance"], ["worker", "worker2"], ["beat"], ["flower"], ["api"]]
    [[maintenance], [worker, second], [beat], [flower], [api]] = groups
    assert " ".join(worker.argv[1:5]) == "-m gsd_tasks.celery_part worker -n"
    assert (worker.argv[5], second.argv[5]) == ("gsd@%h", "gsd2@%h")
    assert worker.stop_bound_s == 90
    assert "-Q m" in " ".join(maintenance.argv)
    assert f"-s {tmp_path}/beat/schedule --pidfile=" in " ".join(beat.argv)
    assert api.argv[1:] == ("-m", "gsd_tasks", "api")
    assert (api.env["GSD_API_HOST"], api.env["GSD_API_PORT"]) == ("0.0.0.0", "21001")
    assert flower.argv[3:6] == ("flower", "--address=127.0.0.1", "--port=21002")
    assert flower.access == "user: gsd, password: FILE"
    assert password.text not in f"{flower}{password}"
    assert [part.url for part in (flower, api)] == ["http://127.0.0.1:21002", "http://127.0.0.1:21001"]
    assert not [part for group in groups[:3] for part in group if part.url]


def test_the_worker_is_asked_after_by_its_pid(tmp_path: Path) -> None:
    asked: list[tuple[Addresses, int]] = []

    def is_up(addresses: Addresses, pid: int) -> bool:
        asked.append((addresses, pid))
        return False

    assert cluster_parts(tmp_path).worker(1, is_up).probe(42) is False
    assert asked == [(Addresses("postgresql://d", "redis://r"), 42)]


def test_a_part_that_cannot_be_asked_is_ready_once_it_has_lived_a_second(tmp_path: Path) -> None:
    probe = cluster_parts(tmp_path).beat().probe
    wait_for(lambda: probe(os.getpid()), "this process is older than that")
    assert not probe(2**22 + 1)


def test_addresses_are_never_shown(tmp_path: Path) -> None:
    assert "pa55" not in repr(Addresses("postgresql://u:pa55@h/d", "redis://:pa55@h"))
    assert "pa55" not in repr(Settings(state_dir=tmp_path, database_url=SecretStr("postgresql://u:pa55@h/d")))
