"""In any world, under any rule, what a prune leaves is what a simple model leaves; what goes on is never touched."""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

import psycopg

from gsd_tasks.domain.errors import NoSuchSession
from gsd_tasks.domain.retention import Rule
from gsd_tasks.domain.session import SessionId
from gsd_tasks.domain.state import FINAL, Status
from gsd_tasks.service.retention import Prune, foresee
from gsd_tasks.store import Database, transitions
from tests.retention.scenery import Scenery
from tests.waiting import BOUND_S

WORLDS: Final = 20
SESSIONS: Final = 25
RACE_S: Final = 2.5
NOW: Final = datetime.now(UTC)
_INSERT: Final = """
INSERT INTO sessions (id, kind, status, reason, parent_id, queue, priority, digest, command, working_dir, env, context,
                      claude, timeout_s, idle_timeout_s, max_output_bytes, on_lost, attempt, last_seq, worker_id, slot,
                      ended_at, waits)
VALUES (%s, 'command', %s, 'enqueued', %s, 'sessions', 5, '', '{true}', '/', '{}', '{}', '{}', 1, 1, 1, 'fail', 1, 2,
        gen_random_uuid(), 1, %s, %s)
"""
_ROWS: Final = """
INSERT INTO session_outputs (session_id, seq, attempt, stream, written_at, data, eol)
SELECT id, seq, 1, 'stdout', now(), 'line', true FROM sessions, generate_series(1, 2) AS seq
"""


@dataclass(frozen=True)
class Made:
    """A session of a world. `after` are those that it was to follow: to their completion, or to any end."""

    id: UUID
    status: Status
    ended_at: datetime | None
    parent: UUID | None
    waits: bool
    after: dict[UUID, str]


def make_world(chance: random.Random) -> dict[UUID, Made]:
    world: dict[UUID, Made] = {}
    for number in range(SESSIONS):
        earlier = list(world)
        status = chance.choice([*sorted(FINAL)] * 3 + [Status.QUEUED, Status.RUNNING, Status.PAUSED])
        after = {before: chance.choice(("completed", "ended")) for before in _some(chance, earlier)}
        id_ = UUID(int=1 << 90 | number + 1)
        world[id_] = Made(
            id=id_,
            status=status,
            # Some in the very same moment.
            ended_at=NOW - timedelta(days=chance.randrange(10), hours=1) if status in FINAL else None,
            parent=chance.choice(earlier) if earlier and chance.random() < 0.3 else None,
            waits=bool(after) and status is not Status.RUNNING and chance.random() < 0.5,
            after=after,
        )
    return world


def _some(chance: random.Random, of: list[UUID]) -> list[UUID]:
    return chance.sample(of, min(len(of), chance.choice((0, 0, 0, 1, 2))))


def write(url: str, world: dict[UUID, Made]) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SET session_replication_role = replica")
        connection.execute("TRUNCATE sessions, session_outputs, dependencies CASCADE")
        for made in world.values():
            connection.execute(_INSERT, (made.id, made.status, made.parent, made.ended_at, made.waits))
            for before, kind in made.after.items():
                connection.execute("INSERT INTO dependencies VALUES (%s, %s, %s)", (made.id, before, kind))
        connection.execute(_ROWS)


def left(world: dict[UUID, Made], rule: Rule) -> set[UUID]:
    """What stays, said as simply as it can be."""
    there = dict(world)
    ended = [made for made in world.values() if made.status in rule.statuses]
    newest = sorted(ended, key=lambda made: (made.ended_at, made.id), reverse=True)[: rule.keep or 0]
    oldest = NOW - timedelta(seconds=rule.older_than_s or 0)
    old = [made for made in ended if made not in newest and made.ended_at is not None and made.ended_at < oldest]

    def is_needed(made: Made) -> bool:
        for other in there.values():
            goes_on = other.status not in FINAL
            kind = other.after.get(made.id)
            is_unmet = kind == "completed" and made.status is not Status.COMPLETED
            if (kind and (goes_on or (other.waits and is_unmet))) or (other.parent == made.id and goes_on):
                return True
        return False

    while goes := [made.id for made in old if made.id in there and not is_needed(made)]:
        for id_ in goes:
            del there[id_]
    return set(there)


