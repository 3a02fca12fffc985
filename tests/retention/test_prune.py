"""Ended sessions go when the rule lets them go, whole, and never one that is still needed."""

from __future__ import annotations

import random
from typing import Any

import pytest

from gsd_tasks.domain.errors import InvalidValue
from gsd_tasks.domain.retention import Pruned, Rule
from gsd_tasks.domain.session import SessionId, Stream
from gsd_tasks.domain.state import Status
from gsd_tasks.service import retention
from gsd_tasks.service.retention import Prune, foresee
from gsd_tasks.store import Database, ended, leftovers, transitions
from tests.retention.scenery import DAY_S, Scenery

MONTH = Rule(older_than_s=30 * DAY_S)


def prune(database: Database, rule: Rule = MONTH, **how: Any) -> Pruned:
    return Prune(database, rule, **how).run()


def test_what_is_older_goes_with_everything_that_is_its_own(database: Database, scenery: Scenery) -> None:
    old, young = scenery.ended(days_ago=31), scenery.ended(days_ago=29)

    assert foresee(database, MONTH).sessions == 1
    pruned = prune(database)

    assert (pruned.sessions, pruned.rows) == (1, 2)
    assert scenery.traces(old) == {}
    assert scenery.traces(young) == {"sessions": 1, "attempts": 1, "session_history": 3, "session_outputs": 2}


def test_the_newest_stay_however_old_they_are(database: Database, scenery: Scenery) -> None:
    old = [scenery.ended(days_ago=days) for days in (50, 40, 60)]

    prune(database, Rule(keep=2))

    assert scenery.ids() == {old[0], old[1]}
    assert not prune(database, Rule(older_than_s=45 * DAY_S, keep=2)), "what either of them keeps, stays"
    assert prune(database, Rule(older_than_s=45 * DAY_S, keep=1)).sessions == 1
    assert not prune(database, Rule()), "what says nothing, keeps all"
    assert prune(database, Rule(keep=0)).sessions == 1


def test_only_those_of_a_status_go_and_only_they_count(database: Database, scenery: Scenery) -> None:
    done = [scenery.ended(days_ago=days) for days in (50, 40)]
    failed = [scenery.ended(days_ago=days, succeeded=False) for days in (70, 60)]

    prune(database, Rule(keep=1, statuses=frozenset({Status.FAILED})))

    assert scenery.ids() == {*done, failed[1]}


def test_a_rule_for_what_has_not_ended_is_refused() -> None:
    with pytest.raises(InvalidValue, match="ended"):
        Rule(keep=0, statuses=frozenset({Status.QUEUED}))
    with pytest.raises(InvalidValue, match="keep"):
        Rule(keep=-1)


def test_what_has_not_ended_stays_whatever_the_rule(database: Database, scenery: Scenery) -> None:
    queued, running = scenery.queued(), scenery.running().session.id
    paused = scenery.queued()
    with database.connection() as connection:
        assert transitions.pause_idle(connection, paused)

    prune(database, Rule(keep=0))

    assert scenery.ids() == {queued, running, paused}


def test_what_somebody_waits_for_stays_until_he_has_gone(database: Database, scenery: Scenery) -> None:
    awaited, failed = scenery.ended(), scenery.ended(succeeded=False)
    follower = scenery.queued(after=(awaited, failed))
    given_up = scenery.queued(after=(failed,))
    with database.connection() as connection:
        assert transitions.give_up(connection, [given_up])
    parent = scenery.ended()
    child = scenery.running(parent_id=parent)

    pruned = prune(database, Rule(keep=0))

    # Tried again, what was given up would wait once more: it goes first, and then what it waited for; but that has
    # another one who waits.
    assert scenery.ids() == {awaited, failed, follower, parent, child.session.id}
    assert (pruned.sessions, pruned.needed) == (1, 3)

    scenery.settle(child)
    with database.connection() as connection:
        assert transitions.cancel_idle(connection, follower)
    assert prune(database, Rule(keep=0)).sessions == 5, "one after the other, in one run"
    assert scenery.ids() == set()


def test_a_child_that_stays_forgets_its_parent(database: Database, scenery: Scenery) -> None:
    parent = scenery.ended(days_ago=50)
    child = scenery.ended(days_ago=10, parent_id=parent)

    prune(database)

    assert scenery.ids() == {child}
    assert scenery.value("SELECT parent_id IS NULL FROM sessions WHERE id = :id", id=child)


def test_a_limit_bounds_a_run_and_the_oldest_go_first(database: Database, scenery: Scenery) -> None:
    old = [scenery.ended(days_ago=days) for days in (40, 60, 50, 70)]

    assert prune(database, limit=3).sessions == 3
    assert scenery.ids() == {old[0]}


