"""What follows the end of a session for those that wait for it, whoever brings it about."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import text

from gsd_tasks.domain.errors import DatabaseUnavailable, NotAllowed
from gsd_tasks.domain.session import Holder, Session, SessionId, Submission, WorkerId
from gsd_tasks.domain.state import Reason, Status
from gsd_tasks.service import attempt as attempts
from gsd_tasks.service import control, dependencies, submit, talk
from gsd_tasks.service.maintenance import Maintenance
from gsd_tasks.service.node import Node
from gsd_tasks.settings import Settings
from gsd_tasks.store import Database, transitions
from tests.service.messages import Broker
from tests.workers import register_worker


@pytest.fixture
def broker() -> Broker:
    return Broker()


@pytest.fixture
def follow(database: Database, broker: Broker, tmp_path: Path) -> Callable[..., Session]:
    """Submits a session that is to follow others."""

    def follow(*after: SessionId, any_: tuple[SessionId, ...] = (), command: str = "true", **fields: Any) -> Session:
        request = Submission(command=(command,), working_dir=str(tmp_path), after=after, after_any=any_, **fields)
        return submit.submit(database, broker, request)

    return follow


Now = Callable[[SessionId], Session]
Follow = Callable[..., Session]


def cancel(database: Database, session_id: SessionId) -> None:
    with database.connection() as connection:
        assert transitions.cancel_idle(connection, session_id)


def test_what_waits_has_no_message_until_it_is_let_go(
    database: Database, broker: Broker, follow: Follow, now: Now
) -> None:
    first = follow()
    last = follow(any_=(first.id,))
    assert last.waits
    assert broker.sent == [first.id]

    cancel(database, first.id)
    assert dependencies.resolve(database, broker, [first.id]).let_go == (last.id,)
    assert broker.sent == [first.id, last.id]
    assert not now(last.id).waits
    assert not dependencies.resolve(database, broker, [first.id])


def test_what_is_to_follow_what_has_ended_need_not_wait_for_a_sweep(
    database: Database, broker: Broker, follow: Follow
) -> None:
    first = follow()
    cancel(database, first.id)

    free, vain = follow(any_=(first.id,)), follow(first.id)

    assert not free.waits
    assert broker.sent == [first.id, free.id]
    assert (vain.status, vain.waits) == (Status.CANCELLED, True)


def test_the_end_of_one_goes_through_all_that_wait_for_it(
    database: Database, broker: Broker, follow: Follow, now: Now
) -> None:
    first = follow()
    second = follow(first.id)
    third, beside = follow(second.id), follow(any_=(second.id,))
    fourth = follow(third.id, beside.id)
    cancel(database, first.id)

    resolved = dependencies.resolve(database, broker, [first.id])

    assert resolved.let_go == (beside.id,)
    assert resolved.given_up == (second.id, third.id, fourth.id)
    assert {now(id_).status for id_ in resolved.given_up} == {Status.CANCELLED}
    assert now(fourth.id).detail == f"session {third.id}, which it was to follow, was cancelled"
    assert set(resolved) == {second.id, third.id, beside.id, fourth.id}


def test_more_than_a_page_and_longer_than_a_call_goes_on(
    database: Database, broker: Broker, follow: Follow, now: Now, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dependencies, "PAGE_SESSIONS", 3)
    monkeypatch.setattr(dependencies, "MOST_LEVELS", 2)
    first = follow()
    many = [follow(first.id) for _ in range(8)]
    chain = [follow(many[0].id)]
    chain.append(follow(chain[0].id))
    cancel(database, first.id)

    assert len(dependencies.resolve(database, broker, [first.id]).given_up) == len(many) + 1
    assert now(chain[1].id).status is Status.QUEUED
    # The safety net.
    assert dependencies.resolve(database, broker).given_up == (chain[1].id,)


def test_without_redis_it_is_let_go_and_redis_is_not_asked_for_each(
    database: Database, broker: Broker, follow: Follow, now: Now
) -> None:
    first = follow()
    waiting = [follow(any_=(first.id,)) for _ in range(3)]
    cancel(database, first.id)
    broker.is_away, broker.asked = True, 0

    assert dependencies.resolve(database, broker, [first.id]).let_go == tuple(session.id for session in waiting)
    assert broker.asked == 1
    assert not any(now(session.id).waits for session in waiting)


def test_what_is_resumed_or_retried_goes_on_to_wait(
    database: Database, broker: Broker, follow: Follow, now: Now
) -> None:
    first = follow()
    last = follow(any_=(first.id,))
    control.pause(database, last.id)
    assert control.resume(database, broker, last.id).waits
    control.cancel(database, last.id)
    assert control.retry(database, broker, last.id).waits
    assert broker.sent == [first.id]

    control.pause(database, last.id)
    cancel(database, first.id)
    assert not dependencies.resolve(database, broker)
    assert not control.resume(database, broker, last.id).waits
    assert broker.sent == [first.id, last.id]


def test_what_is_tried_again_before_what_it_follows_fails_again(
    database: Database, broker: Broker, follow: Follow
) -> None:
    first = follow()
    last = follow(first.id)
    cancel(database, first.id)
    dependencies.resolve(database, broker, [first.id])

    assert control.retry(database, broker, last.id).status is Status.CANCELLED
    control.retry(database, broker, first.id)
    again = control.retry(database, broker, last.id)
    assert (again.status, again.waits) == (Status.QUEUED, True)


def test_a_follow_up_to_what_never_ran_waits_as_well(database: Database, broker: Broker) -> None:
    first = submit.submit(database, broker, Submission(command=("true",), working_dir="/tmp"))
    request = Submission(prompt="Fix it", working_dir="/tmp", after=(first.id,))
    last = submit.submit(database, broker, request)
    control.cancel(database, last.id)

    assert talk.follow_up(database, broker, last.id, "And that").waits
    assert broker.sent == [first.id]


def test_a_session_that_others_follow_is_deleted_after_them(database: Database, broker: Broker, follow: Follow) -> None:
    first = follow()
    last = follow(first.id)
    cancel(database, first.id)
    with pytest.raises(NotAllowed) as refused:
        control.delete(database, first.id)
    assert str(refused.value) == (
        f"session {first.id}: session {last.id} was to follow it, and has not run: delete that one first"
    )
    dependencies.resolve(database, broker)
    control.delete(database, last.id)
    control.delete(database, first.id)


def test_while_the_database_is_away_it_is_queued_all_the_same(
    database: Database, broker: Broker, follow: Follow, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = follow()

    def away(*_: object) -> None:
        raise DatabaseUnavailable("away")

    with monkeypatch.context() as patched:
        patched.setattr(dependencies, "resolve_these", away)
        last = follow(any_=(first.id,))
    assert last.waits


@pytest.mark.parametrize(("command", "becomes"), [("true", Status.QUEUED), ("false", Status.FAILED)])
def test_a_worker_resolves_what_waits_for_the_session_that_it_has_settled(
    node: Node, broker: Broker, follow: Follow, now: Now, command: str, becomes: Status
) -> None:
    node.publish = broker
    first = follow(command=command)
    last = follow(first.id)
    assert attempts.run_session(node, last.id) is None
    broker.sent.clear()

    assert attempts.run_session(node, first.id)

    session = now(last.id)
    assert session.status is becomes
    assert broker.sent == ([last.id] if becomes is Status.QUEUED else [])
    if becomes is Status.FAILED:
        assert (session.reason, session.started_at) == (Reason.DEPENDENCY, None)
    else:
        assert attempts.run_session(node, last.id)


def test_a_worker_that_cannot_resolve_has_settled_all_the_same(
    node: Node, follow: Follow, now: Now, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(*_: object) -> None:
        raise RuntimeError("no")

    monkeypatch.setattr(dependencies, "resolve", breaks)
    first = follow()
    assert attempts.run_session(node, first.id)
    assert now(first.id).status is Status.COMPLETED


@pytest.fixture
def maintenance(settings: Settings, database_url: str, redis_url: str, broker: Broker) -> Iterator[Maintenance]:
    maintenance = Maintenance(settings, database_url=database_url, redis_url=redis_url, publish=broker)
    yield maintenance
    maintenance.stop()


def test_a_sweep_resolves_whatever_was_left(
    database: Database, maintenance: Maintenance, broker: Broker, follow: Follow, now: Now
) -> None:
    first = follow()
    free, vain = follow(any_=(first.id,)), follow(first.id)
    cancel(database, first.id)

    maintenance.tick()

    assert not now(free.id).waits
    assert free.id in broker.sent
    assert now(vain.id).status is Status.CANCELLED


def test_a_sweep_that_ends_what_has_expired_resolves_what_waits_for_it(
    database: Database, maintenance: Maintenance, follow: Follow, now: Now
) -> None:
    first = follow()
    middle, last = follow(first.id), follow()
    with database.connection() as connection:
        change = text("UPDATE sessions SET expires_at = now() - interval '1 s' WHERE id = :id")
        connection.execute(change, {"id": first.id})
    third = follow(middle.id)

    maintenance.tick()

    assert now(first.id).reason is Reason.EXPIRED
    assert (now(middle.id).reason, now(third.id).reason) == (Reason.DEPENDENCY, Reason.DEPENDENCY)
    assert now(last.id).status is Status.QUEUED


def test_what_waits_expires_like_everything_else(
    database: Database, maintenance: Maintenance, follow: Follow, now: Now
) -> None:
    first = follow()
    last = follow(first.id)
    with database.connection() as connection:
        change = text("UPDATE sessions SET expires_at = now() - interval '1 s' WHERE id = :id")
        connection.execute(change, {"id": last.id})
    maintenance.tick()
    assert now(last.id).reason is Reason.EXPIRED


def test_nobody_sends_messages_for_what_waits(
    database: Database, maintenance: Maintenance, broker: Broker, follow: Follow
) -> None:
    first = follow()
    last = follow(first.id)
    with database.connection() as connection:
        worker = register_worker(connection)
        slot = {"holder": Holder(uuid4()), "worker_id": WorkerId(worker), "slot": 1, "lease_s": 30}
        assert transitions.claim(connection, last.id, **slot) is None  # type: ignore[arg-type]
    broker.sent.clear()
    maintenance.tick()
    assert broker.sent == [first.id]


def test_what_was_let_go_while_redis_was_away_has_its_message_from_the_next_sweep(
    database: Database, maintenance: Maintenance, broker: Broker, follow: Follow, now: Now
) -> None:
    first = follow()
    last = follow(any_=(first.id,))
    cancel(database, first.id)
    broker.is_away = True
    dependencies.resolve(database, broker, [first.id])
    assert (now(last.id).waits, last.id in broker.sent) == (False, False)

    broker.is_away = False
    maintenance.tick()
    assert last.id in broker.sent
