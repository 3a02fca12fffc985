"""A conversation outlives its host: ten tool turns, killed in the middle, finished elsewhere.

`GSD_TEST_KILLS=30` kills so many sessions instead of three; `GSD_TEST_SEED` says at which points.
"""

from __future__ import annotations

import os
import random
import re
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from gsd_tasks.domain.session import Session
from gsd_tasks.domain.state import Status
from gsd_tasks.testing import OfflineModel, Request, Text, ToolCall, Turn
from tests.claude_cli import BUNDLED_CLAUDE
from tests.cluster import Cluster
from tests.waiting import BOUND_S, until

LANES = 3
ROUNDS = -(-int(os.environ.get("GSD_TEST_KILLS", "3")) // LANES)
SEED = int(os.environ.get("GSD_TEST_SEED", "4"))
TURNS = 10
#: About as long as ten of these turns take, and the start before them.
LONGEST_S = 5.0
ENV = {"GSD_CLAUDE_BIN": str(BUNDLED_CLAUDE), "GSD_LEASE_S": "2", "GSD_HEARTBEAT_S": "0.4", "GSD_REPUBLISH_S": "0.5"}
DID = re.compile(r"did (\d+)\b")


def works_on(request: Request) -> Turn:
    """What a model does that trusts only what it has seen: the first step whose result it does not know."""
    step = max(seen_by(request), default=0) + 1
    if step > TURNS:
        return Text("All ten steps are done.")
    return ToolCall("Bash", {"command": f"echo {step} >> effects; sleep 0.15; echo did {step}"})


def seen_by(request: Request) -> set[int]:
    """The steps whose results stand in the conversation."""
    results = (
        block
        for message in request.body["messages"]
        for block in (message["content"] if isinstance(message["content"], list) else [])
        if block.get("type") == "tool_result"
    )
    return {int(number) for block in results for number in DID.findall(str(block.get("content")))}


@pytest.fixture
def model() -> Iterator[OfflineModel]:
    with OfflineModel(works_on) as model:
        yield model


@pytest.mark.slow
@pytest.mark.timeout(90 * ROUNDS + 210)
def test_a_conversation_whose_host_is_lost_is_finished_on_another(
    cluster: Cluster, model: OfflineModel, database_url: str
) -> None:
    chance = random.Random(SEED)
    cluster.maintenance(env=ENV)
    worker = _host(cluster, model, 0)
    for number in range(ROUNDS):
        sessions = _start(cluster)
        time.sleep(chance.uniform(0.2, LONGEST_S))
        _lose(cluster, worker)
        asked = len(model.requests)
        committed = {session.id: _committed(database_url, session) for session in sessions}
        effects = {session.id: _effects(session) for session in sessions}
        worker = _host(cluster, model, number + 1)

        for session in sessions:
            ended = cluster.client.wait(session.id, timeout_s=BOUND_S)
            assert (ended.status, ended.attempt) == (Status.COMPLETED, 2 if ended.recoveries else 1), ended
            assert ended.result is not None
            assert ended.result["text"] == "All ten steps are done."
            after = _effects(session)
            assert set(after) == set(range(1, TURNS + 1))
            # What the transcript had a result of was not done again; what it had not, may have been, once.
            assert all(after[step] == effects[session.id][step] for step in committed[session.id])
            assert max(after.values()) <= 2
            following = [request for request in model.requests[asked:] if request.session_id == str(session.id)]
            if ended.recoveries and committed[session.id]:
                assert seen_by(following[0]) >= committed[session.id]
                assert "its worker or host was lost" in following[0].last_prompt
                assert "check what it has done before you do it again" in following[0].last_prompt


@pytest.mark.slow
@pytest.mark.timeout(90 * ROUNDS + 210)
def test_a_conversation_whose_worker_is_killed_notices_nothing(cluster: Cluster, model: OfflineModel) -> None:
    chance = random.Random(SEED)
    worker = _worker(cluster, model, cluster.state_dir)
    for _ in range(ROUNDS):
        sessions = _start(cluster)
        time.sleep(chance.uniform(0.5, LONGEST_S))
        worker.kill()
        worker.wait()
        worker = _worker(cluster, model, cluster.state_dir)
        for session in sessions:
            ended = cluster.client.wait(session.id, timeout_s=BOUND_S)
            assert (ended.status, ended.attempt, ended.recoveries) == (Status.COMPLETED, 1, 0), ended
            assert _effects(session) == Counter(range(1, TURNS + 1))
            asked = [request for request in model.requests if request.session_id == str(session.id)]
            assert [len(seen_by(request)) for request in asked] == list(range(TURNS + 1))


def _start(cluster: Cluster) -> list[Session]:
    """Three sessions, each in a folder of its own."""
    sessions = []
    for _ in range(LANES):
        folder = cluster.folder / f"project-{time.monotonic_ns()}"
        folder.mkdir()
        sessions.append(cluster.client.enqueue(prompt="Do the ten steps", working_dir=folder, allowed_tools=["Bash"]))
    until(lambda: all(cluster.client.get(s.id).started_at for s in sessions), timeout_s=BOUND_S)
    return sessions


def _host(cluster: Cluster, model: OfflineModel, number: int) -> subprocess.Popen[bytes]:
    return _worker(cluster, model, cluster.folder / f"host-{number}")


def _worker(cluster: Cluster, model: OfflineModel, state_dir: Path) -> subprocess.Popen[bytes]:
    cluster.state_dir = state_dir  # where its shims are found
    return cluster.worker(env=ENV | model.env | {"GSD_STATE_DIR": str(state_dir)})


def _lose(cluster: Cluster, worker: subprocess.Popen[bytes]) -> None:
    """Worker, shims and everything below them, at one instant."""
    worker.kill()
    cluster.kill_shims()
    worker.wait()


def _committed(database_url: str, session: Session) -> set[int]:
    """The steps whose results stand in the transcript."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        rows = connection.execute(
            "SELECT entry FROM transcript WHERE session_id = %s AND kind = 'user' AND entry LIKE '%%tool_result%%'",
            [session.id],
        ).fetchall()
    return {int(number) for (entry,) in rows for number in DID.findall(entry)}


def _effects(session: Session) -> Counter[int]:
    path = Path(session.working_dir) / "effects"
    return Counter(map(int, path.read_text().split())) if path.exists() else Counter()