def test_what_has_too_many_rows_goes_first_and_its_rows_in_pages(
    database: Database, scenery: Scenery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By number, or by size: a long value is many rows for Postgres."""
    monkeypatch.setattr(retention, "MOST_WEIGHT", 40)
    long = scenery.ended(lines=[(Stream.STDOUT, b"%d" % number, True) for number in range(100)])
    wide = scenery.ended(lines=[(Stream.STDOUT, random.Random(1).randbytes(100_000), True)] * 5)
    small = [scenery.ended() for _ in range(7)]
    statements: list[leftovers.Trimmed] = []
    trim = leftovers.trim

    def noted(*given: Any, **more: Any) -> leftovers.Trimmed:
        statements.append(trim(*given, **more))
        return statements[-1]

    monkeypatch.setattr(leftovers, "trim", noted)
    pruned = prune(database)

    assert (pruned.sessions, pruned.rows) == (9, 119)
    assert [scenery.traces(id_) for id_ in (long, wide, *small)] == [{}] * 9
    assert [trimmed.rows for trimmed in statements] == [40, 40, 20, 0, 1, 1, 1, 1, 1, 0]


def test_what_somebody_has_locked_is_left_for_the_next_run(database: Database, scenery: Scenery) -> None:
    _, locked = scenery.ended(), scenery.ended()
    impatient = Database(database.engine.url.render_as_string(hide_password=False), lock_timeout_s=0.2)
    lock = "SELECT FROM sessions WHERE id = %s FOR UPDATE"

    with database.transaction("READ COMMITTED") as holding:
        holding.exec_driver_sql(lock, (locked,))
        prune(impatient)
        assert scenery.ids() == {locked}, "and nobody waits for it"
    parent = scenery.ended()
    child = scenery.ended(days_ago=1, parent_id=parent)
    with database.transaction("READ COMMITTED") as holding:
        holding.exec_driver_sql(lock, (child,))
        prune(impatient)
        assert scenery.ids() >= {parent, child}, "the child's row would have to change"
    impatient.close()
    assert prune(database)
    assert scenery.ids() == {child}


def test_those_who_remove_take_turns(database: Database, scenery: Scenery) -> None:
    """One's parent and another's child would lock each other out else."""
    scenery.ended()
    impatient = Database(database.engine.url.render_as_string(hide_password=False), lock_timeout_s=0.2)
    with database.transaction("READ COMMITTED") as removing:
        removing.exec_driver_sql("SELECT pg_advisory_xact_lock(%s)", (ended.TURN_LOCK,))
        assert prune(impatient).sessions == 0
    assert prune(impatient).sessions == 1
    impatient.close()


def test_a_session_that_goes_on_between_the_look_and_the_removal_stays(
    database: Database, scenery: Scenery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each who came between: one that was retried, retried and ended anew, and one that somebody waits for by now."""
    retried, ended_anew, awaited, gone = (scenery.ended(succeeded=False) for _ in range(4))
    remove = ended.remove

    removed: list[SessionId] = []

    def late(*given: Any) -> list[SessionId]:
        with database.connection() as connection:
            assert transitions.retry(connection, retried)
            assert transitions.retry(connection, ended_anew)
        scenery.ended(ended_anew, days_ago=99)
        scenery.queued(after_any=(awaited,))
        monkeypatch.setattr(ended, "remove", remove)
        removed.extend(remove(*given))
        return removed

    monkeypatch.setattr(ended, "remove", late)
    prune(database)

    assert removed == [gone]
    assert {retried, awaited} <= scenery.ids()


def test_what_is_cut_off_is_gone_on_with(database: Database, scenery: Scenery, monkeypatch: pytest.MonkeyPatch) -> None:
    """A session is whole, or gone for everybody: what rows are left of it, the next run removes."""
    monkeypatch.setattr(retention, "MOST_WEIGHT", 40)
    long = scenery.ended(lines=[(Stream.STDOUT, b"%d" % number, True) for number in range(100)])
    other = scenery.ended(days_ago=1)

    class Cut(Exception):
        pass

    trimmed: list[leftovers.Trimmed] = []
    trim = leftovers.trim

    def cut(*given: Any, **more: Any) -> leftovers.Trimmed:
        if trimmed:
            raise Cut
        trimmed.append(trim(*given, **more))
        return trimmed[-1]

    monkeypatch.setattr(leftovers, "trim", cut)
    with pytest.raises(Cut):
        prune(database)
    assert scenery.traces(long) == {"session_outputs": 60}
    assert [row.seq for row in scenery.rows(long)] == [*range(1, 61)], "the first ones, without a gap"

    monkeypatch.setattr(leftovers, "trim", trim)
    assert prune(database).leftover_rows == 60
    assert scenery.traces(long) == {}
    assert len(scenery.rows(other)) == 2
