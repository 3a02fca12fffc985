"""One run: the cluster comes up under load, is struck, is healed, drains, and is judged."""

from __future__ import annotations

import heapq
import itertools
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

import psycopg

from gsd_tasks.process.contain import marked_processes
from tests.chaos import evidence as facts
from tests.chaos.attacks import Attacker, Strike
from tests.chaos.clock import S, boot_minus_wall_ns, boot_ns
from tests.chaos.cluster import FREEZE_BOUND_S, LEASE_S, Cluster
from tests.chaos.evidence import Evidence, Row
from tests.chaos.invariants import Violation, check_causes, check_ended, check_histories, check_left, check_locks
from tests.chaos.load import Load
from tests.chaos.moments import check_moments
from tests.chaos.records import read_lives
from tests.chaos.report import Outcome
from tests.chaos.rows import check_rows
from tests.chaos.schedule import Fault, Kind, faults
from tests.chaos.timing import Mended, Silence, reaped_after_s, recoveries, taken_after_s
from tests.chaos.watch import Watch

TICK_S: Final = 0.05
WARM_S: Final = 3.0
HEAL_AGAIN_S: Final = 0.2
#: Where none of the chosen kinds can be done here, a run ends all the same.
MOST_MISSED: Final = 50
#: Sessions take up to ten seconds of work; nine run at once; what was just lost has a lease to wait for.
DRAIN_BOUND_S: Final = 120.0
#: A superseded child may stand still until the shim's own bound; after that nothing has an excuse.
CLEAR_BOUND_S: Final = LEASE_S + FREEZE_BOUND_S + 5.0


@dataclass(slots=True)
class Course:
    """What happened in a run, besides what the cluster itself knows."""

    struck: set[tuple[str, int]] = field(default_factory=set)
    killed_ns: list[int] = field(default_factory=list)
    silences: list[Silence] = field(default_factory=list)
    mended: list[Mended] = field(default_factory=list)
    done: Counter[str] = field(default_factory=Counter)
    missed: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)


