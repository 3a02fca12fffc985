"""What belongs to no session goes after a while, and not before nobody needs it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from gsd_tasks.domain.retention import Pruned, Rule
from gsd_tasks.domain.session import SessionId, WorkerId
from gsd_tasks.domain.tokens import Scope
from gsd_tasks.service import tokens
from gsd_tasks.service.node import Node
from gsd_tasks.service.retention import Prune
from gsd_tasks.settings import Settings
from gsd_tasks.store import Database, bygone
from tests.retention.scenery import Scenery
from tests.service.messages import unsaid
from tests.workers import register_worker

OLD, YOUNG = "40 days", "20 days"


def prune(database: Database) -> Pruned:
    return Prune(database, Rule()).run()


def ids(scenery: Scenery, table: str) -> set[Any]:
    return set(scenery.value(f"SELECT coalesce(array_agg(id), '{{}}') FROM {table}"))


def test_recoveries_go_when_they_are_old_and_told(database: Database, scenery: Scenery) -> None:
    """Or were given up: what is yet to be told stays, however old it is."""
    ages = {1: (OLD, True, 1), 2: (OLD, False, 3), 3: (OLD, False, 20), 4: (YOUNG, True, 1)}
    for number, (age, is_told, tells) in ages.items():
        scenery.execute(
            "INSERT INTO recoveries (id, requeued, failed, cancelled, paused, at, tells, told_at)"
            " VALUES (:id, '{}', '{}', '{}', '{}', now() - CAST(:age AS interval), :tells,"
            " CASE WHEN :is_told THEN now() END)",
            id=number, age=age, tells=tells, is_told=is_told,
        )  # fmt: skip

    assert prune(database).recoveries == 2
    assert ids(scenery, "recoveries") == {2, 4}


def test_tokens_go_a_while_after_they_are_good_for_nothing(database: Database, scenery: Scenery) -> None:
    made = {name: tokens.create(database, name, [Scope.READ], 3600)[0].id for name in "abcdef"}
    for name, column, age in (("a", "revoked_at", OLD), ("b", "revoked_at", YOUNG), ("c", "expires_at", OLD)):
        scenery.execute(f"UPDATE tokens SET {column} = now() - interval '{age}' WHERE name = :name", name=name)
    scenery.execute("UPDATE tokens SET expires_at = NULL, created_at = now() - interval '9 years' WHERE name = 'd'")

    assert prune(database).tokens == 2
    assert ids(scenery, "tokens") == {made[name] for name in "bdef"}


def test_a_worker_goes_when_it_is_long_gone_and_no_history_names_it(database: Database, scenery: Scenery) -> None:
    names = ("gone", "stopped", "alive", "lately", "ran", "adopted", "was named", "holds")
    with database.connection() as connection:
        made = {name: register_worker(connection, name) for name in names}
    status = {"alive": "alive", "gone": "gone"}
    for name, id_ in made.items():
        age = YOUNG if name == "lately" else OLD
        scenery.execute(
            "UPDATE workers SET seen_at = now() - CAST(:age AS interval), status = :status WHERE id = :id",
            age=age, status=status.get(name, "stopped"), id=id_,
        )  # fmt: skip
    claim = scenery.running()
    scenery.execute("UPDATE leases SET worker_id = :id", id=made["holds"])
    _make_old(scenery, claim.session.id, made)

    assert prune(database).workers == 2
    assert ids(scenery, "workers") == {*made.values(), scenery.worker} - {made["gone"], made["stopped"]}


def _make_old(scenery: Scenery, session_id: SessionId, made: dict[str, WorkerId]) -> None:
    """A session of long ago that is there still; its histories name some of these workers."""
    ago = int((datetime.now(UTC) - timedelta(days=50)).timestamp() * 1000)
    old = UUID(int=ago << 80 | 7 << 76 | 2 << 62)
    scenery.execute(
        "INSERT INTO sessions SELECT (jsonb_populate_record(s, jsonb_build_object('id', CAST(:old AS text), 'status',"
        " 'queued', 'worker_id', CAST(:worker AS text)))).* FROM sessions s WHERE id = :id",
        id=session_id, old=str(old), worker=str(made["ran"]),
    )  # fmt: skip
    scenery.execute(
        "INSERT INTO attempts (session_id, attempt, holder, worker_id, slot, first_seq)"
        " VALUES (:old, 1, gen_random_uuid(), :worker, 1, 1)",
        old=old, worker=made["adopted"],
    )  # fmt: skip
    scenery.execute(
        "INSERT INTO session_history (session_id, to_status, attempt, reason, worker_id)"
        " VALUES (:old, 'running', 1, 'claimed', :worker)",
        old=old, worker=made["was named"],
    )  # fmt: skip


def test_where_many_old_sessions_are_kept_no_worker_goes(
    database: Database, scenery: Scenery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their histories would all have to be searched for its name."""
    scenery.execute("UPDATE workers SET seen_at = now() - interval '9 years', status = 'gone'")
    monkeypatch.setattr(bygone, "MOST_OLD", 0)
    _make_old(scenery, scenery.queued(), dict.fromkeys(("ran", "adopted", "was named"), WorkerId(uuid4())))

    assert prune(database).workers == 0
    monkeypatch.undo()
    assert prune(database).workers == 1


def test_a_worker_that_comes_back_after_all_is_known_again(
    database: Database, scenery: Scenery, settings: Settings, database_url: str, redis_url: str
) -> None:
    node = Node(settings, database_url=database_url, redis_url=redis_url, publish=unsaid, name="back@here")
    node.start()
    try:
        scenery.execute("DELETE FROM workers WHERE id = :id", id=node.id)
        node._be_seen()
        assert scenery.value("SELECT name FROM workers WHERE id = :id", id=node.id) == "back@here"
    finally:
        node.stop()
    assert scenery.value("SELECT status FROM workers WHERE id = :id", id=node.id) == "stopped"


def test_pages_are_bounded_and_all_of_them_are_taken(
    database: Database, scenery: Scenery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bygone, "PAGE", 2)
    for number in range(5):
        scenery.execute(
            "INSERT INTO recoveries (id, requeued, failed, cancelled, paused, at, told_at)"
            " VALUES (:id, '{}', '{}', '{}', '{}', '2000-01-01', now())",
            id=number,
        )
    assert prune(database).recoveries == 5
