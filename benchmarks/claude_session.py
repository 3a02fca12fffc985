"""What a Claude session costs beyond the claude CLI: time, memory, and how far its transcript is behind.

    python benchmarks/claude_session.py [SESSIONS]

The model is played; the CLI is that of the claude-agent-sdk package. The same conversation, some turns with a tool, is
run by the bare CLI and through a worker, in turn. Then three sessions wait for the model, and memory is read.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from uuid import uuid4

import psutil
import psycopg

from gsd_tasks.domain.session import ClaudeOptions
from gsd_tasks.domain.transcript import user_message
from gsd_tasks.local.embedded import EmbeddedServers, embedded_servers
from gsd_tasks.process.claude import claude_argv, claude_env, make_private_dir
from gsd_tasks.store import migrate
from gsd_tasks.testing import Hang, OfflineModel, Request, Text, ToolCall, Turn
from tests.claude_cli import BUNDLED_CLAUDE
from tests.cluster import Cluster

TURNS = 5
MIB = 1024 * 1024
OPTIONS = ClaudeOptions(allowed_tools=("Bash",))


def main() -> None:
    sessions = int(sys.argv[1]) if len(sys.argv) > 1 else 10
    for name in [name for name in os.environ if name.startswith(("GSD_", "ANTHROPIC_", "CLAUDE"))]:
        del os.environ[name]
    with tempfile.TemporaryDirectory(prefix="gsd-bench-") as name, embedded_servers(Path(name) / "servers") as servers:
        folder = Path(name)
        os.environ |= {"HOME": name, "SHELL": "/bin/sh"}
        migrate(servers.database_url)
        with OfflineModel(_play) as model, _cluster(servers, folder, model) as (cluster, worker):
            _report_time(cluster, folder, model, sessions)
            _report_lag(servers)
            _report_memory(cluster, worker)


def _play(request: Request) -> Turn:
    if "wait" in request.prompt:
        return Hang(120)
    if request.answers < TURNS:
        return ToolCall("Bash", {"command": "echo step"})
    return Text("Done.")


@contextmanager
def _cluster(servers: EmbeddedServers, folder: Path, model: OfflineModel) -> Iterator[tuple[Cluster, psutil.Process]]:
    with Cluster(servers.database_url, servers.redis_url, folder) as cluster:
        process = cluster.worker(env=model.env | {"GSD_CLAUDE_BIN": str(BUNDLED_CLAUDE)})
        yield cluster, psutil.Process(process.pid)


def _report_time(cluster: Cluster, folder: Path, model: OfflineModel, sessions: int) -> None:
    bare, ours = [], []
    for _ in range(sessions):
        bare.append(_bare(folder, model))
        began = time.monotonic()
        session = cluster.client.enqueue(prompt="Work", working_dir=folder, allowed_tools=["Bash"])
        cluster.client.wait(session.id, timeout_s=120)
        ours.append(time.monotonic() - began)
    alone_s, with_us_s = statistics.median(bare), statistics.median(ours)
    print(f"the CLI alone                {alone_s:6.2f} s  ({min(bare):.2f} to {max(bare):.2f}), {TURNS} tool turns")
    print(f"enqueued, run, settled, seen {with_us_s:6.2f} s  ({min(ours):.2f} to {max(ours):.2f})")
    print(f"ours of it                   {with_us_s - alone_s:6.2f} s  ({(1 - alone_s / with_us_s):.0%})")


def _bare(folder: Path, model: OfflineModel) -> float:
    session_id = uuid4()
    private = make_private_dir(folder / "bare", session_id, 1)
    env = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "SHELL": "/bin/sh",
        **claude_env(private, OPTIONS),
        **model.env,
    }
    began = time.monotonic()
    with subprocess.Popen(
        claude_argv(BUNDLED_CLAUDE, session_id, OPTIONS),
        env=env,
        cwd=folder,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write(user_message(uuid4(), "Work"))
        child.stdin.flush()
        for line in child.stdout:
            if json.loads(line)["type"] == "result":
                break
        child.stdin.close()
        child.stdout.read()
    return time.monotonic() - began


def _report_lag(servers: EmbeddedServers) -> None:
    with psycopg.connect(servers.database_url) as connection:
        rows = connection.execute("SELECT entry, at FROM transcript").fetchall()
    lags = [
        (at - datetime.fromisoformat(written)).total_seconds()
        for entry, at in rows
        if (written := json.loads(entry).get("timestamp"))
    ]
    lags.sort()
    p99 = lags[int(len(lags) * 0.99)]
    print(f"transcript behind the CLI    p50 {statistics.median(lags):.2f} s, p99 {p99:.2f} s, most {lags[-1]:.2f} s")


def _report_memory(cluster: Cluster, worker: psutil.Process) -> None:
    before = _pss(worker)
    sessions = [cluster.client.enqueue(prompt="wait", working_dir=cluster.folder) for _ in range(3)]
    for session in sessions:
        next(iter(cluster.client.follow(session.id)))
    time.sleep(3)
    below = worker.children(recursive=True)
    own = [process for process in below if "claude" not in process.name()]
    theirs = [process for process in below if "claude" in process.name()]
    grown, held = _pss(worker) - before, sum(map(_pss, own))
    print(f"memory (PSS) of the worker   {before / MIB:6.1f} MiB idle, {grown / 3 / MIB:.1f} MiB more for each session")
    print(f"shim and init                {held / 3 / MIB:6.1f} MiB for each session")
    print(f"the CLI itself               {sum(map(_pss, theirs)) / 3 / MIB:6.1f} MiB for each session")
    for session in sessions:
        cluster.client.cancel(session.id)
        cluster.client.wait(session.id, timeout_s=60)


def _pss(process: psutil.Process) -> int:
    return int(process.memory_full_info().pss)


if __name__ == "__main__":
    main()