def test_what_stays_is_what_a_model_says(database: Database, database_url: str, scenery: Scenery) -> None:
    removed = 0
    for seed in range(WORLDS):
        chance = random.Random(seed)
        world = make_world(chance)
        rule = Rule(
            # Between two days: the clocks go on while this runs.
            older_than_s=chance.choice((None, 1.5 * 86400, 5.5 * 86400)),
            keep=chance.choice((0, 0, 3, 8)),
            statuses=frozenset(chance.sample(sorted(FINAL), chance.choice((1, 2, 3, 3)))),
        )
        write(database_url, world)
        foreseen = foresee(database, rule)

        pruned = Prune(database, rule).run()

        stays = left(world, rule)
        assert scenery.ids() == stays, f"world {seed}, {rule}"
        assert scenery.value("SELECT count(*) FROM session_outputs") == 2 * len(stays)
        assert (pruned.sessions, pruned.rows) == (len(world) - len(stays), 2 * (len(world) - len(stays)))
        assert foreseen.sessions <= pruned.sessions <= foreseen.sessions + foreseen.needed
        parents = {made.parent if made.parent in stays else None for made in world.values() if made.id in stays}
        with psycopg.connect(database_url) as connection:
            assert {row[0] for row in connection.execute("SELECT parent_id FROM sessions")} == parents
        removed += pruned.sessions
    assert removed > WORLDS * 2, "these worlds show nothing"


def test_whoever_needs_a_session_in_that_moment_has_it(database: Database, scenery: Scenery) -> None:
    """Sessions are retried, waited for, run and ended by some, while two others remove whatever has ended."""
    known = [scenery.ended(days_ago=1, succeeded=False) for _ in range(20)]
    waiting: dict[SessionId, SessionId] = {}
    queued: set[SessionId] = set()
    failures: list[BaseException] = []
    removed = [0, 0]
    # From here on: it takes its time to make those that it begins with.
    until = time.monotonic() + RACE_S

    def had_turns() -> bool:
        """Everybody; on a busy machine it goes on until then."""
        return min(len(queued), len(waiting), *removed, len(known) - 20) > 0

    def race(turn: Callable[[random.Random], None], seed: int) -> None:
        chance = random.Random(seed)
        try:
            while time.monotonic() < until or (time.monotonic() < until + BOUND_S and not had_turns()):
                turn(chance)
        except BaseException as error:  # noqa: BLE001 (told to the test)
            failures.append(error)

    def retry(chance: random.Random) -> None:
        id_ = chance.choice(known)
        with database.connection() as connection:
            if transitions.retry(connection, id_):
                queued.add(id_)

    def follow(chance: random.Random) -> None:
        before = chance.choice(known)
        with contextlib.suppress(NoSuchSession):
            waiting[scenery.queued(after=(before,))] = before

    def end(chance: random.Random) -> None:
        known.append(scenery.ended(days_ago=1, succeeded=chance.random() < 0.3))

    def remove(place: int) -> Callable[[random.Random], None]:
        def turn(_: random.Random) -> None:
            removed[place] += Prune(database, Rule(keep=0)).run().sessions

        return turn

    turns = [retry, follow, end, remove(0), remove(1)]
    threads = [threading.Thread(target=race, args=(turn, seed)) for seed, turn in enumerate(turns)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert failures == []
    there = scenery.ids()
    assert queued <= there
    assert {*waiting, *waiting.values()} <= there
    edges = scenery.value("SELECT count(*) FROM dependencies")
    assert edges == len(waiting)
    assert had_turns()
