"""Who counts as silent, on whose clock, and what stands in the way of a recovery."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any
from uuid import UUID

import psycopg
import pytest
from sqlalchemy import text
from structlog.testing import capture_logs

from gsd_tasks.domain.errors import DatabaseUnavailable
from gsd_tasks.domain.recovery import Recovery
from gsd_tasks.domain.session import SessionId, WorkerId, WorkerStatus
from gsd_tasks.service.reap import Reaper
from gsd_tasks.store import Claim, Database, history, leases, nodes
from gsd_tasks.store.database import worker_name
from gsd_tasks.store.holding import Recovered
from tests.waiting import until

LEASE_S = 30
HEARTBEAT_S = 5
LOOK_S = 10


class Clock:
    """The reaper's own clock, moved by hand."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


class Watch:
    """A reaper, and sweeps as they come in the course of time."""

    def __init__(self, database: Database) -> None:
        self.clock = Clock()
        self.database = database
        self.reaper = Reaper(lease_s=LEASE_S, clock=self.clock)

    def sweep(self) -> list[SessionId]:
        return ids_of(self.reaper.sweep(self.database))

    def for_s(self, seconds: float, *, every_s: float = LOOK_S) -> list[SessionId]:
        """Sweep every so often; what was recovered in that time."""
        end, recovered = self.clock.now + seconds, self.sweep()
        while self.clock.now < end:
            self.clock.now = min(self.clock.now + every_s, end)
            recovered += self.sweep()
        return recovered


def ids_of(recovered: Recovered) -> list[SessionId]:
    return [*recovered.requeued, *recovered.failed, *recovered.cancelled, *recovered.paused]


@pytest.fixture
def watch(database: Database) -> Watch:
    return Watch(database)


@pytest.fixture
def renew(database: Database) -> Callable[[Claim], bool]:
    def renew(held: Claim) -> bool:
        with database.connection() as connection:
            return leases.renew(connection, held, lease_s=LEASE_S) is not None

    return renew


def step_clock(database: Database, seconds: float) -> None:
    """As if the database's clock had been set forward by so much: what was written before lies so much longer ago."""
    with database.connection() as connection:
        connection.execute(text(f"UPDATE leases SET expires_at = expires_at - make_interval(secs => {seconds})"))


def expire(database: Database) -> None:
    step_clock(database, LEASE_S + 1)


def events(database: Database, cursor: history.Cursor) -> list[Recovery]:
    with database.connection() as connection:
        happened, _ = history.read(connection, cursor, limit=100)
    return [one for _, one in happened if isinstance(one, Recovery)]


def now(database: Database) -> history.Cursor:
    with database.connection() as connection:
        return history.now(connection)


def test_an_expired_lease_is_recovered_when_it_has_stood_still_for_its_whole_length(
    database: Database, claim: Callable[..., Claim], watch: Watch
) -> None:
    held = claim()
    expire(database)
    assert watch.for_s(LEASE_S - 0.1) == []
    assert watch.for_s(0.1) == [held.session.id]


def test_what_is_watched_between_sweeps_is_due_the_sooner(
    database: Database, claim: Callable[..., Claim], watch: Watch
) -> None:
    watch.sweep()
    held = claim()
    expire(database)
    watch.clock.now += 2
    watch.reaper.watch(database)
    assert watch.reaper.looked_at == watch.clock.now
    assert watch.reaper.due_at == watch.clock.now + LEASE_S
    watch.clock.now += LOOK_S - 2
    assert watch.for_s(LEASE_S - LOOK_S + 1.9) == []
    assert watch.for_s(0.1) == [held.session.id]


def test_who_watches_in_vain_begins_anew(database: Database, claim: Callable[..., Claim], watch: Watch) -> None:
    held = claim()
    expire(database)
    watch.for_s(LEASE_S - 1)
    with pytest.raises(DatabaseUnavailable):
        watch.reaper.watch(Database("postgresql://nobody@127.0.0.1:1/nothing"))
    assert watch.for_s(LEASE_S - 1) == []
    assert watch.for_s(1) == [held.session.id]


