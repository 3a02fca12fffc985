"""The real command line of a machine that knows nothing but an API: against the real one, and a real worker."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from unittest.mock import patch

import pytest
import typer

from gsd_tasks import Client
from gsd_tasks.cli import main
from gsd_tasks.cli.app import _app
from gsd_tasks.cli.glance import compare, look
from gsd_tasks.domain.tokens import Scope
from gsd_tasks.settings import Settings
from gsd_tasks.store import Database
from tests.acceptance.test_cli import MESS, Shell
from tests.client.running_api import RunningApi, make_token
from tests.cluster import Cluster
from tests.http.attempts import Attempt
from tests.waiting import BOUND_S, until

IMPORTED = "import sys; from gsd_tasks.cli import main; main(['ps']); print(*sys.modules, file=sys.stderr)"


@pytest.fixture
def api(cluster: Cluster) -> Iterator[RunningApi]:
    settings = Settings(
        database_url=cluster.env["GSD_DATABASE_URL"],
        redis_url=cluster.env["GSD_REDIS_URL"],
        state_dir=cluster.state_dir,
    )
    with RunningApi(settings) as running:
        yield running


@pytest.fixture
def laptop(api: RunningApi, database: Database, tmp_path: Path) -> Shell:
    """Has neither the addresses of the servers, nor an `up`, nor its state."""
    home = tmp_path / "laptop"
    home.mkdir()
    env = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "GSD_API_URL": api.url,
        "GSD_API_TOKEN": make_token(database),
    }
    return Shell(env, tmp_path)


@dataclass(frozen=True)
class Ran:
    code: int
    out: str
    err: str


Call = Callable[..., Ran]


@pytest.fixture
def call(laptop: Shell, monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes]) -> Call:
    """Calls the command line in this process, with the laptop's environment: many times, it would take long else."""
    monkeypatch.chdir(laptop.folder)

    def call(*arguments: str) -> Ran:
        with patch.dict(os.environ, laptop.env, clear=True):
            code = main(arguments)
        out, err = capsysbinary.readouterr()
        # The API of these tests is in this process, too, and its log goes to the same place.
        own = (line for line in err.decode().splitlines(keepends=True) if "[access]" not in line)
        return Ran(code, out.decode(), "".join(own))

    return call


def test_a_laptop_needs_no_more_than_the_api(laptop: Shell, call: Call, cluster: Cluster, tmp_path: Path) -> None:
    cluster.worker()
    ran = laptop("run", "--", "sh", "-c", "echo out; echo err >&2; exit 7")
    assert (ran.returncode, ran.stdout) == (7, b"out\n"), ran.stderr
    assert b"started on gsd@" in ran.stderr

    (tmp_path / "mess").write_bytes(MESS)
    os.mkfifo(tmp_path / "go")
    words = ("--key", "k", "--", "sh", "-c", "cat mess; read line < go; echo $line")
    id_ = call("enqueue", *words).out.strip()
    assert (call("enqueue", *words).out.strip(), call("enqueue", *words, "more").code) == (id_, 2)
    following = laptop.start("logs", "-f", "--raw", id_)
    assert following.stdout is not None
    assert laptop.env["GSD_API_TOKEN"].encode() not in Path(f"/proc/{following.pid}/cmdline").read_bytes()
    assert following.stdout.read(len(MESS)) == MESS
    assert call("wait", "--timeout", "0.1", id_).code == 124
    assert "running" in call("ps", "--status", "running").out
    (tmp_path / "go").write_text("gone\n")
    assert following.communicate(timeout=BOUND_S)[0] == b"gone\n"
    assert following.returncode == 0
    assert call("wait", id_).code == 0

    assert json.loads(call("show", id_, "--json").out)["exit_code"] == 0
    assert "claimed" in call("history", id_).out
    assert json.loads(call("workers", "--json").out)[0]["status"] == "alive"
    assert "completed" in call("stats").out
    assert [call(name, id_).code for name in ("result", "snapshots", "verify", "costs")] == [2, 0, 0, 0]
    assert call("logs", id_, "--tail", "1").out == "gone\n"
    assert "1 alive" in call("doctor").out
    assert [call("rm", id_).code, call("rm", id_).code] == [0, 2]

    running = laptop.start("run", "--", "sleep", "60")
    assert running.stderr is not None
    until(lambda: b"started" in running.stderr.readline(), what="its start")  # type: ignore[union-attr]
    running.send_signal(signal.SIGINT)
    assert running.wait(BOUND_S) == 130
    running.communicate()
    [cancelled] = json.loads(call("ps", "--status", "cancelled", "--json").out)
    assert call("retry", cancelled["id"]).code == 0
    child = call("enqueue", "--parent", cancelled["id"], "--after", cancelled["id"], "--", "true").out.strip()
    assert {cancelled["id"][:18], child[:18]} <= set(
        re.findall(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}", call("tree", child).out)
    )
    assert call("cancel", cancelled["id"]).code == 0
    until(lambda: call("show", child).out.count("cancelled"), what="the end of what waits for it")

    busy = call("enqueue", "--", "sh", "-c", "while echo line; do sleep 0.1; done").out.strip()
    with Client(url=laptop.env["GSD_API_URL"], token=laptop.env["GSD_API_TOKEN"]) as client:
        looks = [look(client)]

        def lines_per_s() -> float | None:
            looks.append(look(client))
            return compare(looks[-1], looks[-2]).lines_per_s

        until(lines_per_s, what="lines a second")
        # A look is three questions, between which it may have begun.
        looks.append(look(client))
    glance = compare(looks[-1], looks[-2])
    assert ([str(one.id) for one in glance.sessions], glance.busy, glance.slots) == ([busy], 1, 3)
    assert call("cancel", busy).code == 0


