"""What waits for others: when it is let go, when it is given up, and that it is never claimed before that."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import psycopg
import pytest
import uuid_utils.compat as uuid_utils
from sqlalchemy import Connection, text

from gsd_tasks.domain.errors import NoSuchSession
from gsd_tasks.domain.policy import Ending, decide
from gsd_tasks.domain.session import Holder, OnLost, Session, SessionId, Submission, WorkerId
from gsd_tasks.domain.state import Reason, Status
from gsd_tasks.domain.submission import digest
from gsd_tasks.store import Claim, Database, dependencies, history, sessions, transitions
from gsd_tasks.store.transitions import New
from tests.store.locks import waiting_for_a_lock
from tests.waiting import until

HOW = {
    Status.COMPLETED: Ending(reason=Reason.FINISHED, succeeded=True, exit_code=0),
    Status.FAILED: Ending(reason=Reason.EXIT_CODE, exit_code=3),
}


@pytest.fixture
def connection(database: Database) -> Iterator[Connection]:
    with database.connection() as connection:
        yield connection


@pytest.fixture
def follow(enqueue: Callable[..., SessionId]) -> Callable[..., SessionId]:
    """A session that is to follow others."""

    def follow(*after: SessionId, any_: Sequence[SessionId] = (), **fields: Any) -> SessionId:
        return enqueue(Submission(command=("true",), working_dir="/", after=after, after_any=tuple(any_), **fields))

    return follow


@pytest.fixture
def end(connection: Connection, claim: Callable[..., Claim]) -> Callable[..., SessionId]:
    """Brings a session, a new one if none is named, to its end."""

    def end(how: Status, session_id: SessionId | None = None) -> SessionId:
        if how is Status.CANCELLED:
            assert session_id is not None
            assert transitions.cancel_idle(connection, session_id)
            return session_id
        held = claim(session_id)
        assert transitions.settle(connection, held, decide(HOW[how], wanted=None, on_lost=OnLost.FAIL))
        return held.session.id

    return end


def now(connection: Connection, session_id: SessionId) -> Session:
    session = sessions.get(connection, session_id)
    assert session is not None
    return session


def may_be_claimed(connection: Connection, session_id: SessionId, worker: WorkerId) -> bool:
    """Whether the statement of a slot would take it; it is not taken."""
    connection.execute(text("BEGIN"))
    slot = {"holder": Holder(uuid4()), "worker_id": worker, "slot": 1, "lease_s": 30}
    claimed = transitions.claim(connection, session_id, **slot)  # type: ignore[arg-type]
    connection.execute(text("ROLLBACK"))
    return claimed is not None


def test_what_waits_is_not_claimable_until_everything_it_is_to_follow_has_completed(
    connection: Connection,
    worker: WorkerId,
    enqueue: Callable[..., SessionId],
    follow: Callable[..., SessionId],
    end: Callable[..., SessionId],
) -> None:
    first, second = enqueue(), enqueue()
    last = follow(first, second)

    assert now(connection, last).waits
    assert now(connection, last).after == (first, second)
    assert not may_be_claimed(connection, last, worker)
    assert sum(sessions.count_claimable(connection).values()) == 2

    end(Status.COMPLETED, first)
    assert dependencies.let_go(connection, [last]) == []
    assert not may_be_claimed(connection, last, worker)

    end(Status.COMPLETED, second)
    assert [(free.id, free.queue) for free in dependencies.let_go(connection, [last])] == [(last, "sessions")]
    assert dependencies.let_go(connection, [last]) == []
    assert may_be_claimed(connection, last, worker)
    assert not now(connection, last).waits
    assert now(connection, last).after == (first, second)
    assert [entry.reason for entry in history.of_session(connection, last)] == [Reason.ENQUEUED]


@pytest.mark.parametrize("how", [Status.COMPLETED, Status.FAILED, Status.CANCELLED])
def test_what_is_to_follow_any_end_is_let_go_by_each(
    connection: Connection,
    how: Status,
    enqueue: Callable[..., SessionId],
    follow: Callable[..., SessionId],
    end: Callable[..., SessionId],
) -> None:
    first = enqueue()
    last = follow(any_=[first])
    assert now(connection, last).after_any == (first,)
    assert dependencies.let_go(connection, [last]) == []
    end(how, first)

    assert transitions.give_up(connection, [last]) == []
    assert [free.id for free in dependencies.let_go(connection, [last])] == [last]


@pytest.mark.parametrize(
    ("how", "becomes", "reason", "because"),
    [
        (Status.FAILED, Status.FAILED, Reason.DEPENDENCY, "failed (exit_code)"),
        (Status.CANCELLED, Status.CANCELLED, Reason.CANCELLED, "was cancelled"),
    ],
)
def test_what_waits_in_vain_is_given_up_and_says_why(
    connection: Connection,
    how: Status,
    becomes: Status,
    reason: Reason,
    because: str,
    enqueue: Callable[..., SessionId],
    follow: Callable[..., SessionId],
    end: Callable[..., SessionId],
) -> None:
    first, second = enqueue(), enqueue()
    last = follow(first, second)
    assert transitions.give_up(connection, [last]) == []
    end(how, first)

    assert dependencies.let_go(connection, [last]) == []
    assert transitions.give_up(connection, [last]) == [last]
    assert transitions.give_up(connection, [last]) == []
    session = now(connection, last)
    assert (session.status, session.reason) == (becomes, reason)
    assert session.detail == f"session {first}, which it was to follow, {because}"
    assert session.ended_at is not None
    entry = history.of_session(connection, last)[-1]
    assert (entry.from_status, entry.to_status, entry.reason, entry.detail) == (
        Status.QUEUED,
        becomes,
        reason,
        session.detail,
    )


def test_what_completes_leaves_nothing_to_give_up(
    connection: Connection, follow: Callable[..., SessionId], end: Callable[..., SessionId]
) -> None:
    last = follow(end(Status.COMPLETED))
    assert transitions.give_up(connection, [last]) == []


@pytest.mark.parametrize("pause", [True, False])
def test_only_what_is_queued_is_let_go_or_given_up(
    connection: Connection, pause: bool, follow: Callable[..., SessionId], end: Callable[..., SessionId]
) -> None:
    for how in HOW:
        last = follow(end(how))
        assert (transitions.pause_idle if pause else transitions.cancel_idle)(connection, last)

        assert dependencies.let_go(connection, [last]) == []
        assert transitions.give_up(connection, [last]) == []
        assert dependencies.ripe(connection, dependencies.FIRST, 10) == []

        assert (transitions.resume if pause else transitions.retry)(connection, last)
        assert now(connection, last).waits
        assert dependencies.ripe(connection, dependencies.FIRST, 10) == [last]
        if how is Status.COMPLETED:
            assert [free.id for free in dependencies.let_go(connection, [last])] == [last]
        else:
            assert transitions.give_up(connection, [last]) == [last]


def test_what_was_given_up_waits_again_when_it_is_tried_again(
    connection: Connection,
    worker: WorkerId,
    follow: Callable[..., SessionId],
    end: Callable[..., SessionId],
) -> None:
    first = end(Status.FAILED)
    last = follow(first)
    assert transitions.give_up(connection, [last]) == [last]
    assert transitions.retry(connection, first)
    assert transitions.retry(connection, last)

    assert dependencies.let_go(connection, [last]) == []
    assert transitions.give_up(connection, [last]) == []
    assert not may_be_claimed(connection, last, worker)
    end(Status.COMPLETED, first)
    assert [free.id for free in dependencies.let_go(connection, [last])] == [last]


def test_those_that_wait_are_found_page_by_page_by_what_they_wait_for(
    connection: Connection,
    enqueue: Callable[..., SessionId],
    follow: Callable[..., SessionId],
    end: Callable[..., SessionId],
) -> None:
    first, second = enqueue(), enqueue()
    both, any_, other = follow(first, second), follow(any_=[first]), follow(second)
    start = dependencies.FIRST

    assert dependencies.waiting_for([first], connection, start, 10) == [both, any_]
    assert dependencies.waiting_for([first, second], connection, both, 10) == [any_, other]
    assert dependencies.waiting_for([both], connection, start, 10) == []
    assert dependencies.waiting_of([first, other, both], connection, start, 10) == [both, other]

    assert dependencies.ripe(connection, start, 10) == [], "nothing of what they wait for has ended"
    end(Status.FAILED, first)
    assert dependencies.ripe(connection, start, 10) == [both, any_]
    end(Status.COMPLETED, second)
    assert dependencies.ripe(connection, start, 2) == [both, any_]
    assert dependencies.ripe(connection, any_, 2) == [other]


def test_what_waits_for_nothing_that_there_is_any_more_is_found(
    connection: Connection, follow: Callable[..., SessionId], end: Callable[..., SessionId]
) -> None:
    """What has completed may be deleted before anybody has let go what was to follow it."""
    first = end(Status.COMPLETED)
    last = follow(first)
    assert sessions.delete_ended(connection, first)
    assert dependencies.ripe(connection, dependencies.FIRST, 10) == [last]
    assert [free.id for free in dependencies.let_go(connection, [last])] == [last]


def test_two_that_resolve_at_once_pass_over_what_the_other_has_in_hand(
    database: Database,
    database_url: str,
    connection: Connection,
    follow: Callable[..., SessionId],
    end: Callable[..., SessionId],
) -> None:
    done, broken = end(Status.COMPLETED), end(Status.FAILED)
    free, vain = follow(done), follow(broken)
    with psycopg.connect(database_url) as other:
        other.execute("SELECT 1 FROM sessions WHERE id = ANY(%s) FOR NO KEY UPDATE", ([free, vain],))
        connection.execute(text("SET lock_timeout = '1s'"))
        assert dependencies.let_go(connection, [free, vain]) == []
        assert transitions.give_up(connection, [free, vain]) == []
    assert [session.id for session in dependencies.let_go(connection, [free, vain])] == [free]
    assert transitions.give_up(connection, [free, vain]) == [vain]


def test_many_resolve_at_once_and_each_session_is_let_go_or_given_up_once(
    database: Database, follow: Callable[..., SessionId], end: Callable[..., SessionId]
) -> None:
    done, broken = end(Status.COMPLETED), end(Status.FAILED)
    free, vain = ([follow(before) for _ in range(40)] for before in (done, broken))
    line_up = threading.Barrier(4)

    def resolve(turn: int) -> tuple[list[SessionId], list[SessionId]]:
        mixed = sorted([*free, *vain], key=lambda id_: hash((id_, turn)))
        with database.connection() as connection:
            line_up.wait()
            let_go = [session.id for session in dependencies.let_go(connection, mixed)]
            return let_go, transitions.give_up(connection, mixed)

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(resolve, range(4)))

    assert sorted(id_ for let_go, _ in found for id_ in let_go) == sorted(free)
    assert sorted(id_ for _, given_up in found for id_ in given_up) == sorted(vain)


def test_a_cancel_that_waits_for_the_lock_finds_it_let_go_and_the_other_way_round(
    database: Database,
    database_url: str,
    connection: Connection,
    follow: Callable[..., SessionId],
    end: Callable[..., SessionId],
) -> None:
    last = follow(end(Status.COMPLETED))
    with psycopg.connect(database_url) as other, ThreadPoolExecutor(1) as pool:
        other.execute("UPDATE sessions SET waits = false WHERE id = %s", (last,))
        cancelled = pool.submit(transitions.cancel_idle, connection, last)
        until(lambda: waiting_for_a_lock(database_url), what="the cancel to wait")
        other.commit()
        assert cancelled.result()
    assert now(connection, last).status is Status.CANCELLED
    assert dependencies.let_go(connection, [last]) == []


@pytest.mark.parametrize("field", ["after", "after_any", "parent_id"])
def test_who_follows_nobody_is_refused_and_nothing_is_written(
    connection: Connection, enqueue: Callable[..., SessionId], field: str
) -> None:
    there_is, nobody = enqueue(), SessionId(uuid_utils.uuid7())
    awaited: Any = nobody if field == "parent_id" else (there_is, nobody)
    request = Submission(command=("true",), working_dir="/", **{field: awaited})

    with pytest.raises(NoSuchSession) as refused:
        transitions.enqueue(connection, SessionId(uuid_utils.uuid7()), request, digest(request))

    assert refused.value.wanted == str(nobody)
    assert connection.execute(text("SELECT count(*) FROM sessions")).scalar_one() == 1
    assert connection.execute(text("SELECT count(*) FROM session_history")).scalar_one() == 1
    assert connection.execute(text("SELECT count(*) FROM dependencies")).scalar_one() == 0


def test_given_twice_is_given_once(
    connection: Connection, enqueue: Callable[..., SessionId], follow: Callable[..., SessionId]
) -> None:
    first = enqueue()
    assert now(connection, follow(first, first)).after == (first,)


def test_a_key_that_is_known_adds_nothing_to_wait_for(
    connection: Connection, enqueue: Callable[..., SessionId], follow: Callable[..., SessionId]
) -> None:
    first = enqueue()
    known = follow(key="k")
    request = Submission(command=("true",), working_dir="/", key="k", after=(first,))
    assert transitions.enqueue(connection, SessionId(uuid_utils.uuid7()), request, digest(request)) is None
    assert not now(connection, known).waits
    assert connection.execute(text("SELECT count(*) FROM dependencies")).scalar_one() == 0


@pytest.mark.parametrize("how", [Status.FAILED, Status.CANCELLED])
def test_what_somebody_waits_for_in_vain_is_not_deleted(
    connection: Connection,
    how: Status,
    enqueue: Callable[..., SessionId],
    follow: Callable[..., SessionId],
    end: Callable[..., SessionId],
) -> None:
    first = enqueue()
    last = follow(first)
    end(how, first)

    assert dependencies.in_vain(connection, first) == last
    assert not sessions.delete_ended(connection, first)
    assert transitions.give_up(connection, [last]) == [last]
    # Without what it waited for, it would run if it were tried again.
    assert not sessions.delete_ended(connection, first)
    assert sessions.delete_ended(connection, last)
    assert dependencies.in_vain(connection, first) is None
    assert sessions.delete_ended(connection, first)
    assert connection.execute(text("SELECT count(*) FROM dependencies")).scalar_one() == 0


def test_what_has_come_about_can_be_deleted_and_the_rest_is_still_waited_for(
    connection: Connection,
    worker: WorkerId,
    enqueue: Callable[..., SessionId],
    follow: Callable[..., SessionId],
    end: Callable[..., SessionId],
) -> None:
    completed, failed, other = end(Status.COMPLETED), end(Status.FAILED), enqueue()
    last = follow(completed, other, any_=[failed])

    assert sessions.delete_ended(connection, completed)
    assert sessions.delete_ended(connection, failed)
    assert now(connection, last).after == (other,)
    assert dependencies.let_go(connection, [last]) == []
    assert not may_be_claimed(connection, last, worker)
    end(Status.COMPLETED, other)
    assert sessions.delete_ended(connection, other)
    assert [free.id for free in dependencies.let_go(connection, [last])] == [last]


def test_who_begins_to_wait_while_it_is_deleted_keeps_it(
    database: Database,
    database_url: str,
    connection: Connection,
    follow: Callable[..., SessionId],
    end: Callable[..., SessionId],
) -> None:
    first, last = end(Status.FAILED), follow()
    with psycopg.connect(database_url) as other, ThreadPoolExecutor(1) as pool:
        other.execute("UPDATE sessions SET waits = true WHERE id = %s", (last,))
        other.execute("INSERT INTO dependencies VALUES (%s, %s, 'completed')", (last, first))
        deleted = pool.submit(sessions.delete_ended, connection, first)
        until(lambda: waiting_for_a_lock(database_url), what="the deletion to wait")
        other.commit()
        assert not deleted.result()
    assert now(connection, first).status is Status.FAILED
    assert transitions.give_up(connection, [last]) == [last]


def test_what_runs_cannot_wait(database_url: str, claim: Callable[..., Claim]) -> None:
    held = claim()
    with psycopg.connect(database_url) as other, pytest.raises(psycopg.errors.CheckViolation):
        other.execute("UPDATE sessions SET waits = true WHERE id = %s", (held.session.id,))


def test_many_at_once_are_written_as_one_is(connection: Connection, enqueue: Callable[..., SessionId]) -> None:
    parent = enqueue()
    request = Submission(
        prompt="Fix it: é \N{ROCKET} \"'\\",
        working_dir="/somewhere",
        env={"A": "1", "B": "%s {x}"},
        secrets=("TOKEN",),
        name="n",
        thread="t",
        parent_id=parent,
        context={"a": [1, 2.5, None, {"b": "c"}], "t": (1, 2)},
        priority=2,
        queue="others",
        key="k",
    )
    command = Submission(command=("a", "b c", "", 'd"', "{e,f}"), working_dir="/")
    new = [New(SessionId(uuid_utils.uuid7()), digest(one), one) for one in (request, command)]

    written = transitions.enqueue_many(connection, new)

    assert written == [now(connection, one.id) for one in new]
    assert [sessions.request_of(connection, one.id).command for one in new] == [None, command.command]
    assert sessions.request_of(connection, new[0].id).env == request.env
    assert sessions.by_key(connection, "k") == (new[0].id, digest(request))
    assert [entry.reason for entry in history.of_session(connection, new[1].id)] == [Reason.ENQUEUED]
    # Once more: the one with the key is left out.
    again = [New(SessionId(uuid_utils.uuid7()), one.digest, one.request) for one in new]
    assert [session.command for session in transitions.enqueue_many(connection, again)] == [command.command]


def test_pages_of_large_requests_are_all_written(connection: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gsd_tasks.store.transitions.enqueueing.PAGE_BYTES", 5000)
    request = Submission(command=("true", "x" * 2000), working_dir="/")
    new = [New(SessionId(uuid_utils.uuid7()), b"", request) for _ in range(7)]

    assert [session.id for session in transitions.enqueue_many(connection, new)] == [one.id for one in new]
    monkeypatch.setattr(dependencies, "PAGE_EDGES", 2)
    last = SessionId(uuid_utils.uuid7())
    following = Submission(command=("true",), working_dir="/", after=tuple(one.id for one in new))
    transitions.enqueue_many(connection, [New(last, b"", following)])
    dependencies.add(connection, [(last, following)])
    assert now(connection, last).after == tuple(one.id for one in new)
    assert now(connection, last).waits
