"""What waits for others, while threads with connections of their own enqueue, claim, end, cancel, retry and delete.

`GSD_TEST_RACE_S` races for longer.
"""

from __future__ import annotations

import os
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Final
from uuid import uuid4

import psycopg
import pytest
from sqlalchemy import text

from gsd_tasks.domain.errors import InvalidValue, NoSuchSession, NotAllowed
from gsd_tasks.domain.graph import Item, Ref
from gsd_tasks.domain.policy import Ending, decide
from gsd_tasks.domain.session import Holder, OnLost, Session, SessionId, Submission, WorkerId
from gsd_tasks.domain.state import FINAL, Reason, Status, Wanted
from gsd_tasks.service import control, dependencies, submit
from gsd_tasks.service.graph import submit_many
from gsd_tasks.store import Database, transitions
from gsd_tasks.store import dependencies as edges
from tests.property import evidence
from tests.service.messages import Broker
from tests.store.locks import waiting_for_a_lock
from tests.waiting import until
from tests.workers import register_worker

RACE_S: Final = float(os.environ.get("GSD_TEST_RACE_S", "3"))
ROUNDS: Final = 25
#: What has to have happened at least once, or nothing is shown. On a busy machine the race goes on until it has.
HAPPENS: Final = frozenset({"enqueued", "ran", "cancelled", "retried", "deleted"})
PATIENCE_S: Final = 60
#: Sessions among which a thread chooses: the newest.
AT_HAND: Final = 30
DONE: Final = Ending(reason=Reason.FINISHED, succeeded=True, exit_code=0)
FAILED: Final = Ending(reason=Reason.EXIT_CODE, exit_code=3)
CANCELLED: Final = Ending(reason=Reason.CANCELLED, detail="it was told to end")


def request(*after: SessionId, any_: tuple[SessionId, ...] = (), **fields: Any) -> Submission:
    return Submission(command=("true",), working_dir="/", after=after, after_any=any_, **fields)


@pytest.fixture
def broker() -> Broker:
    return Broker()


@pytest.fixture
def wide(database_url: str) -> Iterator[Database]:
    """With a connection for each thread."""
    database = Database(database_url, connections=16)
    yield database
    database.close()


class Worker:
    """Claims and ends sessions as a slot does, without a child."""

    def __init__(self, database: Database, broker: Broker) -> None:
        self._database = database
        self._broker = broker
        with database.connection() as connection:
            self._id: WorkerId = register_worker(connection, "gsd@race")

    def end(self, session_id: SessionId, ending: Ending = DONE) -> bool:
        """Run it, and see to what waits for it. False: it is not to be claimed."""
        with self._database.connection() as connection:
            claim = transitions.claim(
                connection, session_id, holder=Holder(uuid4()), worker_id=self._id, slot=1, lease_s=30
            )
            if claim is None:
                return False
            wanted: Wanted | None = None
            while not transitions.settle(
                connection,
                claim,
                decide(ending if wanted is None else CANCELLED, wanted=wanted, on_lost=OnLost.FAIL),
            ):
                wanted = Wanted.CANCEL
        dependencies.resolve(self._database, self._broker, [session_id])
        return True


@pytest.fixture
def worker(wide: Database, broker: Broker) -> Callable[[], Worker]:
    return lambda: Worker(wide, broker)


Now = Callable[[SessionId], Session]


def at_once(*doing: Callable[[], Any]) -> list[Any]:
    """What each gives, of threads that begin together."""
    line_up = threading.Barrier(len(doing))

    def begin(do: Callable[[], Any]) -> Any:
        line_up.wait()
        return do()

    with ThreadPoolExecutor(len(doing)) as pool:
        return list(pool.map(begin, doing))


def after(seconds: float, do: Callable[..., Any], *args: Any) -> Any:
    time.sleep(seconds)
    return do(*args)


def cancel(database: Database, broker: Broker, session_id: SessionId) -> Session:
    """As the client does it."""
    session = control.cancel(database, session_id)
    if session.status.is_final:
        dependencies.resolve(database, broker, [session_id])
    return session


@pytest.mark.parametrize(("ending", "becomes"), [(DONE, Status.QUEUED), (FAILED, Status.FAILED)])
def test_one_that_ends_while_its_follower_is_enqueued_is_seen_without_a_sweep(
    wide: Database, broker: Broker, worker: Callable[[], Worker], now: Now, ending: Ending, becomes: Status
) -> None:
    ends = worker()
    for number in range(ROUNDS):
        first = submit.submit(wide, broker, request())
        # Now the one comes first, and now the other.
        later_s = number * 0.001
        _, last, [graph] = at_once(
            partial(ends.end, first.id, ending),
            partial(after, later_s, submit.submit, wide, broker, request(first.id)),
            partial(after, later_s, submit_many, wide, broker, [Item(request=request(), after=(first.id,))]),
        )
        for follower in (now(last.id), now(graph.id)):
            assert (follower.status, follower.status.is_final or not follower.waits) == (becomes, True)
            # One message too many does nothing.
            assert (follower.id in broker.sent) == (becomes is Status.QUEUED)


