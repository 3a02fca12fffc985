"""Nothing of a worker's reaches a session by accident, and nothing secret of a session's reaches those who read it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from gsd_tasks.domain.session import Session
from gsd_tasks.domain.state import Reason, Status
from gsd_tasks.process.contain import Containment, probe
from gsd_tasks.testing import OfflineModel, Text, ToolCall
from tests.claude_cli import BUNDLED_CLAUDE
from tests.cluster import Cluster
from tests.waiting import BOUND_S

NOBODY = 65534
LOOK = """
import json, os, sys

def tried(path):
    try:
        if os.path.isdir(path):
            return {os.readlink(os.path.join(path, name)) for name in os.listdir(path)} and "listed"
        with open(path, "rb") as file:
            return file.read(100_000).decode(errors="replace")
    except OSError as error:
        return f"refused: {error.strerror}"

worker = "/proc/" + sys.argv[1]
everybody = [name for name in os.listdir("/proc") if name.isdigit()]
print(json.dumps({
    "env": dict(os.environ),
    "command": tried(worker + "/cmdline"),
    "worker": {name: tried(f"{worker}/{name}") for name in ("environ", "mem", "maps", "fd")},
    "others": [tried(f"/proc/{name}/environ") for name in everybody],
}))
"""


@pytest.fixture(params=["this user", "an ordinary user"])
def secluded(request: pytest.FixtureRequest, database_url: str, redis_url: str) -> Iterator[Cluster]:
    """A cluster whose worker runs as this user; or, for root, as another."""
    uid = NOBODY if request.param == "an ordinary user" else None
    if uid is None and os.geteuid() == 0 and probe() is Containment.SUBREAPER:
        pytest.skip("nothing is closed to root, and this host gives no PID namespace")
    if uid is not None and os.geteuid() != 0:
        pytest.skip("this user is an ordinary one")
    folder = Path(tempfile.mkdtemp(prefix="gsd-a-", dir="/tmp"))
    try:
        if uid is not None:
            os.chown(folder, uid, uid)
            _skip_unless_it_can_run(uid)
        with Cluster(database_url, redis_url, folder, uid=uid) as cluster:
            yield cluster
    finally:
        shutil.rmtree(folder)


def _skip_unless_it_can_run(uid: int) -> None:
    for command in ([sys.executable, "-c", "import gsd_tasks.celery_app"], ["/usr/bin/test", "-x", BUNDLED_CLAUDE]):
        # By a program that is there for everybody, and says so if this one is not.
        tried = subprocess.run(
            ["/usr/bin/env", *command], user=uid, group=uid, extra_groups=[], capture_output=True, cwd="/", check=False
        )
        if tried.returncode != 0:
            pytest.skip(f"{command[-1]}: lies where no other user can reach it")


def test_a_bash_tool_finds_nothing_of_its_worker(secluded: Cluster) -> None:
    """Neither in its environment nor in /proc; what the operator means for Claude it has."""
    (secluded.folder / "look.py").write_text(LOOK)
    secret = {"AWS_SECRET_ACCESS_KEY": "for another purpose", "UNRELATED": "whatever", "DATABASE_URL": "postgresql://x"}
    look = ToolCall("Bash", {"command": f"{sys.executable} look.py $(cat pid)"})
    with OfflineModel([look, Text("Done.")]) as model:
        process = secluded.worker(env=model.env | secret | {"GSD_CLAUDE_BIN": str(BUNDLED_CLAUDE)})
        (secluded.folder / "pid").write_text(str(process.pid))
        session = secluded.client.enqueue(
            prompt="Look around", working_dir=secluded.folder, allowed_tools=["Bash"], timeout_s=60
        )
        ended = secluded.client.wait(session.id, timeout_s=BOUND_S)
        assert ended.status is Status.COMPLETED, ended
        found = json.loads(model.requests[-1].tool_results[0].text)
        seen_from_outside = _read_as_its_user(secluded, process.pid)

    assert found["env"]["ANTHROPIC_API_KEY"] == "offline"
    assert found["env"]["GSDTASKS_SESSION_ID"] == str(session.id)
    assert not [name for name in found["env"] if name.startswith("GSD_") or name in secret]
    everything = json.dumps([found["env"], found["worker"], found["others"]])
    for url in (secluded.env["GSD_DATABASE_URL"], secluded.env["GSD_REDIS_URL"], "postgresql://", "redis://"):
        assert url not in everything
    assert "GSD_DATABASE_URL" not in everything
    # In a PID namespace the number may be that of another process.
    if "celery" in found["command"]:
        assert all(answer.startswith("refused") for answer in found["worker"].values()), found["worker"]
    # As a session would see it on a host that gives no PID namespace. Nothing is closed to root.
    assert seen_from_outside == [] or (secluded.uid is None and os.geteuid() == 0)


def _read_as_its_user(cluster: Cluster, pid: int) -> list[str]:
    """What another process of the worker's user can read of it."""
    who = {} if cluster.uid is None else {"user": cluster.uid, "group": cluster.uid, "extra_groups": []}
    commands = [f"cat /proc/{pid}/environ", f"head -c 1 /proc/{pid}/maps", f"ls -l /proc/{pid}/fd/0"]
    return [
        command
        for command in commands
        if subprocess.run(command.split(), capture_output=True, check=False, **who).returncode == 0  # type: ignore[call-overload]
    ]


PRINTS_IN_HALVES = """
import os, sys, time
value = os.environ[sys.argv[1]]
print("ready", flush=True)
print(value[:7], end="", flush=True)
while not os.path.exists("gate"):
    time.sleep(0.02)
print(value[7:], flush=True)
"""


def test_a_worker_that_takes_over_goes_on_hiding_or_shows_nothing_more(cluster: Cluster) -> None:
    """One secret is as it was; the other was exchanged meanwhile: what its child would print is known to nobody."""
    secrets_dir = cluster.folder / "secrets"
    secrets_dir.mkdir()
    for name in ("KEPT", "EXCHANGED"):
        (secrets_dir / name).write_text(f"the value of {name}\n")
    (cluster.folder / "halves.py").write_text(PRINTS_IN_HALVES)
    env = {"GSD_SECRETS_DIR": str(secrets_dir)}
    worker = cluster.worker(env=env)
    kept, exchanged = (_start(cluster, name) for name in ("KEPT", "EXCHANGED"))
    worker.kill()
    worker.wait()
    (secrets_dir / "EXCHANGED").write_text("another value")

    cluster.start_worker(env=env)
    ended = cluster.client.wait(exchanged.id, timeout_s=BOUND_S)
    (cluster.folder / "gate").touch()
    finished = cluster.client.wait(kept.id, timeout_s=BOUND_S)

    assert (ended.status, ended.reason, ended.attempt) == (Status.FAILED, Reason.NO_SECRET, 1)
    assert "EXCHANGED" in (ended.detail or "")
    assert _printed(cluster, exchanged) == "ready\n"
    assert (finished.status, finished.attempt) == (Status.COMPLETED, 1)
    assert _printed(cluster, kept) == "ready\n" + "*" * len("the value of KEPT") + "\n"


def _start(cluster: Cluster, name: str) -> Session:
    command = [sys.executable, "halves.py", name]
    session = cluster.client.enqueue(command=command, working_dir=cluster.folder, secrets=[name])
    next(cluster.client.follow(session.id))
    return session


def _printed(cluster: Cluster, session: Session) -> str:
    return b"".join(cluster.client.raw_output(session.id)).decode()