def test_after_an_outage_every_holder_has_a_whole_lease_to_come_back(
    database: Database, claim: Callable[..., Claim], watch: Watch, renew: Callable[[Claim], bool]
) -> None:
    """It was not seen to renew for a while before either; the time without a database does not count."""
    held = claim()
    watch.for_s(LEASE_S - 1)
    nowhere = Database("postgresql://nobody@127.0.0.1:1/nothing")
    for _ in range(9):
        watch.clock.now += LOOK_S
        with pytest.raises(DatabaseUnavailable):
            watch.reaper.sweep(nowhere)
    expire(database)
    assert watch.for_s(LEASE_S - 1) == []
    assert renew(held)
    assert watch.for_s(LEASE_S - 1) == []


def test_a_pause_of_the_reaper_itself_counts_for_half_a_lease(
    database: Database, claim: Callable[..., Claim], watch: Watch
) -> None:
    """This whole machine may have stood still, workers and all."""
    held = claim()
    expire(database)
    watch.sweep()
    watch.clock.now += 100 * LEASE_S
    assert watch.for_s(LEASE_S / 2 - 1) == []
    assert watch.for_s(1) == [held.session.id]


@pytest.mark.parametrize("step_s", [3600, -3600])
def test_a_step_of_the_databases_clock_costs_no_live_holder_its_session(
    database: Database, claim: Callable[..., Claim], watch: Watch, renew: Callable[[Claim], bool], step_s: float
) -> None:
    held = claim()
    for beat in range(12):
        if beat == 6:
            step_clock(database, step_s)
        assert watch.for_s(HEARTBEAT_S) == []
        assert renew(held)


def test_a_clock_set_forward_leaves_every_holder_a_whole_lease(
    database: Database, claim: Callable[..., Claim], watch: Watch, renew: Callable[[Claim], bool]
) -> None:
    """All have expired at once; one that could not renew for a while comes back in time."""
    held = claim()
    watch.sweep()
    assert renew(held)
    step_clock(database, 3600)
    assert watch.for_s(LEASE_S - 1) == []
    assert renew(held)


def test_a_clock_set_back_keeps_no_dead_holder_for_longer_than_two_leases(
    database: Database, claim: Callable[..., Claim], watch: Watch
) -> None:
    held = claim()
    step_clock(database, -3600)
    assert watch.for_s(2 * LEASE_S - 0.1) == []
    assert watch.for_s(0.1) == [held.session.id]


def test_the_reaper_says_when_the_next_lease_is_due(
    database: Database, claim: Callable[..., Claim], watch: Watch, renew: Callable[[Claim], bool]
) -> None:
    """So that a recovery need not wait for the next tick, which may come just before its time."""
    held = claim()
    watch.for_s(LOOK_S)
    assert watch.reaper.due_at == LEASE_S
    assert renew(held)
    watch.sweep()
    assert watch.reaper.due_at == LOOK_S + LEASE_S
    expire(database)
    assert watch.for_s(LEASE_S) == [held.session.id]
    watch.sweep()
    assert watch.reaper.due_at == float("inf")


def test_all_that_is_silent_is_recovered_by_one_statement_and_told_in_one_line(
    database: Database, claim: Callable[..., Claim], watch: Watch
) -> None:
    held = [claim(slot=slot).session.id for slot in (1, 2, 3)]
    expire(database)
    cursor = now(database)
    with capture_logs() as logs:
        watch.for_s(LEASE_S)
    (event,) = events(database, cursor)
    assert sorted(event.session_ids) == sorted(held)
    (line,) = [line for line in logs if line["event"] == "recovered"]
    assert sorted(line["requeued"]) == sorted(map(str, held))


def test_two_reapers_at_once_recover_each_session_once(database: Database, claim: Callable[..., Claim]) -> None:
    """They see the same silent leases at the same time: whoever comes first recovers, and one event names it."""
    for _ in range(10):
        held = sorted(claim(slot=slot).session.id for slot in (1, 2, 3))
        expire(database)
        watches = [Watch(database), Watch(database)]
        for watch in watches:
            assert watch.for_s(LEASE_S - LOOK_S) == []
            watch.clock.now += LOOK_S
        cursor = now(database)
        recovered = [session_id for found in _at_once(watches) for session_id in found]
        assert sorted(recovered) == held
        assert sorted(session_id for event in events(database, cursor) for session_id in event.session_ids) == held


def test_two_reapers_at_once_make_one_event_of_one_session(database: Database, claim: Callable[..., Claim]) -> None:
    for _ in range(10):
        claim()
        expire(database)
        watches = [Watch(database), Watch(database)]
        for watch in watches:
            watch.for_s(LEASE_S - LOOK_S)
            watch.clock.now += LOOK_S
        cursor = now(database)
        _at_once(watches)
        assert len(events(database, cursor)) == 1