ID, NOBODY = "ID", "0199a1b2-c3d4-7e5f-8000-000000000001"
#: What is asked of one session that has ended, in this order; each is said twice, over the API and over the database.
SAME: Mapping[str, tuple[str, ...]] = {
    "ps": (), "show": (ID,), "logs": (ID,), "history": (ID,), "workers": (), "tree": (ID,), "costs": (ID,),
    "snapshots": (ID,), "verify": (ID,), "result": (ID,), "wait": (ID,), "cancel": (ID,), "pause": (ID,),
    "send": (ID, "x"), "interrupt": (ID,), "fork": (ID,), "snapshot": (ID,), "restore": (ID, "x"), "resume": (ID, "x"),
    "retry": (ID,), "rm": (NOBODY,), "stats": ("--since", "2026-01-01"), "top": (),
}  # fmt: skip
CHANGING = {"run", "enqueue", "enqueue-many"}  # in the test of the laptop
OF_THE_SERVERS: Mapping[str, tuple[str, ...]] = {
    "reap": (), "migrate": (), "token": ("list",), "worker": (), "maintenance": (), "beat": (),
    "prune": ("--keep", "1"), "flower": (),
}  # fmt: skip
OF_THIS_MACHINE = {"up", "demo", "doctor", "api", "healthy"}


def test_every_command_is_known_here() -> None:
    commands = typer.main.get_command(_app()).commands  # type: ignore[attr-defined]
    shown = {name for name, command in commands.items() if not command.hidden}
    assert shown == {*SAME, *CHANGING, *OF_THE_SERVERS, *OF_THIS_MACHINE}


def test_every_command_says_the_same_and_ends_the_same_as_over_the_database(
    laptop: Shell, call: Call, cluster: Cluster, database: Database
) -> None:
    [session] = cluster.client.enqueue_many([{"command": ["true"], "working_dir": "/", "name": "one"}])
    attempt = Attempt(database, session.id)
    attempt.write(b"one", b"\xff\x1b[31m two")
    attempt.complete()
    over_http, codes = dict(laptop.env), {}
    for name, words in SAME.items():
        said = []
        for env in (over_http, over_http | cluster.env | {"GSD_API_URL": "", "GSD_API_TOKEN": ""}):
            laptop.env = env
            said.append(call(name, *(str(session.id) if word == ID else word for word in words)))
        assert _timeless(said[0]) == _timeless(said[1]), name
        codes[name] = said[0].code
    refused = {"result", "pause", "send", "interrupt", "fork", "snapshot", "restore", "resume", "retry", "rm"}
    assert codes == {name: 2 if name in refused else 0 for name in SAME}


def _timeless(ran: Ran) -> Ran:
    """Without how long ago something was, which differs, and the width of its column."""
    return replace(ran, out=re.sub(" +", " ", re.sub(r"\b[0-9]+s\b", "Ns", ran.out)))


def test_what_the_api_does_not_do_is_said_in_one_line(laptop: Shell, call: Call, database: Database) -> None:
    def says(words: str, *arguments: str) -> None:
        ran = call(*arguments)
        assert (ran.code, ran.err.count("\n"), words in ran.err) == (125, 1, True), ran

    for command, words in OF_THE_SERVERS.items():
        says("GSD_DATABASE_URL", command, *words)
    laptop.env["GSD_API_TOKEN"] = make_token(database, Scope.READ, name="reader")
    assert call("ps").code == 0
    says("'enqueue'", "enqueue", "--", "true")
    laptop.env["GSD_API_TOKEN"] = "gsd_no_such"
    says("needs a valid token", "ps")
    assert (call("doctor").code, "not let in" in call("doctor").out) == (1, True)
    del laptop.env["GSD_API_TOKEN"]
    says("set GSD_API_TOKEN", "ps")
    laptop.env |= {"GSD_API_TOKEN": "gsd_no_such", "GSD_API_URL": "http://127.0.0.1:1"}
    says("the API at 127.0.0.1:1 cannot be reached", "ps")
    assert (call("doctor").code, "does not work" in call("doctor").out) == (1, True)


@pytest.mark.parametrize("over", ["http", "database"])
def test_neither_way_pays_for_the_other(laptop: Shell, cluster: Cluster, over: str) -> None:
    env = laptop.env if over == "http" else cluster.env
    ran = subprocess.run([sys.executable, "-c", IMPORTED], env=env, capture_output=True, text=True, check=True)
    imported = set(ran.stderr.split())
    assert ("httpx2" in imported) == (over == "http"), ran.stderr
    assert ("sqlalchemy" in imported) == (over == "database")
    assert not imported & {"celery", "fastapi", "uvicorn", "alembic"}
