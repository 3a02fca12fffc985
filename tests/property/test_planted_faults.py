"""The pairs and the random walks find what they are there to find: each guard is taken out of its statement once."""

from __future__ import annotations

import re
from typing import Any, Final

import pytest
from hypothesis import Phase, settings
from sqlalchemy import event

from gsd_tasks.store import Database
from tests.property.steps import SCALE
from tests.property.test_interleavings import WALKS, walk
from tests.property.test_pairs import ALONE, MORE_STANDS, STANDS, all_pairs, each_alone
from tests.property.world import Bench

#: (what, where: a part of the statement; what is replaced there, by what)
FAULTS: Final = {
    "a stranger appends": (r"INSERT INTO session_outputs", r"AND holder = %\(holder\)b", ""),
    "a batch is appended twice": (r"INSERT INTO session_outputs", r"AND last_seq = %\(last_seq\)b", ""),
    "a stranger renews": (r"^UPDATE leases", r"AND leases.holder = \S+", ""),
    "a stranger settles": (r"FROM before.*DELETE FROM leases", r"AND leases.holder = \S+", ""),
    "settled past a wish": (r"DELETE FROM leases", r"AND sessions.wanted IS NULL", ""),
    "settled past an append": (r"DELETE FROM leases", r"(AND sessions.wanted IS NULL) FOR UPDATE", r"\1"),
    "recovered although renewed": (r"AS seen", r"AND leases.renewals = seen.renewals", ""),
    "recovered although in other hands": (r"AS seen", r"AND leases.holder = seen.holder", ""),
    "recovered past what is locked": (r"AS seen", r"FOR UPDATE OF sessions, leases, attempts SKIP LOCKED", ""),
    "recovered past a launch": (r"AS seen", r"OF sessions, leases, attempts", "OF sessions, leases"),
    "an earlier attempt is adopted": (r"leased AS", r"AND leases.attempt = \S+", ""),
    "adopted and not renewed": (
        r"leased AS",
        r"renewals=\(leases.renewals \+ [^)]*\)s::BIGINT\)",
        "renewals=leases.renewals",
    ),
    "adopted past an end": (r"leased AS", r" FOR UPDATE\)", ")"),
    "launched after the end": (r"^UPDATE attempts", r"AND attempts.ended_at IS NULL", ""),
    "launched by a stranger": (r"^UPDATE attempts", r"AND leases.holder = [^)]*\)s::UUID", ""),
    "claimed twice": (r"begun AS", r"FOR UPDATE SKIP LOCKED", ""),
    "claimed too early": (r"begun AS", r"AND \(sessions.run_at IS NULL[^)]*\(\)\)", ""),
    "cancelled past a claim": (r"^WITH before(?!.*leases)", r"FOR UPDATE\)", ")"),
    "a cancel is taken back": (r"SET wanted=NULL", r"AND sessions.wanted = \S+", ""),
    "a pause replaces a cancel": (r"SET wanted=%", r"AND sessions.wanted IS DISTINCT FROM \S+", ""),
    "deleted while it runs": (r"^WITH ended AS", r"AND sessions.status IN \([^)]*\)s[^)]*\)s[^)]*\)s::VARCHAR\)", ""),
    "an end without its history": (
        r"DELETE FROM leases",
        r"FROM moved JOIN before ON before.id = moved.id",
        r"\g<0> WHERE false",
    ),
}


#: Without `INTERLEAVINGS=2`.
USUAL: Final = ("a stranger appends", "recovered although renewed", "an earlier attempt is adopted")


@pytest.mark.timeout(600)
@pytest.mark.parametrize("fault", FAULTS if SCALE > 1 else USUAL)
def test_a_walk_finds_a_guard_that_is_missing(database: Database, bench: Bench, fault: str) -> None:
    where, what, instead = FAULTS[fault]
    planted = 0

    def plant(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> tuple[str, Any]:
        nonlocal planted
        in_one_line = re.sub(r"\s+", " ", statement).strip()
        if not re.search(where, in_one_line):
            return statement, parameters
        changed, times = re.subn(what, instead, in_one_line)
        planted += times
        return changed, parameters

    event.listen(database.engine, "before_cursor_execute", plant, retval=True)
    with pytest.raises(Exception):  # noqa: B017  (an assertion or what the database says, and both are good)
        search(bench)
    assert planted


def search(bench: Bench) -> None:
    for how in ALONE:
        each_alone(bench, how)
    for how in STANDS | MORE_STANDS:
        all_pairs(bench, how)
    walk(bench, settings(max_examples=20 * WALKS, phases=[Phase.generate]))
