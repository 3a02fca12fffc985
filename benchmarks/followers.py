"""What it takes to have many followers of one session: CPU, memory, and how far they are behind.

    PYTHONPATH=. python benchmarks/followers.py --followers 1000 --rate 1000 --seconds 30

A real worker runs a real child, one API process serves, and the followers are a process of their own
(`stream_readers.py`); Postgres and Redis run beside them. All of it on this machine.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil

from gsd_tasks.domain.session import Session
from gsd_tasks.domain.tokens import Scope
from gsd_tasks.local.embedded import EmbeddedServers, embedded_servers
from gsd_tasks.local.ports import choose_port
from gsd_tasks.service import tokens
from gsd_tasks.store import Database, migrate
from tests.cluster import Cluster
from tests.waiting import until

MIB = 1024 * 1024
READERS = Path(__file__).with_name("stream_readers.py")
CHILD = """
import sys, time
rate, seconds, length = map(int, sys.argv[1:])
begin, number = time.monotonic(), 0
time.sleep(1)
while number < rate * seconds:
    due = min(rate * seconds, int((time.monotonic() - begin - 1) * rate))
    sys.stdout.write("".join(f"{n} ".ljust(length - 1, "x") + "\\n" for n in range(number, due)))
    sys.stdout.flush()
    number = due
    time.sleep(0.01)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--followers", type=int, default=1000)
    parser.add_argument("--rate", type=int, default=1000, help="lines a second")
    parser.add_argument("--seconds", type=int, default=30)
    parser.add_argument("--length", type=int, default=100, help="bytes of a line")
    parser.add_argument("--app", default="api:app", help="what uvicorn serves")
    parser.add_argument("--uvicorn", default="", help="further options for it")
    asked = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    with tempfile.TemporaryDirectory(prefix="gsd-bench-") as name, embedded_servers(Path(name) / "servers") as servers:
        migrate(servers.database_url)
        database = Database(servers.database_url)
        _, text = tokens.create(database, "bench", {Scope.READ}, None)
        database.close()
        with Cluster(servers.database_url, servers.redis_url, Path(name)) as cluster:
            worker = psutil.Process(cluster.worker().pid)
            with _api(cluster, asked) as (api, port):
                _measure(asked, cluster, servers, worker, api, port, str(text))


def _measure(
    asked: argparse.Namespace,
    cluster: Cluster,
    servers: EmbeddedServers,
    worker: psutil.Process,
    api: psutil.Process,
    port: int,
    token: str,
) -> None:
    idle_rss = api.memory_info().rss
    postgres = psutil.Process(int((servers.postgres.folder / "data" / "postmaster.pid").read_text().split()[0]))
    # It begins when all are there: queued first, so that there is something to follow.
    session = cluster.client.enqueue(
        command=(sys.executable, "-c", CHILD, str(asked.rate), str(asked.seconds), str(asked.length)),
        working_dir=cluster.folder,
        queue="held",
    )
    readers = _readers(port, f"/v1/sessions/{session.id}/events", asked.followers, token)
    connected = json.loads(_line(readers))
    connected_rss = api.memory_info().rss
    watched = {"API": api, "worker, shim, child": worker, "Postgres": postgres}
    before = {what: _cpu_s(process) for what, process in watched.items()}
    consumer = cluster.worker("held", env={"GSD_QUEUES": "held"})
    watched["worker, shim, child"] = psutil.Process(consumer.pid)
    before["worker, shim, child"] = 0.0
    until(lambda: cluster.client.get(session.id).seq >= asked.rate * asked.seconds, timeout_s=asked.seconds + 60)
    spent = {what: _cpu_s(process) - before[what] for what, process in watched.items()}
    peak_rss = api.memory_info().rss
    outcome = json.loads(_line(readers))
    readers.wait()
    _report(asked, cluster.client.get(session.id), outcome)
    spent["followers"] = outcome["cpu_s"]
    print(f"connected after {connected['connected_s']:.2f} s")
    print("CPU s: " + ", ".join(f"{what} {seconds:.1f}" for what, seconds in spent.items()))
    each_kib = (connected_rss - idle_rss) / 1024 / asked.followers
    print(
        f"memory of the API: {idle_rss / MIB:.0f} MiB idle, {connected_rss / MIB:.0f} MiB with all"
        f" ({each_kib:.1f} KiB each), {peak_rss / MIB:.0f} MiB at the end;"
        f" of the followers {outcome['rss'] / MIB:.0f} MiB"
    )


def _report(asked: argparse.Namespace, session: Session, outcome: dict[str, Any]) -> None:
    assert session.ended_at is not None
    ended = session.ended_at.timestamp()
    wanted = asked.rate * asked.seconds
    good = not outcome["faults"] and outcome["rows"] == [wanted] and len(outcome["others"]) == 1
    print(f"{asked.followers} followers, {wanted} lines of {asked.length} bytes in {asked.seconds} s: ", end="")
    print("each got every row once, in order" if good else f"WRONG: {outcome}")
    behind = outcome["behind_s"]
    print(
        f"the slowest was behind by {statistics.median(behind):.2f} s (median), {max(behind):.2f} s (most);"
        f" told of the end after {outcome['first_ended_at'] - ended:.2f} s to {outcome['last_ended_at'] - ended:.2f} s"
    )
    print(
        f"{outcome['bytes'] / MIB / asked.seconds:.0f} MiB/s in all, in {outcome['chunks']} different chunks;"
        f" besides rows {outcome['others'][0]}"
    )
    print(f"at {datetime.now().astimezone():%H:%M}, load {os.getloadavg()[0]:.1f}")


@contextmanager
def _api(cluster: Cluster, asked: argparse.Namespace) -> Iterator[tuple[psutil.Process, int]]:
    port = choose_port(None)
    command = [sys.executable, "-m", "uvicorn", asked.app, "--port", str(port), "--no-access-log"]
    env = cluster.env | {"GSD_API_STREAMS": str(asked.followers), "PYTHONPATH": os.environ.get("PYTHONPATH", ".")}
    with subprocess.Popen([*command, *asked.uvicorn.split()], env=env, cwd=Path(__file__).parents[1]) as process:
        until(lambda: _listens(port), timeout_s=30, what="the API")
        yield psutil.Process(process.pid), port
        process.terminate()


def _listens(port: int) -> bool:
    return any(
        connection.status == psutil.CONN_LISTEN and connection.laddr.port == port
        for connection in psutil.net_connections("tcp")
    )


def _readers(port: int, path: str, number: int, token: str) -> subprocess.Popen[str]:
    command = [sys.executable, str(READERS), str(port), path, str(number)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    process.stdin.write(token)
    process.stdin.close()
    return process


def _line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


def _cpu_s(process: psutil.Process) -> float:
    """Of the process, of those that it has waited for, and of those that it has now."""
    times = process.cpu_times()
    total = times.user + times.system + times.children_user + times.children_system
    return float(total + sum(_cpu_s(child) for child in process.children()))


if __name__ == "__main__":
    main()
