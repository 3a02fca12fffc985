"""No statement of a worker, the reaper, the re-publisher or `ps` reads more as ended sessions pile up.

Each statement is carried out for real, and Postgres tells how (`auto_explain`). A prepared statement may be planned
for its values or once for all values, and statistics may be those of an hour when nothing waited: all four are tried.
`PLANS_SESSIONS=1000000` takes more than the usual 200,000.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple
from uuid import uuid4

import psycopg
import pytest

from gsd_tasks.domain.claude_results import Tokens
from gsd_tasks.domain.costs import Turn
from gsd_tasks.domain.policy import Ending, decide
from gsd_tasks.domain.session import Holder, OnLost, SessionId, Stream, Submission, WorkerId
from gsd_tasks.domain.state import Reason, Status, Wanted
from gsd_tasks.domain.statistics import By
from gsd_tasks.domain.transcript import Entry
from gsd_tasks.local.embedded import EmbeddedServers
from gsd_tasks.store import (
    Claim,
    Connection,
    Database,
    adoption,
    dependencies,
    expiry,
    heads,
    history,
    kin,
    leases,
    load,
    messages,
    outputs,
    sessions,
    statistics,
    tallies,
    transcript,
    transitions,
    turns,
)
from gsd_tasks.store.holding import Held
from gsd_tasks.store.leases import Progress
from gsd_tasks.store.transitions import New
from tests.databases import own_database
from tests.store import filling
from tests.store.filling import LARGE, QUEUED, RUNNING, session_id
from tests.store.plans import MODES, explained, statements

ENDED: Final = int(os.environ.get("PLANS_SESSIONS", "200000"))
FILLED: Final = filling.numbers(ENDED)
REQUEST: Final = Submission(command=("true",), working_dir="/", key="a key")
BATCH_ROWS: Final = 100
LATELY: Final = 1000
SINCE: Final = filling.moment(ENDED - LATELY + 20)
TURN: Final = Turn(
    seq=1,
    model=None,
    subtype="success",
    is_error=False,
    num_turns=1,
    duration_s=1,
    tokens=Tokens(1, 1, 1, 1),
    cost_usd=1,
    models={},
)
PAGE_ROWS: Final = 50
NOW: Final = "of now"
#: A queue that nothing was ever in.
NOBODYS: Final = "nobody's"
#: Of sessions that come every 100 ms, no more than the test's own page of ids lies within a day: all of them do.
OF_A_DAY: Final = min(ENDED, 864_000)
MANY: Final = 100


class Scene(NamedTuple):
    """What statements are tried on."""

    statistics: str
    database: Database
    held: list[Held]
    claim: Claim
    waiting: SessionId
    all: history.Cursor  # a window with all that has happened, read to its middle
    lately: history.Cursor
    old: history.Cursor  # a window of long ago, of which a few entries are left


class Case(NamedTuple):
    """A statement, how many rows of the large tables it may look at, and an index that is meant to find them.

    `alone`: an index that is meant to be read without any row, once the statistics know what there is.
    """

    rows: int
    run: Callable[[Connection, Scene], Any]
    by: str | None = None
    alone: str | None = None


def batch() -> outputs.Batch:
    batch = outputs.Batch()
    for _ in range(BATCH_ROWS):
        batch.add(Stream.STDOUT, datetime.now(UTC), b"line", eol=True)
    return batch


def entries() -> transcript.Entries:
    entries = transcript.Entries()
    entries.add(0, Entry("user", None), "{}")
    return entries


def names(scene: Scene) -> list[tallies.Named]:
    return [tallies.name(held.session_id, 1) for held in scene.held]


def as_claude(connection: Connection, session_id: SessionId) -> SessionId:
    change = "UPDATE sessions SET kind = 'claude', prompt = 'Work', command = NULL WHERE id = %(id)s"
    connection.exec_driver_sql(change, {"id": session_id})
    return session_id


def add_edge(connection: Connection, scene: Scene) -> bool:
    dependencies.add(connection, [(scene.waiting, replace(REQUEST, after=(session_id(2),)))])
    return True


def lock_keys(connection: Connection, _: Scene) -> bool:
    sessions.lock_keys(connection)
    return True


def renew_several(connection: Connection, claims: list[Claim]) -> set[Holder]:
    return set(leases.renew_several(connection, claims, lease_s=30, spooled_bytes=[0] * len(claims)))


def many() -> list[New]:
    return [New(SessionId(uuid4()), b"", replace(REQUEST, key=None, parent_id=session_id(2))) for _ in range(MANY)]


def listed(chosen: sessions.Chosen | None = None, before: SessionId | None = None, by: str | None = None) -> Case:
    chosen = chosen or sessions.Chosen()
    statuses = chosen.statuses or (tuple(Status) if chosen.is_by_status else ())
    # Each status has a page's worth of ids, and a page is read of them, with what each of them was to follow.
    rows = PAGE_ROWS * (2 * len(statuses) + 2)
    if before is not None:
        # A plan for all values does not know how few ids come before this one, and passes over some.
        rows += 3 * PAGE_ROWS
    if Status.QUEUED in statuses:
        # Where the statistics know of none, their own index is as good as the one that is in order.
        rows += QUEUED
    if chosen.until is not None:
        # What was enqueued in the day after it is passed over.
        rows += 2 * OF_A_DAY
    found_none = chosen.queue == NOBODYS
    return Case(rows, lambda c, s: found_none == (not sessions.listed(c, chosen, before=before, limit=PAGE_ROWS)), by)


def looked_back(by: By | None) -> Case:
    return Case(2 * LATELY, lambda c, s: statistics.since(c, SINCE, by).total.sessions)


DONE: Final = decide(Ending(reason=Reason.FINISHED, succeeded=True, exit_code=0), wanted=None, on_lost=OnLost.FAIL)
#: How many of each queue are looked at more closely, with those that are passed over before, and what belongs to each.
FIRST_ONES: Final = 4 * load.OLDEST * 8
QUEUED_INDEX: Final = "ix_sessions_queued"
OF_QUEUE: Final = "ix_sessions_queue_status_id"
SOME: Final = [session_id(number) for number in range(1, MANY)]
#: The entries of a window of long ago.
OLD: Final = 20
#: Some that wait: for what is queued, for what has completed, and for what has failed.
WAITS: Final = [number for number in FILLED.queued if number % 10 == 3][:MANY]
WAITING: Final = [session_id(number) for number in WAITS]
#: By a worker's and a person's statements: a session, its lease, its attempt, and what belongs to them.
ONE: Final = 10
CASES: Final[dict[str, Case]] = {
    "transitions.enqueue": Case(ONE, lambda c, s: transitions.enqueue(c, SessionId(uuid4()), REQUEST, b"")),
    "transitions.enqueue of what waits": Case(
        ONE, lambda c, s: transitions.enqueue(c, SessionId(uuid4()), replace(REQUEST, after=(s.waiting,)), b"")
    ),
    "transitions.enqueue_many": Case(MANY * ONE, lambda c, s: transitions.enqueue_many(c, many())),
    "transitions.give_up": Case(MANY * ONE, lambda c, s: transitions.give_up(c, WAITING)),
    "dependencies.ripe": Case(
        # Where the statistics know of none that waits, the index of all ids is as good.
        2 * QUEUED,
        lambda c, s: dependencies.ripe(c, session_id(FILLED.queued[0]), MANY),
    ),
    "heads.of_sessions": Case(MANY * ONE, lambda c, s: heads.of_sessions(c, WAITING)),
    "history.of_session": Case(
        ONE, lambda c, s: history.of_session(c, session_id(2)), "ix_session_history_session_id_id"
    ),
    "history.of_sessions": Case(
        MANY * ONE, lambda c, s: history.of_sessions(c, SOME), "ix_session_history_session_id_id"
    ),
    "history.since": Case(ONE, lambda c, s: history.since(c, session_id(2), 0, limit=10)[1]),
    "history.moved": Case(ONE, lambda c, s: history.moved(c, s.lately), "ix_session_history_xid_id"),
    "history.now": Case(0, lambda c, s: history.now(c)),
    "history.read of late": Case(
        LATELY + RUNNING + MANY, lambda c, s: history.read(c, s.lately, limit=PAGE_ROWS)[0], "ix_session_history_xid_id"
    ),
    "history.read in the middle of very much": Case(
        (history.MOST_BESIDE + 1) * PAGE_ROWS,
        lambda c, s: len(history.read(c, s.all, limit=PAGE_ROWS)[0]) == PAGE_ROWS,
        "pk_session_history",
    ),
    "history.read of the rest of long ago": Case(
        LATELY + (history.MOST_BESIDE + 1) * PAGE_ROWS,
        lambda c, s: len(history.read(c, s.old, limit=PAGE_ROWS, horizon=s.old.high)[0]) == OLD // 2,
    ),
    "dependencies.waiting_for": Case(
        ONE, lambda c, s: dependencies.waiting_for([session_id(WAITS[1] - 1)], c, dependencies.FIRST, 1000)
    ),
    "dependencies.waiting_for one of long ago": Case(
        ONE, lambda c, s: not dependencies.waiting_for([session_id(2)], c, dependencies.FIRST, 1000)
    ),
    "dependencies.waiting_of": Case(
        MANY * ONE, lambda c, s: dependencies.waiting_of(WAITING, c, dependencies.FIRST, 1000)
    ),
    "dependencies.let_go": Case(MANY * ONE, lambda c, s: dependencies.let_go(c, WAITING)),
    "dependencies.add": Case(ONE, add_edge),
    "dependencies.in_vain": Case(ONE, lambda c, s: not dependencies.in_vain(c, session_id(2))),
    "kin.above": Case(ONE, lambda c, s: kin.above(c, session_id(3), limit=100)),
    "kin.below": Case(ONE, lambda c, s: kin.below(c, session_id(2), limit=100)),
    "kin.of": Case(MANY * ONE, lambda c, s: kin.of(c, WAITING)),
    "transitions.claim": Case(
        ONE,
        lambda c, s: transitions.claim(
            c, s.waiting, holder=Holder(uuid4()), worker_id=WorkerId(uuid4()), slot=1, lease_s=30
        ),
    ),
    "transitions.find_claim": Case(ONE, lambda c, s: transitions.find_claim(c, s.claim.session.id, s.claim.holder)),
    "transitions.settle": Case(ONE, lambda c, s: transitions.settle(c, s.claim, DONE)),
    "transitions.recover one": Case(ONE, lambda c, s: transitions.recover(c, s.held[:1])),
    "transitions.recover all": Case(ONE * RUNNING, lambda c, s: transitions.recover(c, s.held)),
    "transitions.cancel_idle": Case(ONE, lambda c, s: transitions.cancel_idle(c, s.waiting)),
    "transitions.pause_idle": Case(ONE, lambda c, s: transitions.pause_idle(c, s.waiting)),
    "transitions.resume": Case(ONE, lambda c, s: transitions.resume(c, s.waiting) or True),
    "transitions.retry": Case(ONE, lambda c, s: transitions.retry(c, session_id(2))),
    "transitions.expire": Case(4 * QUEUED // 50, lambda c, s: transitions.expire(c)),
    "leases.all_held": Case(0, lambda c, s: leases.all_held(c)),
    "leases.states": Case(0, lambda c, s: leases.states(c)),
    "leases.held_still": Case(0, lambda c, s: leases.held_still(c, [one.state for one in s.held[:3]])),
    "leases.renew_several": Case(
        3 * ONE,
        lambda c, s: renew_several(c, [s.claim, replace(s.claim, attempt=7)]) == {s.claim.holder},
    ),
    "leases.renew": Case(ONE, lambda c, s: leases.renew(c, s.claim, lease_s=30)),
    "leases.progress": Case(0, lambda c, s: leases.progress(c, s.claim)),
    "leases.mark_launching": Case(ONE, lambda c, s: leases.mark_launching(c, s.claim)),
    "leases.was_settled_by": Case(ONE, lambda c, s: not leases.was_settled_by(c, s.claim)),
    "outputs.append": Case(
        BATCH_ROWS, lambda c, s: outputs.append(c, s.claim, batch(), Progress(1), Progress(101, 500, 0))
    ),
    "outputs.read": Case(ONE, lambda c, s: outputs.read(c, s.claim.session.id, limit=1000)),
    "adoption.adopt": Case(
        ONE,
        lambda c, s: adoption.adopt(
            c, s.claim.session.id, 1, holder=Holder(uuid4()), worker_id=s.claim.worker_id, slot=s.claim.slot, lease_s=30
        ),
    ),
    "adoption.current_attempts": Case(0, lambda c, s: adoption.current_attempts(c, [s.claim.session.id, s.waiting])),
    "adoption.cluster_id": Case(0, lambda c, s: adoption.cluster_id(c)),
    "expiry.expired": Case(ONE * RUNNING, lambda c, s: expiry.expired(c)),
    "sessions.get": Case(ONE, lambda c, s: sessions.get(c, s.claim.session.id)),
    "sessions.by_key": Case(ONE, lambda c, s: sessions.by_key(c, "a key") is None),
    "sessions.by_keys": Case(ONE, lambda c, s: not sessions.by_keys(c, ["a key", "another"])),
    "sessions.lock_keys": Case(0, lock_keys),
    "sessions.several": Case(MANY * ONE, lambda c, s: sessions.several(c, WAITING)),
    "sessions.starting_with": Case(ONE, lambda c, s: sessions.starting_with(c, s.waiting.hex[:12], limit=4)),
    "sessions.listed": listed(),
    "sessions.listed of running": listed(sessions.Chosen(statuses=(Status.RUNNING,))),
    "sessions.listed of failed": listed(sessions.Chosen(statuses=(Status.FAILED,))),
    "sessions.listed of two": listed(sessions.Chosen(statuses=(Status.FAILED, Status.QUEUED))),
    "sessions.listed of an older page": listed(sessions.Chosen(statuses=(Status.FAILED,)), before=session_id(1000)),
    "sessions.listed of a thread": listed(sessions.Chosen(thread="thread 100")),
    "sessions.listed of a thread's failed": listed(sessions.Chosen(thread="thread 200", statuses=(Status.COMPLETED,))),
    "sessions.listed of a parent": listed(sessions.Chosen(parent_id=session_id(100))),
    "sessions.listed of a name": listed(sessions.Chosen(name="name 150")),
    "sessions.listed of a queue": listed(sessions.Chosen(queue="queue 2"), by=OF_QUEUE),
    "sessions.listed of a queue's failed": listed(
        sessions.Chosen(queue="queue 2", statuses=(Status.FAILED,)), by=OF_QUEUE
    ),
    "sessions.listed of a queue's older page": listed(
        sessions.Chosen(queue="queue 2"), before=session_id(1000), by=OF_QUEUE
    ),
    "sessions.listed of a queue of none": listed(sessions.Chosen(queue=NOBODYS), by=OF_QUEUE),
    "sessions.listed of some time": listed(
        sessions.Chosen(since=filling.moment(1), until=filling.moment(2000)), by="ix_sessions_status_id"
    ),
    "sessions.want": Case(ONE, lambda c, s: sessions.want(c, s.claim.session.id, Wanted.CANCEL)),
    "sessions.take_back_pause": Case(ONE, lambda c, s: not sessions.take_back_pause(c, s.claim.session.id)),
    "sessions.merge_context": Case(ONE, lambda c, s: sessions.merge_context(c, s.waiting, {"a": 1})),
    "sessions.delete_ended": Case(ONE, lambda c, s: sessions.delete_ended(c, session_id(2))),
    # Of the queued ones each is looked at: how many there are is the question.
    "sessions.count_claimable": Case(QUEUED, lambda c, s: sessions.count_claimable(c), alone=QUEUED_INDEX),
    "sessions.claimable": Case(QUEUED, lambda c, s: sessions.claimable(c, "queue 1", limit=10_000)),
    # What waits; of each queue a few with their last move or those that they were to follow; what runs.
    "load.now": Case(
        QUEUED + FIRST_ONES + 10 * RUNNING, lambda c, s: load.now(c, lease_s=30, silent_after_s=20).queued
    ),
    "load.standing": Case(ONE, lambda c, s: not load.standing(c)),
    "load.ended": Case(ENDED + 10, lambda c, s: load.ended(c), alone="ix_sessions_status_id"),
    "load.queued": Case(QUEUED + FIRST_ONES, lambda c, s: load.queued(c), alone=QUEUED_INDEX),
    "load.held": Case(ONE * RUNNING, lambda c, s: load.held(c, lease_s=30)),
    "load.workers": Case(0, lambda c, s: load.workers(c, silent_after_s=20)),
    "load.outputs": Case(0, lambda c, s: load.outputs(c).stored_bytes),
    "tallies.clock": Case(0, lambda c, s: tallies.clock(c)),
    "tallies.waited": Case(MANY * ONE, lambda c, s: not tallies.waited(c, range(1, MANY))),
    "tallies.launches": Case(MANY * ONE, lambda c, s: tallies.launches(c, [(claim.session_id, 1) for claim in s.held])),
    "tallies.written": Case(ONE * RUNNING, lambda c, s: tallies.written(c)),
    "tallies.written_at_end": Case(MANY * ONE, lambda c, s: not tallies.written_at_end(c, names(s))),
    "tallies.unended": Case(MANY * ONE, lambda c, s: tallies.unended(c, names(s))),
    "tallies.turned": Case(2 * LATELY, lambda c, s: tallies.turned(c, SINCE, limit=10_000)),
    "tallies.turned after long": Case(100, lambda c, s: tallies.turned(c, filling.moment(1), limit=100)),
    "turns.begin": Case(ONE, lambda c, s: turns.begin(c, s.claim)),
    "turns.record": Case(ONE, lambda c, s: turns.record(c, s.claim, TURN)),
    "turns.of_session": Case(ONE, lambda c, s: turns.of_session(c, session_id(2))),
    # Of the last thousand that ended, each with its turn; and for each of these something of the other table.
    **{f"statistics.since by {by}": looked_back(by) for by in (None, *By)},
    "transitions.follow_up": Case(2 * ONE, lambda c, s: transitions.follow_up(c, as_claude(c, session_id(2)), "more")),
    "sessions.how_ended": Case(ONE, lambda c, s: sessions.how_ended(c, session_id(2), 1)),
    "sessions.request_of": Case(ONE, lambda c, s: sessions.request_of(c, session_id(2))),
    "messages.send": Case(2 * ONE, lambda c, s: messages.send(c, as_claude(c, s.waiting), "more")),
    "messages.after": Case(
        4 * ONE, lambda c, s: messages.send(c, as_claude(c, s.waiting), "more") and messages.after(c, s.waiting, 0)
    ),
    "messages.waiting": Case(2 * ONE, lambda c, s: messages.waiting(c, as_claude(c, session_id(2)))),
    "messages.newest": Case(ONE, lambda c, s: messages.newest(c, session_id(2)) == 0),
    "transcript.append": Case(ONE, lambda c, s: transcript.append(c, s.claim, entries(), before=0, after=10)),
    "transcript.position": Case(0, lambda c, s: transcript.position(c, s.claim) == 0),
    "transcript.begin_at": Case(0, lambda c, s: transcript.begin_at(c, s.claim, 10)),
    "transcript.can_be_resumed": Case(ONE, lambda c, s: transcript.can_be_resumed(c, session_id(2))),
    "transcript.live": Case(ONE, lambda c, s: list(transcript.live(c, session_id(2)))),
    "transcript.last": Case(ONE, lambda c, s: transcript.last(c, session_id(2))),
    "transcript.page": Case(ONE, lambda c, s: transcript.page(c, session_id(2), after_seq=0, limit=10)),
    "transcript.delivered": Case(ONE, lambda c, s: not transcript.delivered(c, session_id(2), [uuid4()])),
    "sessions.rows_before": Case(ONE, lambda c, s: sessions.rows_before(c, s.claim.session.id, 1) == 0),
}


@pytest.fixture(scope="module")
def filled(servers: EmbeddedServers) -> Iterator[str]:
    with own_database(servers) as url:
        filling.fill(url, FILLED)
        yield url


@pytest.fixture(scope="module", params=["of a quiet hour", NOW])
def scene(request: pytest.FixtureRequest, filled: str) -> Iterator[Scene]:
    """With statistics of either kind, in this order."""
    if request.param == NOW:
        filling.analyze(filled)
    database = Database(filled)
    with database.connection() as connection:
        held = leases.all_held(connection)
        claim = transitions.find_claim(connection, held[5].session_id, held[5].holder)
    assert claim is not None
    yield Scene(request.param, database, held, claim, session_id(FILLED.queued[100]), *_windows(filled))
    database.close()


def _windows(url: str) -> tuple[history.Cursor, history.Cursor, history.Cursor]:
    numbered = "SELECT xid::text::bigint, id FROM session_history ORDER BY id OFFSET %s LIMIT 1"
    with psycopg.connect(url) as connection:
        rows = [connection.execute(numbered, [place]).fetchone() for place in (0, ENDED // 2, ENDED - LATELY)]
    (first, _), (middle, id_), (late, _) = (row for row in rows if row is not None)
    old = history.Cursor(middle, middle + OLD, id_ + OLD // 2 - 1)
    return history.Cursor(first, late, id_), history.Cursor(late, late, 0), old


@pytest.mark.timeout(600)  # the first one waits until all is written
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", CASES)
def test_a_statement_looks_at_no_more_than_it_is_about(scene: Scene, name: str, mode: str) -> None:
    case = CASES[name]
    with explained(scene.database, mode) as (connection, plans):
        assert case.run(connection, scene), "it did nothing, so its plan shows nothing"
    assert plans
    for plan in plans:
        assert not plan.scanned() & LARGE, str(plan)
        assert plan.rows(LARGE) <= case.rows, str(plan)
        # What an index refuses by itself is in no row, but in the pages. A change of a row takes some 30 of them.
        assert plan.pages <= 300 + 30 * case.rows, str(plan)
    read_alone = {index for plan in plans for index in plan.read_alone()}
    assert case.alone is None or case.alone in read_alone or scene.statistics != NOW, "\n".join(map(str, plans))
    assert case.by is None or any(case.by in plan.indices() for plan in plans), "\n".join(map(str, plans))


MODULES: Final = (
    transitions,
    leases,
    outputs,
    adoption,
    expiry,
    sessions,
    messages,
    transcript,
    turns,
    statistics,
    dependencies,
    kin,
    load,
    tallies,
    history,
    heads,
)


def test_every_statement_of_a_session_has_its_plan_looked_at() -> None:
    assert {name.partition(" ")[0] for name in CASES} == statements(*MODULES)


@pytest.mark.parametrize(
    ("statuses", "before", "wanted"),
    [
        ([Status.RUNNING, Status.QUEUED], None, [*FILLED.running[::-1], *FILLED.queued[::-1]]),
        ([Status.QUEUED], session_id(FILLED.queued[60]), FILLED.queued[:60][::-1]),
        ([Status.FAILED], session_id(1000), range(998, 0, -4)),
        ([Status.PAUSED], None, []),
    ],
)
def test_a_page_of_some_statuses_is_the_newest_of_them(
    scene: Scene, statuses: list[Status], before: SessionId | None, wanted: Sequence[int]
) -> None:
    limit = RUNNING + PAGE_ROWS
    with scene.database.connection() as connection:
        page = sessions.listed(connection, sessions.Chosen(statuses=tuple(statuses)), before=before, limit=limit)
    assert [session.id for session in page] == [session_id(number) for number in wanted[:limit]]
