"""The real command line against real servers and a real worker."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any
from unittest.mock import patch
from uuid import UUID

import psycopg
import pytest

from gsd_tasks.cli import main
from gsd_tasks.domain.state import Status
from gsd_tasks.testing import OfflineModel, Text, by_prompt
from tests.claude_cli import BUNDLED_CLAUDE
from tests.cluster import Cluster
from tests.waiting import BOUND_S, until

GSD = (sys.executable, "-m", "gsd_tasks")
# Where the tests run in the background, SIGINT is ignored.
_START = "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); from gsd_tasks.cli import main"
INTERRUPTIBLE = (sys.executable, "-c", f"{_START}; sys.exit(main())")
MESS = b"\x1b[31mred\x00\xff\r\nlast without newline"


class Shell:
    """Calls `gsd-tasks` as a person or a script does, in a folder and an environment of its own."""

    def __init__(self, env: Mapping[str, str], folder: Path) -> None:
        self.env = dict(env)
        self.folder = folder

    def __call__(self, *arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [*GSD, *arguments],
            env=self.env,
            cwd=self.folder,
            input=stdin,
            capture_output=True,
            timeout=BOUND_S,
            check=False,
        )

    def start(self, *arguments: str, **options: int) -> subprocess.Popen[bytes]:
        streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
        return subprocess.Popen([*INTERRUPTIBLE, *arguments], env=self.env, cwd=self.folder, **streams)  # type: ignore[call-overload,no-any-return]


@pytest.fixture
def shell(cluster: Cluster) -> Shell:
    return Shell(cluster.env, cluster.folder)


Call = Callable[..., subprocess.CompletedProcess[bytes]]


@pytest.fixture
def call(shell: Shell, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]) -> Call:
    """Calls as `shell` does, but in this process: for what is the same in one of its own, which takes half a second."""
    monkeypatch.chdir(shell.folder)

    def call(*arguments: str) -> subprocess.CompletedProcess[bytes]:
        capfdbinary.readouterr()
        with patch.dict(os.environ, shell.env, clear=True):
            code = main(arguments)
        return subprocess.CompletedProcess(arguments, code, *capfdbinary.readouterr())

    return call


@pytest.fixture
def worked(cluster: Cluster, shell: Shell) -> Shell:
    """With a worker that takes what is queued."""
    cluster.worker()
    return shell


def test_run_shows_a_command_live_and_ends_with_its_code(worked: Shell) -> None:
    ran = worked("run", "--", "sh", "-c", "echo out; echo err >&2; pwd; exit 7")
    assert (ran.returncode, ran.stdout) == (7, b"out\n" + bytes(worked.folder) + b"\n")
    words = ran.stderr.decode().splitlines()
    assert "is queued" in words[0]
    # Before it, perhaps, that it waits for a worker.
    (started,) = (number for number, line in enumerate(words) if "started on gsd@" in line)
    assert 0 < started < words.index("err")
    assert words[-1].startswith("gsd-tasks: failed (exit_code)")

    wanted = {
        ("--", "true"): 0,
        ("--", "sh", "-c", "kill -KILL $$"): 128 + signal.SIGKILL,
        ("--timeout", "0.5", "--", "sleep", "60"): 124,
        ("--", "no-such-program-anywhere"): 125,
        ("-C", "nowhere", "--", "true"): 125,
    }
    runs = [worked.start("run", *arguments) for arguments in wanted]
    said = [process.communicate(timeout=BOUND_S) for process in runs]
    assert dict(zip(wanted, (process.returncode for process in runs), strict=True)) == wanted, said


def test_what_a_session_wrote_is_read_back_in_every_form(worked: Shell, call: Call) -> None:
    def read(*arguments: str) -> Any:
        return json.loads(call(*arguments, "--json").stdout)

    (worked.folder / "mess").write_bytes(MESS)
    enqueue = ("enqueue", "--name", "mess", "--key", "k", "--", "cat", "mess")
    id_ = worked(*enqueue).stdout.decode().strip()
    assert call("wait", id_).returncode == 0
    assert call(*enqueue).stdout.decode().strip() == id_

    assert worked("logs", id_, "--raw").stdout == MESS
    assert call("logs", id_[:30]).stdout == "^[[31mred^@\ufffd\nlast without newline".encode()
    rows = [json.loads(line) for line in call("logs", id_, "--json").stdout.splitlines()]
    assert [(row["seq"], row["eol"]) for row in rows] == [(1, True), (2, False)]

    assert b"mess" in call("ps").stdout
    assert b"completed" in call("show", id_).stdout
    assert b"claimed" in call("history", id_).stdout
    assert [one["id"] for one in read("ps", "--status", "completed")] == [id_]
    assert read("show", id_)["exit_code"] == 0
    assert len(read("history", id_)) == 3
    assert read("workers")[0]["status"] == "alive"

    assert call("rm", id_).returncode == 0
    gone = worked("show", id_)
    assert (gone.returncode, gone.stderr.count(b"\n")) == (2, 1)


@pytest.mark.skipif(not BUNDLED_CLAUDE.exists(), reason="the claude CLI is not installed")
def test_a_prompt_from_standard_input_is_answered_in_words(cluster: Cluster, shell: Shell, call: Call) -> None:
    with OfflineModel(by_prompt({"question": [Text("forty-two")]})) as model:
        cluster.worker(env=model.env | {"GSD_CLAUDE_BIN": str(BUNDLED_CLAUDE)})
        ran = shell("run", "-", stdin=b"A question\n")
    assert ran.returncode == 0, ran.stderr
    shown = ran.stdout.splitlines()
    assert shown[1:3] == [b"< A question", b"forty-two"]
    assert shown[3].startswith(b"= finished: 1 turn, ")
    assert b'{"type"' not in ran.stdout

    one = json.loads(call("ps", "--json").stdout)[0]
    assert call("logs", one["id"]).stdout == ran.stdout
    assert call("result", one["id"]).stdout == b"forty-two\n"
    assert json.loads(call("result", one["id"], "--json").stdout) == one["result"]
    raw = [json.loads(line) for line in call("logs", one["id"], "--raw").stdout.splitlines()]
    assert [event["result"] for event in raw if event["type"] == "result"] == ["forty-two"]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_script_that_is_stopped_takes_its_session_along(
    cluster: Cluster, worked: Shell, number: signal.Signals, code: int
) -> None:
    file = cluster.folder / "quiet"
    file.touch()
    process = worked.start("run", "--", "sh", "-c", f"echo hello; exec tail -f {file}")
    assert process.stdout
    assert process.stdout.readline() == b"hello\n"
    process.send_signal(number)
    _, err = process.communicate(timeout=BOUND_S)
    assert process.returncode == code, err
    assert cluster.client.list()[0].status is Status.CANCELLED
    assert not [words for words in _command_lines() if words[0] == b"tail" and bytes(file) in words]


def _command_lines() -> Iterator[list[bytes]]:
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            yield path.read_bytes().split(b"\0")


def test_ctrl_c_on_a_terminal_leaves_the_session_running(cluster: Cluster, worked: Shell, call: Call) -> None:
    ours, theirs = pty.openpty()
    worked.env.pop("CI", None)
    process = worked.start("run", "--", "sh", "-c", "echo hello; exec sleep 600", stdin=theirs)
    assert process.stdout
    assert process.stderr
    assert process.stdout.readline() == b"hello\n"
    process.send_signal(signal.SIGINT)
    # Without a controlling terminal, as here, the question comes on stderr.
    shown = b""
    while b"[d]etach" not in shown:
        shown += (piece := os.read(process.stderr.fileno(), 1000))
        assert piece, shown
    os.write(ours, b"d\n")
    process.communicate(timeout=BOUND_S)
    os.close(ours)
    os.close(theirs)
    assert process.returncode == 130
    session = cluster.client.list()[0]
    assert (session.status, session.wanted) == (Status.RUNNING, None)
    assert call("cancel", str(session.id)).returncode == 0
    assert call("wait", str(session.id)).returncode == 130


def test_a_reader_that_has_enough_ends_logs_quietly(cluster: Cluster, worked: Shell) -> None:
    session = cluster.client.enqueue(command=["seq", "200000"], working_dir=cluster.folder)
    id_ = str(cluster.client.wait(session.id, timeout_s=BOUND_S).id)
    process = worked.start("logs", id_, "--raw")
    assert process.stdout
    assert process.stderr
    assert process.stdout.readline() == b"1\n"
    process.stdout.close()
    assert (process.wait(BOUND_S), process.stderr.read()) == (141, b"")
    process.stderr.close()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("run", " "), b"prompt: is empty"),
        (("run", "--", ""), b"command: is empty"),
        (("run", "--queue", "a b", "--", "x"), b"queue"),
        (("run", "--env", "GSD_X=1", "--", "x"), b"GSD_X"),
        (("run", "--parent", "ffff", "--", "x"), b"ffff"),
        (("run", "--timeout", "0", "--", "x"), b"timeout"),
        (("run", "--name", "", "--", "x"), b"name"),
        (("show", "not-an-id"), b"not-an-id"),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_written(
    cluster: Cluster, call: Call, arguments: tuple[str, ...], words: bytes
) -> None:
    ran = call(*arguments)
    assert (ran.returncode, ran.stdout, ran.stderr.count(b"\n")) == (2, b"", 1), ran.stderr
    assert ran.stderr.startswith(b"gsd-tasks: ")
    assert words in ran.stderr
    assert cluster.client.list() == []


def test_without_servers_it_says_what_to_do(shell: Shell, call: Call) -> None:
    for name in ("GSD_DATABASE_URL", "GSD_REDIS_URL"):
        del shell.env[name]
    for arguments in (("ps",), ("run", "--", "true"), ("migrate",)):
        ran = call(*arguments)
        assert (ran.returncode, ran.stderr.count(b"\n")) == (125, 1), ran.stderr
        assert b"GSD_DATABASE_URL" in ran.stderr


def test_a_database_that_does_not_answer_is_one_line(shell: Shell, call: Call) -> None:
    shell.env |= {"GSD_DATABASE_URL": "postgresql://u@127.0.0.1:1/x", "GSD_REDIS_URL": "redis://127.0.0.1:1/0"}
    ran = call("ps")
    assert (ran.returncode, ran.stderr.count(b"\n")) == (125, 1), ran.stderr


@pytest.fixture
def empty_database_url(database_url: str) -> Iterator[str]:
    """A database with nothing in it."""
    name = database_url.rpartition("/")[2] + "_empty"
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE template0")
        yield database_url.rpartition("/")[0] + f"/{name}"
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


def test_migrate_brings_an_empty_database_to_the_schema(empty_database_url: str, shell: Shell, call: Call) -> None:
    shell.env["GSD_DATABASE_URL"] = empty_database_url
    before = call("ps")
    assert (before.returncode, before.stderr.count(b"\n")) == (125, 1), before.stderr
    assert shell("migrate").returncode == 0
    assert call("migrate").returncode == 0
    assert json.loads(call("ps", "--json").stdout) == []


def test_up_starts_a_cluster_that_other_commands_find_and_stops_it_when_asked(tmp_path: Path) -> None:
    env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "GSD_STATE_DIR": str(tmp_path / "state")}
    shell = Shell(env, tmp_path)
    process = shell.start("up", stderr=subprocess.STDOUT)
    assert process.stdout
    try:
        _read_until(process, b"ready")
        assert shell("run", "--", "echo", "hello").stdout == b"hello\n"
    finally:
        process.terminate()
        rest, _ = process.communicate(timeout=BOUND_S)
    assert process.returncode == 0, rest


def test_enqueue_without_redis_prints_the_id_alone_and_says_the_rest_on_stderr(shell: Shell) -> None:
    shell.env["GSD_REDIS_URL"] = "redis://127.0.0.1:1/0"
    ran = shell("enqueue", "--", "true")
    assert ran.returncode == 0
    said = ran.stdout.decode()
    assert said == f"{UUID(said.strip())}\n"
    assert b"queued without a message" in ran.stderr


@pytest.mark.slow
def test_sessions_outlive_an_up_that_was_killed_and_go_on_under_the_next(tmp_path: Path) -> None:
    """Servers, workers and all are gone, the children are not: the next `up` finds everything where it was."""
    env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "GSD_STATE_DIR": str(tmp_path / "state")}
    shell = Shell(env, tmp_path)
    script = (
        "i=0; until [ -e gate ]; do i=$((i+1)); echo $i; [ $i != 20 ] || touch half; sleep 0.05; done; echo $i >printed"
    )
    first = shell.start("up", stderr=subprocess.STDOUT)
    try:
        _read_until(first, b"ready")
        session_id = shell("enqueue", "--", "sh", "-c", script).stdout.decode().strip()
        until((tmp_path / "half").exists, timeout_s=BOUND_S)
    finally:
        first.kill()
        first.communicate(timeout=BOUND_S)
    second = shell.start("up", stderr=subprocess.STDOUT)
    try:
        _read_until(second, b"ready")
        (tmp_path / "gate").touch()
        assert shell("wait", session_id).returncode == 0
        printed = int((tmp_path / "printed").read_text())
        assert shell("logs", "--raw", session_id).stdout == b"".join(b"%d\n" % i for i in range(1, printed + 1))
        assert json.loads(shell("show", session_id, "--json").stdout)["attempt"] == 1
    finally:
        second.send_signal(signal.SIGINT)
        second.communicate(timeout=BOUND_S)
    assert second.returncode == 0


def _read_until(process: subprocess.Popen[bytes], start: bytes) -> None:
    assert process.stdout
    said = []
    for line in process.stdout:
        said.append(line)
        if line.startswith(start):
            return
    pytest.fail(b"".join(said).decode())