def _at_once(watches: Sequence[Watch]) -> list[list[SessionId]]:
    found: list[list[SessionId]] = []
    begin = threading.Barrier(len(watches))

    def sweep(watch: Watch) -> None:
        begin.wait()
        found.append(watch.sweep())

    threads = [threading.Thread(target=sweep, args=(watch,)) for watch in watches]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == len(watches)
    return found


class Locked:
    """A session whose rows somebody has locked in a transaction that stays open."""

    def __init__(self, url: str, session_id: SessionId, *, application: str, table: str = "leases") -> None:
        self.connection = psycopg.connect(url, application_name=application)
        column = "id" if table == "sessions" else "session_id"
        self.connection.execute(f"SELECT 1 FROM {table} WHERE {column} = %s FOR UPDATE", [session_id])
        self.pid = self.connection.info.backend_pid

    @property
    def is_alive(self) -> bool:
        try:
            self.connection.execute("SELECT 1")
        except psycopg.OperationalError:
            return False
        return True


@pytest.fixture
def lock(database_url: str) -> Iterator[Callable[..., Locked]]:
    opened: list[Locked] = []

    def lock(session_id: SessionId, *, application: str, table: str = "leases") -> Locked:
        opened.append(Locked(database_url, session_id, application=application, table=table))
        return opened[-1]

    yield lock
    for one in opened:
        one.connection.close()


#: Of reapers that must see a transaction grow older than a lease, in earnest.
SHORT_S = 0.3


def _waits(reaper: Reaper, database: Database) -> list[Any]:
    """What is told of the lock that a recovery waits for, by sweeps that recover nothing."""
    told: list[Any] = []
    with capture_logs() as logs:
        while not told:
            # On a busy machine sweeps may come too seldom to watch a lease by.
            end = time.monotonic() + 3 * SHORT_S
            while time.monotonic() < end:
                assert ids_of(reaper.sweep(database)) == []
            told = [line for line in logs if line["event"] == "a recovery waits for a lock"]
    return told


@pytest.mark.parametrize("table", ["leases", "sessions", "attempts"])
def test_a_connection_of_the_silent_worker_that_holds_a_lock_is_ended(
    database: Database, claim: Callable[..., Claim], lock: Callable[..., Locked], worker: WorkerId, table: str
) -> None:
    held = claim()
    expire(database)
    locked = lock(held.session.id, application=worker_name(worker), table=table)
    reaper = Reaper(lease_s=SHORT_S)
    with capture_logs() as logs:
        until(lambda: ids_of(reaper.sweep(database)) == [held.session.id], what="the recovery")
    assert not locked.is_alive
    (line,) = [line for line in logs if line["event"].startswith("ended")]
    assert (line["pid"], line["session"]) == (locked.pid, str(held.session.id))


def test_what_it_has_in_hand_for_less_than_a_lease_is_left_to_it(
    database: Database, claim: Callable[..., Claim], lock: Callable[..., Locked], worker: WorkerId, watch: Watch
) -> None:
    held = claim()
    expire(database)
    locked = lock(held.session.id, application=worker_name(worker))
    assert watch.for_s(LEASE_S) == []
    assert locked.is_alive
    locked.connection.rollback()
    assert watch.sweep() == [held.session.id]


@pytest.mark.parametrize("application", ["psql", "gsd-tasks", worker_name(UUID(int=7))])
def test_somebody_elses_connection_is_named_and_left_alone(
    database: Database, claim: Callable[..., Claim], lock: Callable[..., Locked], application: str
) -> None:
    """That of another worker too: it is not the holder's."""
    held = claim()
    expire(database)
    locked = lock(held.session.id, application=application)
    reaper = Reaper(lease_s=SHORT_S)
    told = _waits(reaper, database)
    assert locked.is_alive
    assert (told[0]["pid"], told[0]["application"]) == (locked.pid, application)
    assert told[0]["session"] == str(held.session.id)
    locked.connection.rollback()
    until(lambda: ids_of(reaper.sweep(database)) == [held.session.id], what="the recovery")


