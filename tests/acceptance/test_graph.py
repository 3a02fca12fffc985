"""A graph of sessions under kills of workers and shims: each runs once, and none before those that it is to follow.

Told by what the children themselves leave behind. `GSD_TEST_GRAPH=500` takes more than the usual 40, `GSD_TEST_SEED`
draws the same graph and the same kills again.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest

from gsd_tasks.domain.session import HistoryEntry, Session
from gsd_tasks.domain.state import Reason, Status
from gsd_tasks.process.contain import kill_shim, shim_is_alive
from tests.cluster import Cluster
from tests.waiting import BOUND_S, until

SESSIONS: Final = int(os.environ.get("GSD_TEST_GRAPH", "40"))
KILLS: Final = max(2, SESSIONS // 25)
LEASE_S: Final = 30
SEED: Final = int(os.environ.get("GSD_TEST_SEED", "0")) or time.time_ns()
#: Each run has a file of its own, made by it alone (O_EXCL), with the moments of its start and its end; two of one
#: session that run at once cannot both have its lock. No more end than there are lines in `may_end`, or a few: whoever
#: kills finds somebody to kill.
JOB: Final = """
exec 9>>"$0.lock"; flock -n 9 || echo "$0" >>overlaps
now=$(date +%s%N); run=1; set -C; until echo "$now" 2>/dev/null >"$0.$run"; do run=$((run + 1)); done
sleep "0.$1"; until [ "$(sort -u ended | wc -l)" -lt "$(wc -l <may_end)" ]; do sleep 0.05; done
date +%s%N >>"$0.$run"
echo "$0" >>ended; exit "$2"
"""


@dataclass(frozen=True, slots=True)
class Node:
    """A session of the graph: what it is to follow, and how its command ends."""

    ref: str
    after: tuple[str, ...]
    after_any: tuple[str, ...]
    code: int

    def request(self, folder: Path, nap: int) -> Mapping[str, Any]:
        return {
            "ref": self.ref,
            "command": ["sh", "-c", JOB, self.ref, f"{nap:02}", str(self.code)],
            "working_dir": folder,
            "after": [f"@{ref}" for ref in self.after],
            "after_any": [f"@{ref}" for ref in self.after_any],
            "on_lost": "requeue",
            "max_recoveries": 100,
        }


class Run(NamedTuple):
    """What one child has written down; no end, if it was killed."""

    began: int
    ended: int | None


def draw(chance: random.Random) -> list[Node]:
    """Each may follow some of those that were drawn before it; they are given in another order."""
    nodes: list[Node] = []
    for number in range(SESSIONS):
        before = [node.ref for node in chance.sample(nodes, min(len(nodes), chance.choice((0, 1, 1, 2, 3))))]
        some = chance.randint(0, len(before)) if chance.random() < 0.3 else 0
        # Late ones: else most of the graph would be given up.
        code = 3 if number > SESSIONS / 2 and chance.random() < 0.05 else 0
        nodes.append(Node(f"n{number}", tuple(before[some:]), tuple(before[:some]), code))
    return nodes


def expected(nodes: list[Node]) -> dict[str, tuple[Status, Reason]]:
    """How each of them ends."""
    ends: dict[str, tuple[Status, Reason]] = {}
    for node in nodes:
        if any(ends[ref][0] is not Status.COMPLETED for ref in node.after):
            ends[node.ref] = (Status.FAILED, Reason.DEPENDENCY)
        else:
            ends[node.ref] = (Status.FAILED, Reason.EXIT_CODE) if node.code else (Status.COMPLETED, Reason.FINISHED)
    return ends


class Killer:
    """Kills a worker, or a shim with all that it runs, and says which sessions may have run again by that."""

    def __init__(self, cluster: Cluster, chance: random.Random) -> None:
        self._cluster = cluster
        self._chance = chance
        self._workers: dict[str, subprocess.Popen[bytes]] = {name: cluster.worker(name) for name in ("one", "two")}
        self._kills: list[tuple[str, datetime]] = []
        self.interrupted: set[str] = set()

    def kill_worker(self) -> None:
        name = self._chance.choice(sorted(self._workers))
        victim = self._workers[name]
        # One that is killed before it is up adopts nothing: after a lease of that, its host counts as lost.
        until(lambda: self._cluster.is_up(victim), timeout_s=BOUND_S, what=f"worker {name}")
        victim.send_signal(signal.SIGKILL)
        victim.wait()
        self._kills.append((name, datetime.now(UTC)))
        self._workers[name] = self._cluster.start_worker(name)

    @property
    def longest_absence_s(self) -> float:
        """How long a worker that was killed had no successor. After a lease, what it ran counts as lost."""
        now = datetime.now(UTC)
        starts = [(worker.name.partition("@")[0], worker.started_at) for worker in self._cluster.client.workers()]
        absences = [
            # All may be over before the last one is there.
            min((start for other, start in starts if other == name and start > killed_at), default=now) - killed_at
            for name, killed_at in self._kills
        ]
        return max(absences).total_seconds()

    def kill_shim(self) -> None:
        until(self._try_to_kill_shim, timeout_s=BOUND_S, what="a shim to be alive")

    def _try_to_kill_shim(self) -> bool:
        shims = [lock.parent for lock in sorted(self._cluster.state_dir.glob("spool/*/*/*/shim.lock"))]
        alive = [folder for folder in shims if shim_is_alive(folder)]
        if not alive or not kill_shim(victim := self._chance.choice(alive)):
            return False
        self.interrupted.add(victim.parent.name)
        return True


@pytest.mark.timeout(300 + 6 * SESSIONS)
def test_a_graph_runs_once_and_in_order_while_workers_are_killed(cluster: Cluster, tmp_path: Path) -> None:
    sys.stderr.write(f"GSD_TEST_SEED={SEED}\n")
    chance = random.Random(SEED)
    nodes = draw(chance)
    folder = tmp_path / "runs"
    folder.mkdir()
    (folder / "ended").touch()
    (folder / "may_end").touch()
    cluster.maintenance()
    killer = Killer(cluster, chance)
    requests = [node.request(folder, chance.randint(1, 30)) for node in nodes]
    chance.shuffle(requests)

    began = time.monotonic()
    submitted = dict(zip((request["ref"] for request in requests), cluster.client.enqueue_many(requests), strict=True))

    def ended() -> int:
        return len(set((folder / "ended").read_text().split()))

    to_run = sum(reason is not Reason.DEPENDENCY for _, reason in expected(nodes).values())
    for kill in range(1, KILLS + 1):
        goal = to_run * kill // (KILLS + 1)
        (folder / "may_end").write_text("\n" * goal)
        until(lambda goal=goal: ended() >= goal, timeout_s=2 * BOUND_S, what=f"{goal} sessions to end")  # type: ignore[misc]
        if kill % 2 == 0:
            killer.kill_shim()
        killer.kill_worker()
    (folder / "may_end").write_text("\n" * 2 * SESSIONS)

    def now() -> dict[str, Session]:
        return {ref: cluster.client.get(session.id) for ref, session in submitted.items()}

    try:
        until(lambda: ended() >= to_run, timeout_s=180, what="all to end")
    except AssertionError:
        _tell_of(now(), expected(nodes), cluster)
        raise
    until(lambda: all(session.status.is_final for session in now().values()), timeout_s=BOUND_S, what="all to be over")
    took_s = time.monotonic() - began

    stand = now()
    assert {ref: (session.status, session.reason) for ref, session in stand.items()} == expected(nodes), cluster.logs()
    interrupted = {ref for ref, session in stand.items() if str(session.id) in killer.interrupted}
    if killer.longest_absence_s > LEASE_S / 2:
        # This machine has so much else to do that workers do not start in time.
        lost = {entry.session_id for entry in _losses(cluster, stand.values())}
        interrupted |= {ref for ref, session in stand.items() if session.id in lost}
    runs = {node.ref: _read_runs(folder, node.ref) for node in nodes}
    assert not (folder / "overlaps").exists(), (folder / "overlaps").read_text()
    for node in nodes:
        _check(node, stand[node.ref], runs, was_interrupted=node.ref in interrupted)
    given_up = sum(session.reason is Reason.DEPENDENCY for session in stand.values())
    sys.stderr.write(
        f"{SESSIONS} sessions, {sum(len(node.after) + len(node.after_any) for node in nodes)} edges, {KILLS} workers"
        f" killed (without one for {killer.longest_absence_s:.0f} s at most), {len(killer.interrupted)} shims:"
        f" {took_s:.0f} s, {sum(len(each) == 1 for each in runs.values())} ran once,"
        f" {sum(len(each) > 1 for each in runs.values())} again, {given_up} given up,"
        f" {sum(session.attempt > 1 for session in stand.values())} with a further attempt\n"
    )


def _tell_of(stand: Mapping[str, Session], expected: Mapping[str, tuple[Status, Reason]], cluster: Cluster) -> None:
    """Of those that have not ended, or otherwise than they should, what has happened to them."""
    for ref, session in stand.items():
        if (session.status, session.reason) != expected[ref] and session.reason is not Reason.DEPENDENCY:
            sys.stderr.write(f"{ref}: {session}\n")
            for entry in cluster.client.history(session.id):
                sys.stderr.write(f"    {entry}\n")
    sys.stderr.write(cluster.logs())


def _losses(cluster: Cluster, sessions: Iterable[Session]) -> Iterator[HistoryEntry]:
    for session in sessions:
        if session.attempt > 1:
            yield from (entry for entry in cluster.client.history(session.id) if entry.reason is Reason.LEASE_LOST)


def _read_runs(folder: Path, ref: str) -> list[Run]:
    runs: list[Run] = []
    while (file := folder / f"{ref}.{len(runs) + 1}").exists():
        # Empty, if its shim was killed in that very moment.
        began, *ended = [int(moment) for moment in file.read_text().split()] or [file.stat().st_mtime_ns]
        runs.append(Run(began, ended[0] if ended else None))
    return runs


def _check(node: Node, session: Session, runs: Mapping[str, list[Run]], *, was_interrupted: bool) -> None:
    own = runs[node.ref]
    if session.reason is Reason.DEPENDENCY:
        assert (own, session.attempt) == ([], 0), node
        return
    # A worker that is killed makes nobody run again: the next one adopts its sessions, or their children had not begun.
    assert len(own) <= session.attempt if was_interrupted else len(own) == 1, (node, own, session)
    assert own[-1].ended is not None, (node, own)
    for ref in (*node.after, *node.after_any):
        for before in runs[ref]:
            assert (before.ended or before.began) <= own[0].began, f"{node.ref} began before {ref} had ended"