@pytest.mark.parametrize(("ending", "becomes"), [(DONE, Status.QUEUED), (FAILED, Status.FAILED)])
def test_one_that_ends_before_a_graph_is_committed_is_seen_after_that(
    wide: Database,
    broker: Broker,
    worker: Callable[[], Worker],
    monkeypatch: pytest.MonkeyPatch,
    ending: Ending,
    becomes: Status,
) -> None:
    first = submit.submit(wide, broker, request())
    add = edges.add

    def add_late(*args: Any) -> None:
        add(*args)
        # Everything is written, and nobody else sees it.
        assert worker().end(first.id, ending)

    monkeypatch.setattr(edges, "add", add_late)
    [last] = submit_many(wide, broker, [Item(request=request(), after=(first.id,))])
    assert last.status is becomes
    assert broker.sent.count(last.id) == (becomes is Status.QUEUED)


def test_of_two_that_end_at_once_exactly_one_wakes_what_follows_both(
    wide: Database, broker: Broker, worker: Callable[[], Worker], now: Now
) -> None:
    one, other = worker(), worker()
    for _ in range(ROUNDS):
        first, second = (submit.submit(wide, broker, request()) for _ in range(2))
        last = submit.submit(wide, broker, request(first.id, second.id))
        assert at_once(partial(one.end, first.id), partial(other.end, second.id)) == [True, True]
        assert not now(last.id).waits
        assert broker.sent.count(last.id) == 1


def test_a_cancel_in_the_moment_of_the_claim_cancels_all_that_waits_or_nothing(
    wide: Database, broker: Broker, worker: Callable[[], Worker], now: Now
) -> None:
    ends = worker()
    for _ in range(ROUNDS):
        first = submit.submit(wide, broker, request())
        chain = [first]
        for _ in range(3):
            chain.append(submit.submit(wide, broker, request(chain[-1].id)))
        at_once(partial(ends.end, first.id), partial(cancel, wide, broker, first.id))
        head, second, *rest = (now(session.id) for session in chain)
        if head.status is Status.CANCELLED:
            assert {session.status for session in (second, *rest)} == {Status.CANCELLED}
        else:
            assert (head.status, second.status, second.waits) == (Status.COMPLETED, Status.QUEUED, False)
            assert all(session.waits for session in rest)


def test_those_that_belong_together_can_be_deleted_at_once(
    wide: Database, database_url: str, broker: Broker, worker: Callable[[], Worker]
) -> None:
    first = submit.submit(wide, broker, request())
    last = submit.submit(wide, broker, request(first.id, parent_id=first.id))
    assert all(worker().end(session.id) for session in (first, last))
    with psycopg.connect(database_url) as other, ThreadPoolExecutor(1) as pool:
        # What the deletion of the first one does, step by step; the other one is to be told that they are stuck.
        other.execute("SET deadlock_timeout = '30s'")
        other.execute("DELETE FROM dependencies WHERE before_id = %s", (first.id,))
        deleted = pool.submit(control.delete, wide, last.id)
        until(lambda: waiting_for_a_lock(database_url), what="the deletion to wait")
        other.execute("UPDATE sessions SET parent_id = NULL WHERE parent_id = %s", (first.id,))
        other.commit()
        assert deleted.result() == last.id