def test_who_only_waits_for_the_lock_too_is_not_taken_for_its_holder(
    database: Database, claim: Callable[..., Claim], lock: Callable[..., Locked], worker: WorkerId
) -> None:
    """A renewal of the silent worker that stands before the reaper in the queue for somebody else's lock."""
    held = claim()
    expire(database)
    locked = lock(held.session.id, application="psql")
    url = database.engine.url.render_as_string(hide_password=False)
    pid: list[int] = []

    def wait(workers_own: Database) -> None:
        with workers_own.connection() as connection:
            pid.append(connection.execute(text("SELECT pg_backend_pid()")).scalar_one())
            leases.renew(connection, held, lease_s=LEASE_S)

    with closing(Database(url, connections=1, name=worker_name(worker))) as workers_own, ThreadPoolExecutor(1) as pool:
        waiter = pool.submit(wait, workers_own)
        try:
            until(lambda: pid)
            told = _waits(Reaper(lease_s=SHORT_S), database)
            assert {line["pid"] for line in told} == {locked.pid}
            assert not waiter.done()
        finally:
            locked.connection.rollback()


def test_one_lock_holds_up_no_other_recovery(
    database: Database, claim: Callable[..., Claim], lock: Callable[..., Locked], watch: Watch
) -> None:
    blocked, free = claim(slot=1), claim(slot=2)
    expire(database)
    lock(blocked.session.id, application="psql")
    assert watch.for_s(LEASE_S) == [free.session.id]


def _status(database: Database, worker: WorkerId, *, silent_after_s: float = 3600) -> WorkerStatus:
    with database.connection() as connection:
        (found,) = [one for one in nodes.listed(connection, silent_after_s=silent_after_s) if one.id == worker]
    return found.status


def test_a_worker_that_is_silent_for_a_lease_has_gone_until_it_comes_back(
    database: Database, worker: WorkerId, watch: Watch
) -> None:
    """On the reaper's own clock: the database's may have been set to anything."""
    with database.connection() as connection:
        connection.execute(text("UPDATE workers SET seen_at = seen_at + interval '1 hour'"))
    watch.for_s(LEASE_S - 1)
    assert _status(database, worker) is WorkerStatus.ALIVE
    watch.for_s(1)
    assert _status(database, worker) is WorkerStatus.GONE
    with database.connection() as connection:
        nodes.seen(connection, worker, WorkerStatus.ALIVE)
    watch.for_s(LEASE_S - 1)
    assert _status(database, worker) is WorkerStatus.ALIVE


@pytest.mark.parametrize(
    ("said", "shown"), [(WorkerStatus.STOPPING, WorkerStatus.GONE), (WorkerStatus.STOPPED, WorkerStatus.STOPPED)]
)
def test_a_worker_that_has_said_that_it_stops_is_not_gone_once_it_has(
    database: Database, worker: WorkerId, watch: Watch, said: WorkerStatus, shown: WorkerStatus
) -> None:
    with database.connection() as connection:
        nodes.seen(connection, worker, said)
    watch.for_s(LEASE_S)
    assert _status(database, worker) is shown


def test_what_has_moved_is_in_another_state(
    database: Database, claim: Callable[..., Claim], worker: WorkerId, renew: Callable[[Claim], bool]
) -> None:
    renewed, still = claim(slot=1), claim(slot=2)
    with database.connection() as connection:
        before, spoken = leases.states(connection), nodes.states(connection)
        assert renew(renewed)
        nodes.seen(connection, worker, WorkerStatus.ALIVE)
        (unmoved,) = leases.held_still(connection, before)
        after = leases.states(connection)
        (spoken_again,) = nodes.states(connection)
    assert unmoved.session_id == still.session.id
    assert set(before) & set(after) == {unmoved.state}
    assert [spoken_again] != spoken


def test_nothing_has_no_state(database: Database) -> None:
    with database.connection() as connection:
        assert leases.states(connection) == nodes.states(connection) == []


def test_a_worker_that_speaks_while_it_is_marked_is_not_gone(database: Database, worker: WorkerId) -> None:
    with database.connection() as connection:
        seen = nodes.states(connection)
        nodes.seen(connection, worker, WorkerStatus.ALIVE)
        assert nodes.mark_gone(connection, seen) == []
    assert _status(database, worker) is WorkerStatus.ALIVE


def test_a_silent_worker_is_listed_as_gone_before_any_reaper_has_looked(database: Database, worker: WorkerId) -> None:
    with database.connection() as connection:
        connection.execute(text("UPDATE workers SET seen_at = now() - interval '1 minute'"))
    assert _status(database, worker, silent_after_s=20) is WorkerStatus.GONE
