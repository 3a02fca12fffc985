"""No statement of a prune reads more than it is about: each is carried out among many, and Postgres says how."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

import pytest

from gsd_tasks.domain.retention import Rule
from gsd_tasks.domain.session import SessionId
from gsd_tasks.domain.state import FINAL, Status
from gsd_tasks.local.embedded import EmbeddedServers
from gsd_tasks.store import Connection, Database, bygone, ended, leftovers, records
from gsd_tasks.store.ended import Found, Place
from tests.databases import own_database
from tests.store import filling
from tests.store.filling import LARGE, session_id
from tests.store.plans import MODES, explained, statements

ENDED: Final = 20_000
FILLED: Final = filling.numbers(ENDED)
PAGE: Final = 50
AFTER: Final = 10_000
#: A session, what belongs to it, and what is asked of those that may need it.
EACH: Final = 15


class Case(NamedTuple):
    """A statement, and how many rows of the large tables it may look at."""

    rows: int
    run: Callable[[Connection], Any]


def place(number: int) -> Place:
    return Place(filling.moment(number), session_id(number))


def some() -> list[Found]:
    """Those of the middle: they are neither the first of the index nor the last."""
    return [Found(place(number), 1, 12) for number in range(AFTER, AFTER + PAGE)]


def page(connection: Connection, statuses: frozenset[Status] = FINAL) -> list[Found]:
    return ended.page(
        connection, statuses, before=place(ENDED), after=place(AFTER), limit=PAGE, counted_rows=1000
    ).found


CASES: Final[dict[str, Case]] = {
    "ended.bound by age": Case(0, lambda c: ended.bound(c, Rule(older_than_s=60))),
    # Some end in the same moment.
    "ended.bound by number": Case(
        2 * PAGE, lambda c: ended.bound(c, Rule(keep=PAGE, statuses=frozenset({Status.COMPLETED})))
    ),
    "ended.page": Case(2 * EACH * PAGE, page),
    "ended.page of some": Case(2 * EACH * PAGE, lambda c: page(c, frozenset({Status.COMPLETED}))),
    "ended.count": Case(EACH * PAGE, lambda c: ended.count(c, FINAL, place(PAGE))),
    "ended.remove": Case(EACH * PAGE, lambda c: ended.remove(c, some())),
    "ended.remove_without_rows": Case(EACH, lambda c: ended.remove_without_rows(c, some()[0])),
    "leftovers.walk": Case(2 * PAGE + 2, lambda c: leftovers.walk(c, session_id(AFTER), limit=PAGE).last),
    "leftovers.trim": Case(4, lambda c: not leftovers.trim(c, session_id(AFTER), before_seq=9, weight=100).rows),
    "leftovers.has_gone": Case(1, lambda c: not leftovers.has_gone(c, session_id(AFTER))),
    "leftovers.known": Case(PAGE, lambda c: leftovers.known(c, [found.id for found in some()])),
    "records.of_several": Case(EACH * PAGE, lambda c: records.of_several(c, [found.id for found in some()])),
    "records.rows_of_several": Case(EACH * PAGE, lambda c: records.rows_of_several(c, [found.id for found in some()])),
    "bygone.remove_recoveries": Case(0, lambda c: not bygone.remove_recoveries(c, older_than_s=60)),
    "bygone.remove_tokens": Case(0, lambda c: not bygone.remove_tokens(c, older_than_s=60)),
    "bygone.remove_workers": Case(bygone.MOST_OLD + 1, lambda c: not bygone.remove_workers(c, older_than_s=60)),
}


@pytest.fixture(scope="module")
def filled(servers: EmbeddedServers) -> Iterator[Database]:
    with own_database(servers) as url:
        database = Database(url)
        try:
            filling.fill(url, FILLED)
            filling.analyze(url)
            yield database
        finally:
            database.close()


@pytest.mark.parametrize("mode", MODES)
def test_a_statement_looks_at_no_more_than_it_is_about(filled: Database, mode: str) -> None:
    for name, case in CASES.items():
        with explained(filled, mode) as (connection, plans):
            assert case.run(connection), f"{name} did nothing, so its plan shows nothing"
        for plan in plans:
            assert not plan.scanned() & LARGE, f"{name}: {plan}"
            assert plan.rows(LARGE) <= case.rows, f"{name}: {plan}"
            assert plan.pages <= 300 + 30 * case.rows, f"{name}: {plan}"


def test_each_statement_is_among_them() -> None:
    assert {name.partition(" ")[0] for name in CASES} == statements(ended, leftovers, records, bygone)


def test_the_walk_finds_what_has_lost_its_session(filled: Database) -> None:
    lost = session_id(AFTER)
    with filled.engine.connect().execution_options(isolation_level="READ COMMITTED") as connection:
        connection.exec_driver_sql("SET LOCAL session_replication_role = replica")
        connection.exec_driver_sql("DELETE FROM sessions WHERE id = %s", (lost,))
        found: list[SessionId] = []
        steps = 0
        last: SessionId | None = leftovers.FIRST
        while last is not None:
            walked = leftovers.walk(connection, last, limit=1000)
            found += walked.gone
            steps, last = steps + 1, walked.last
        connection.rollback()
    assert (found, steps) == ([lost], (ENDED + filling.RUNNING) // 1000 + 1)