class Run:
    """A block within which a cluster runs below `root`; leaving it leaves nothing, or with `keep` the folder.

    With `cables` its workers are in networks of their own. `say` is given each line for people as it comes.
    """

    def __init__(self, root: Path, seed: int, say: Callable[[str], None], *, cables: bool) -> None:
        self._seed = seed
        self._say = say
        self._began_ns = boot_ns()
        self._course = Course()
        self._heals: list[tuple[int, int, Callable[[], object]]] = []
        self._numbers = itertools.count()
        self.keep = False
        self._without = () if cables else (Kind.CABLE_CUT,)
        self._cluster = Cluster(root, self._note, cables=cables)
        self._watch = Watch(self._cluster.database_url, LEASE_S)
        self._load: Load | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._watch.stop()
        if self._load is not None:
            self._load.close()
        self._cluster.close(keep=self.keep)

    def __call__(self, count: int, kinds: Collection[Kind]) -> Outcome:
        """All of it, with so many faults that struck something."""
        self._begin()
        self._attack(count, kinds)
        self._heal()
        self._drain()
        return self._judge()

    def _begin(self) -> None:
        self._cluster.start()
        self._watch.start()
        cluster = self._cluster
        self._load = Load(cluster.client_settings(), cluster.work, cluster.records, self._seed, self._watch.seen)
        self._turn_for(WARM_S)
        self._say(f"{self._clock()} the cluster is up: {cluster.root}")

    def _attack(self, count: int, kinds: Collection[Kind]) -> None:
        attacker = Attacker(self._cluster, self._loaded, self._watch.seen, self._course.mended)
        if count == 0:
            self._turn_for(4 * WARM_S)
        schedule = faults(self._seed, kinds, self._without)
        while self._course.done.total() < count and self._course.missed.total() < MOST_MISSED + count:
            fault = next(schedule)
            self._turn_for(fault.pause_s)
            self._record(fault, attacker.strike(fault))

    def _record(self, fault: Fault, strike: Strike | None) -> None:
        if strike is None:
            self._course.missed[fault.kind] += 1
            self._say(f"{self._clock()} {fault} finds nothing")
            return
        self._course.done[fault.kind] += 1
        self._course.struck.update(strike.struck)
        if fault.kind in (Kind.WORKER_KILL, Kind.HOST_KILL):
            self._course.killed_ns.append(boot_ns())
        self._course.silences += strike.silenced
        if strike.heal is not None:
            self._heal_at(boot_ns() + int(fault.lasts_s * S), strike.heal)
        self._say(f"{self._clock()} {fault} {strike.target}")

    def _heal(self) -> None:
        """Nothing is stopped, cut or away any more."""
        self._say(f"{self._clock()} healing")
        self._cluster.heal()
        give_up_at = time.monotonic() + CLEAR_BOUND_S
        while self._heals and time.monotonic() < give_up_at:
            self._heals = [(0, number, heal) for _, number, heal in self._heals]
            self._turn_for(TICK_S, loaded=False)
        self._cluster.await_workers()

    def _drain(self) -> None:
        """What is there comes to its end, and what it left behind goes."""
        self._say(f"{self._clock()} draining")
        self._loaded.stop()
        began_ns, give_up_at = boot_ns(), time.monotonic() + DRAIN_BOUND_S
        while not self._watch.seen.is_empty_since(began_ns) and time.monotonic() < give_up_at:
            self._turn_for(0.2, loaded=False)
        give_up_at = time.monotonic() + CLEAR_BOUND_S
        while self._left() and time.monotonic() < give_up_at:
            self._turn_for(0.2, loaded=False)

    def _judge(self) -> Outcome:
        self._say(f"{self._clock()} judging")
        left = self._left()
        self._watch.stop()
        self._cluster.stop()
        seen, course = self._watch.seen, self._course
        rows = 0

        def counted(found: Iterator[Row]) -> Iterator[Row]:
            nonlocal rows
            for row in found:
                rows += 1
                yield row

        with psycopg.connect(self._cluster.database_url, autocommit=True) as connection:
            wall_to_boot_ns = boot_minus_wall_ns()
            evidence = Evidence(
                sessions=facts.read_sessions(connection),
                attempts=facts.read_attempts(connection, wall_to_boot_ns),
                history=facts.read_history(connection, wall_to_boot_ns),
                rows=counted(facts.read_rows(connection)),
                lives=read_lives(self._cluster.records),
                grants=list(seen.grants.values()),
                struck=course.struck,
                killed_ns=course.killed_ns,
                left=left,
                locks=list(seen.long_locks.values()),
            )
            violations = list(judge(evidence))
            taken = facts.read_taken(connection, wall_to_boot_ns)
        return Outcome(
            seed=self._seed,
            took_s=(boot_ns() - self._began_ns) / S,
            faults=course.done,
            missed=course.missed,
            violations=violations,
            evidence=evidence,
            recoveries=recoveries(course.silences, evidence.history, seen.steps, seen.looks_ns),
            reaped_s=reaped_after_s(evidence.attempts, evidence.grants, LEASE_S),
            taken_s=taken_after_s(course.mended, taken),
            rows=rows,
            notes=[*course.notes, *self._stops()],
            asked=self._loaded.asked,
        )

    @property
    def _loaded(self) -> Load:
        assert self._load is not None
        return self._load

    def _turn_for(self, for_s: float, *, loaded: bool = True) -> None:
        """Keep the cluster up, the load on it and the heals in time, for so long."""
        until = time.monotonic() + for_s
        while True:
            while self._heals and self._heals[0][0] <= boot_ns():
                _, _, heal = heapq.heappop(self._heals)
                if heal() is False:
                    self._heal_at(boot_ns() + int(HEAL_AGAIN_S * S), heal)
            self._cluster.tick()
            if loaded:
                self._loaded.tick()
            self._loaded.resume_tick()
            left_s = until - time.monotonic()
            if left_s <= 0:
                return
            time.sleep(min(TICK_S, left_s))

    def _heal_at(self, at_ns: int, heal: Callable[[], object]) -> None:
        heapq.heappush(self._heals, (at_ns, next(self._numbers), heal))

    def _left(self) -> list[str]:
        """Processes, shims and spools: once everything has ended there is nothing to keep them for."""
        folders = [folder for host in self._cluster.hosts for folder in host.spools()]
        ours = {folder.name for folder in folders} | self._watch.seen.steps.keys()
        marked = [one for one in marked_processes() if one.session_id in ours]
        shims = [f"shim {tree.shim.pid} of {tree.folder}" for host in self._cluster.hosts for tree in host.trees()]
        processes = [f"process {one.pid} of {one.session_id}:{one.attempt}" for one in marked]
        return [*processes, *shims, *(f"spool {folder}" for folder in folders)]

    def _stops(self) -> Iterator[str]:
        stops = [stop for worker in self._cluster.workers for stop in worker.process.stops_s]
        if stops:
            mean_s = sum(stops) / len(stops)
            yield f"{len(stops)} planned stops took {mean_s:.2f} s on average, at most {max(stops):.2f} s"

    def _note(self, text: str) -> None:
        self._course.notes.append(f"{self._clock()} {text}")
        self._say(self._course.notes[-1])

    def _clock(self) -> str:
        return f"{(boot_ns() - self._began_ns) / S:8.3f}"


def judge(evidence: Evidence) -> Iterator[Violation]:
    """Every invariant."""
    yield from check_rows(evidence)
    yield from check_moments(evidence, LEASE_S)
    yield from check_ended(evidence.sessions)
    yield from check_causes(evidence)
    yield from check_histories(evidence)
    yield from check_left(evidence)
    yield from check_locks(evidence)