class Race:
    """All threads: what each may do, at random, until the time is over."""

    def __init__(self, database: Database, broker: Broker, seed: int) -> None:
        self._database = database
        self._broker = broker
        self._seed = seed
        self._ends_at = time.monotonic() + RACE_S
        self.sessions: list[SessionId] = []
        self.done: Counter[str] = Counter()
        self.errors: list[BaseException] = []

    def run(self) -> None:
        acting = [*[self._produce] * 3, *[self._work] * 4, *[self._meddle] * 3, *[self._sweep] * 2]
        threads = [
            threading.Thread(target=self._act, args=(act, random.Random(self._seed + number)))
            for number, act in enumerate(acting)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _act(self, act: Callable[[random.Random, Worker], None], chance: random.Random) -> None:
        worker = Worker(self._database, self._broker)
        try:
            while self._goes_on():
                act(chance, worker)
        except Exception as error:  # noqa: BLE001  (whatever it is, it is what the test looks for)
            self.errors.append(error)

    def _goes_on(self) -> bool:
        late_s = time.monotonic() - self._ends_at
        return not self.errors and (late_s < 0 or (late_s < PATIENCE_S and not self.was_worth_it))

    @property
    def was_worth_it(self) -> bool:
        return all(self.done[what] for what in HAPPENS)

    def _some(self, chance: random.Random) -> SessionId | None:
        return chance.choice(self.sessions[-AT_HAND:]) if self.sessions else None

    def _produce(self, chance: random.Random, _: Worker) -> None:
        """Graphs that overlap: by keys that others use at the same time, and by what there is."""
        size = chance.randint(1, 6)
        keys = chance.sample(range(12), size)
        epoch = len(self.sessions) // 200
        items = []
        for number in range(size):
            known = [session_id for _ in range(2) if (session_id := self._some(chance))]
            refs: list[Any] = [Ref(f"n{other}") for other in range(number)]
            before = set(chance.sample([*refs, *known], chance.randint(0, len(refs) + len(known))))
            any_ = {each for each in before if chance.random() < 0.3}
            parent = chance.choice([None, *before]) if before else None
            key = f"{epoch} {keys[number]}" if not before and chance.random() < 0.7 else None
            items.append(
                Item(
                    request=request(key=key),
                    ref=f"n{number}",
                    parent=parent,
                    after=tuple(before - any_),
                    after_any=tuple(any_),
                )
            )
        chance.shuffle(items)
        try:
            if chance.random() < 0.8:
                made = submit_many(self._database, self._broker, items)
            else:
                some = self._some(chance)
                made = [submit.submit(self._database, self._broker, request(*([some] if some else [])))]
        except (NoSuchSession, InvalidValue):
            # It is gone; or one known by its key is the same as one known by its id, and would be followed twice.
            self.done["refused"] += 1
            return
        self.sessions += [session.id for session in made]
        self.done["enqueued"] += len(made)

    def _work(self, chance: random.Random, worker: Worker) -> None:
        for some in chance.sample(at_hand := self.sessions[-AT_HAND:], min(5, len(at_hand))):
            self.done["ran"] += worker.end(some, DONE if chance.random() < 0.8 else FAILED)

    def _meddle(self, chance: random.Random, _: Worker) -> None:
        some = self._some(chance)
        if some is None:
            return
        database, broker = self._database, self._broker
        doing: dict[str, Callable[[], object]] = {
            "cancelled": lambda: cancel(database, broker, some),
            "paused": lambda: control.pause(database, some),
            "resumed": lambda: control.resume(database, broker, some),
            "retried": lambda: control.retry(database, broker, some),
            "deleted": lambda: control.delete(database, some),
        }
        what = chance.choices(list(doing), [1, 1, 3, 4, 3])[0]
        try:
            doing[what]()
            self.done[what] += 1
        except (NotAllowed, NoSuchSession):
            pass

    def _sweep(self, chance: random.Random, _: Worker) -> None:
        self.done["swept"] += len(dependencies.resolve(self._database, self._broker))
        time.sleep(chance.random() * 0.02)

    def finish(self) -> None:
        """All that are still there, until nothing is left to do."""
        worker = Worker(self._database, self._broker)
        for session_id in self._queued(Status.PAUSED):
            control.resume(self._database, self._broker, session_id)
        while left := self._queued(Status.QUEUED):
            before = len(left)
            dependencies.resolve(self._database, self._broker)
            ran = sum(worker.end(session_id) for session_id in left)
            assert ran or len(self._queued(Status.QUEUED)) < before, "they wait for each other"

    def _queued(self, status: Status) -> list[SessionId]:
        with self._database.connection() as connection:
            found = connection.execute(text("SELECT id FROM sessions WHERE status = :status"), {"status": status})
            return [SessionId(session_id) for session_id in found.scalars()]


@pytest.mark.timeout(300 + 3 * RACE_S)
def test_graphs_that_overlap_neither_deadlock_nor_run_out_of_order_whatever_is_done_to_them(
    wide: Database, broker: Broker
) -> None:
    race = Race(wide, broker, random.randrange(10**6))
    race.run()
    if race.errors:
        raise race.errors[0]
    race.finish()
    with wide.connection() as connection:
        there_is = evidence.read(connection)
    assert evidence.violations(there_is) == []
    assert {session["status"] for session in there_is.sessions.values()} <= FINAL
    sys.stderr.write(f"{race.done}\n")
    assert race.was_worth_it
