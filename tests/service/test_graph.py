"""Many sessions at once: all of them or none, each once, whatever they call each other."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
import uuid_utils.compat as uuid_utils
from sqlalchemy import event, text

from gsd_tasks.domain.errors import BrokerUnavailable, InvalidValue, KeyReused, NoSuchSession
from gsd_tasks.domain.graph import Item, Ref
from gsd_tasks.domain.session import SessionId, Submission
from gsd_tasks.domain.state import Status
from gsd_tasks.service import control, graph, submit
from gsd_tasks.service.graph import submit_many
from gsd_tasks.service.tree import tree
from gsd_tasks.store import Database, sessions, transitions
from tests.service.messages import Broker
from tests.store.locks import waiting_for_a_lock
from tests.waiting import until


def item(ref: str | None = None, *, command: str = "true", key: str | None = None, **fields: Any) -> Item:
    own = {name: fields.pop(name) for name in ("parent", "after", "after_any") if name in fields}
    request = Submission(command=(command,), working_dir="/tmp", key=key, **fields)
    return Item(request=request, ref=ref, **own)


def count(database: Database, table: str) -> int:
    with database.connection() as connection:
        found: int = connection.execute(text(f"SELECT count(*) FROM {table}")).scalar_one()
        return found


def test_a_graph_is_written_as_it_was_drawn(database: Database) -> None:
    broker = Broker()
    there_is = submit.submit(database, broker, Submission(command=("true",), working_dir="/"))
    later = datetime.now(UTC) + timedelta(hours=1)

    last, first, child, timed = submit_many(
        database,
        broker,
        [
            item("last", after=(Ref("first"), there_is.id), after_any=(Ref("child"),), priority=2),
            item("first", parent=there_is.id, name="the first"),
            item("child", parent=Ref("first")),
            item(run_at=later),
        ],
    )

    assert (last.after, last.after_any, last.waits) == (tuple(sorted([first.id, there_is.id])), (child.id,), True)
    assert (first.parent_id, first.name, first.waits) == (there_is.id, "the first", False)
    assert (child.parent_id, timed.run_at) == (first.id, later)
    assert broker.sent == [there_is.id, first.id, child.id]
    with database.connection() as connection:
        assert [sessions.get(connection, session.id) for session in (last, first, child, timed)] == [
            last,
            first,
            child,
            timed,
        ]
    shown = [(branch.session.id, branch.depth, branch.under) for branch in tree(database, last.id)]
    assert shown == [
        (there_is.id, 0, None),
        (last.id, 1, there_is.id),
        (first.id, 1, there_is.id),
        (child.id, 2, first.id),
    ]


def test_nothing_at_all_is_no_error(database: Database) -> None:
    assert submit_many(database, Broker(), []) == []


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"after": (Ref("b"),)}, InvalidValue),
        ({"command": ""}, InvalidValue),
        ({"parent": SessionId(uuid_utils.uuid7())}, NoSuchSession),
        ({"after": (SessionId(uuid_utils.uuid7()),)}, NoSuchSession),
        ({"after_any": (SessionId(uuid_utils.uuid7()),)}, NoSuchSession),
    ],
)
def test_all_of_it_or_nothing(database: Database, wrong: dict[str, Any], error: type[Exception]) -> None:
    broker = Broker()
    with pytest.raises(error):
        submit_many(database, broker, [item("a"), item(after=(Ref("a"),)), item(**wrong)])
    assert (count(database, "sessions"), count(database, "dependencies"), broker.sent) == (0, 0, [])


def test_what_follows_what_has_ended_need_not_wait_for_a_sweep(database: Database) -> None:
    broker = Broker()
    over = submit.submit(database, broker, Submission(command=("true",), working_dir="/"))
    with database.connection() as connection:
        transitions.cancel_idle(connection, over.id)
    broker.sent.clear()

    free, vain, after_vain = submit_many(
        database,
        broker,
        [item(after_any=(over.id,)), item("vain", after=(over.id,)), item(after=(Ref("vain"),))],
    )

    assert (free.waits, broker.sent) == (False, [free.id])
    assert vain.status is Status.CANCELLED
    # That of its own graph is as it was written; by now it has ended with what it follows.
    with database.connection() as connection:
        stands = sessions.get(connection, after_vain.id)
    assert stands is not None
    assert stands.status is Status.CANCELLED


def test_the_same_graph_again_is_the_same_sessions(database: Database) -> None:
    broker = Broker()
    items = [item("a", key="1"), item("b", key="2", after=(Ref("a"),)), item(key="3", parent=Ref("b"))]
    once = submit_many(database, broker, items)
    broker.sent.clear()

    assert [session.id for session in submit_many(database, broker, items)] == [session.id for session in once]
    assert (count(database, "sessions"), count(database, "dependencies"), broker.sent) == (3, 1, [])


def test_a_known_key_stands_for_its_session_for_the_others_too(database: Database) -> None:
    known = submit.submit(database, Broker(), Submission(command=("true",), working_dir="/tmp", key="k"))
    found, last = submit_many(database, Broker(), [item("a", key="k"), item(after=(Ref("a"),), parent=Ref("a"))])
    assert found.id == known.id
    assert (last.after, last.parent_id) == ((known.id,), known.id)


def test_a_key_of_another_body_refuses_all(database: Database) -> None:
    submit_many(database, Broker(), [item("a", key="k")])
    with pytest.raises(KeyReused):
        submit_many(database, Broker(), [item("b"), item("a", key="k", command="false")])
    with pytest.raises(KeyReused):
        submit_many(database, Broker(), [item("b"), item("a", key="k", after=(Ref("b"),))])
    assert count(database, "sessions") == 1


def test_the_same_session_by_name_and_by_id_cannot_be_followed_in_both_ways(database: Database) -> None:
    [known] = submit_many(database, Broker(), [item("a", key="k")])
    with pytest.raises(InvalidValue, match="after_any"):
        submit_many(database, Broker(), [item("a", key="k"), item(after=(Ref("a"),), after_any=(known.id,))])


def test_a_key_that_is_used_in_the_meantime_is_found(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    looked = sessions.by_keys
    hidden: Iterator[dict[str, tuple[SessionId, bytes]]] = iter([{}])
    known = submit.submit(database, Broker(), Submission(command=("true",), working_dir="/tmp", key="k"))

    monkeypatch.setattr(sessions, "by_keys", lambda *args: next(hidden, looked(*args)))
    other, found = submit_many(database, Broker(), [item("b"), item(key="k", parent=None)])

    assert found.id == known.id
    assert {session.id for session in (other, found)} == {other.id, known.id}
    assert count(database, "sessions") == 2


@pytest.mark.parametrize("number", [1, 2])
def test_a_key_whose_session_is_deleted_in_the_meantime_is_free_again(
    database: Database, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """Else it would be told that there is no such session, when all others are written, and would run."""
    old = submit.submit(database, Broker(), item(key="a").request)
    control.cancel(database, old.id)
    find_one, find_several = sessions.by_key, sessions.by_keys

    def delete() -> None:
        with suppress(NoSuchSession):
            control.delete(database, old.id)

    def found_one(*given: Any) -> Any:
        found = find_one(*given)
        delete()
        return found

    def found_several(*given: Any) -> Any:
        found = find_several(*given)
        delete()
        return found

    monkeypatch.setattr(sessions, "by_key", found_one)
    monkeypatch.setattr(sessions, "by_keys", found_several)
    if number == 1:
        written = [submit.submit(database, Broker(), item(key="a").request)]
    else:
        written = submit_many(database, Broker(), [item(key="a"), item(name="without one")])
    assert written[0].id != old.id
    assert count(database, "sessions") == len(written) == number


def test_many_submit_the_same_keys_at_once_in_any_order_and_each_is_written_once(database: Database) -> None:
    items = [item(f"n{number}", key=f"k{number}") for number in range(50)]
    line_up = threading.Barrier(4)

    def submitting(turn: int) -> set[SessionId]:
        line_up.wait()
        return {session.id for session in submit_many(database, Broker(), items[:: (-1) ** turn])}

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(submitting, range(4)))

    assert all(ids == found[0] for ids in found)
    assert count(database, "sessions") == len(items)


def test_graphs_with_keys_take_turns_and_others_do_not_wait(database: Database, database_url: str) -> None:
    """Two would else each have a key that the other one waits for."""
    with psycopg.connect(database_url) as other, ThreadPoolExecutor(1) as pool:
        other.execute("SELECT pg_advisory_xact_lock(%s)", (sessions.KEYS_LOCK,))
        submitted = pool.submit(submit_many, database, Broker(), [item(key="k")])
        until(lambda: waiting_for_a_lock(database_url), what="the one with a key to wait")
        assert len(submit_many(database, Broker(), [item()])) == 1
        other.commit()
        assert len(submitted.result()) == 1


def test_without_redis_all_of_it_is_written(database: Database) -> None:
    def away(*_: object, **__: object) -> None:
        raise BrokerUnavailable("away")

    assert len(submit_many(database, away, [item(), item()])) == 2


def test_the_first_of_many_have_their_messages_at_once(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graph, "MOST_MESSAGES", 2)
    broker = Broker()
    late, other, first, second = submit_many(
        database, broker, [item(priority=9), item(queue="other"), item(priority=1), item(priority=2)]
    )
    assert set(broker.sent) == {first.id, second.id, other.id}
    assert late.status is Status.QUEUED


def test_thousands_are_written_by_a_few_statements(database: Database) -> None:
    """How long that takes, `benchmarks/enqueue_many.py` says."""
    items = [item(f"n{n}", after=(Ref(f"n{(n - 1) // 2}"),) if n else ()) for n in range(3000)]
    statements = []
    event.listen(database.engine, "before_cursor_execute", lambda *args: statements.append(args[2]))
    assert len(submit_many(database, Broker(), items)) == len(items)
    assert len(statements) < 20
