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
    "settled past an append": (r"DELETE FROM leases", r"(AND sessions.wanted IS NULL) FOR NO KEY UPDATE", r"\1"),
    "recovered although renewed": (r"AS seen", r"AND leases.renewals = seen.renewals", ""),
    "recovered although in other hands": (r"AS seen", r"AND leases.holder = seen.holder", ""),
    "recovered past what is locked": (r"AS seen", r"FOR NO KEY UPDATE OF \w+, \w+, \w+ SKIP LOCKED", ""),
    "a fork keeps off a recovery": (r"AS seen", r"FOR NO KEY UPDATE", "FOR UPDATE"),
    "recovered past a launch": (r"AS seen", r"OF sessions, leases, attempts", "OF sessions, leases"),
    "an earlier attempt is adopted": (r"leased AS", r"AND leases.attempt = \S+", ""),
    "adopted and not renewed": (
        r"leased AS",
        r"renewals=\(leases.renewals \+ [^)]*\)s::BIGINT\)",
        "renewals=leases.renewals",
    ),
    "adopted past an end": (r"leased AS", r" FOR NO KEY UPDATE\)", ")"),
    "launched after the end": (r"^UPDATE attempts", r"AND attempts.ended_at IS NULL", ""),
    "launched by a stranger": (r"^UPDATE attempts", r"AND leases.holder = [^)]*\)s::UUID", ""),
    "claimed twice": (r"begun AS", r"FOR NO KEY UPDATE SKIP LOCKED", ""),
    "claimed too early": (r"begun AS", r"AND \(sessions.run_at IS NULL[^)]*\(\)\)", ""),
    "cancelled past a claim": (r"^WITH before(?!.*leases)", r"FOR NO KEY UPDATE\)", ")"),
    "a cancel is taken back": (r"SET wanted=NULL", r"AND sessions.wanted = \S+", ""),
    "a pause replaces a cancel": (r"SET wanted=%", r"AND sessions.wanted IS DISTINCT FROM \S+", ""),
    "deleted while it runs": (r"^WITH ended AS", r"AND sessions.status IN \([^)]*\)s[^)]*\)s[^)]*\)s::VARCHAR\)", ""),
    "a stranger writes an entry": (r"INSERT INTO transcript", r"AND holder = %\(holder\)b", ""),
    "an entry is written twice": (r"INSERT INTO transcript", r"AND transcript_bytes = %\(before\)b", ""),
    "begun in the middle": (r"^UPDATE leases", r"AND leases.transcript_bytes IN \([^)]*\)s[^)]*\)s::BIGINT\)", ""),
    "entries are numbered from 1 again": (r"begun AS", r"max\(transcript.seq\)", r"0 * \g<0>"),
    "completed past a message": (r"DELETE FROM leases", r"(?<!NULL )AND sessions.last_message <= \S+", ""),
    "failed past a message": (r"DELETE FROM leases", r"(AND sessions.wanted IS NULL) AND \S+ <= \S+", r"\1"),
    "a message to what has ended": (
        r"^WITH numbered",
        r"AND sessions.status IN \([^)]*\)s[^)]*\)s[^)]*\)s::VARCHAR\)",
        "",
    ),
    "an interrupt before it runs": (r"^WITH numbered", r"AND sessions.status IN \([^)]*\)s::VARCHAR\)", ""),
    "a message to a command": (r"^WITH numbered", r"AND sessions.kind = \S+", ""),
    "a follow-up of what is queued": (r"said AS", r"AND sessions.status IN .* FOR", "FOR"),
    "a follow-up with old tries": (r"said AS", r"tries=\S+ recoveries=\S+", ""),
    "claimed while it waits": (r"begun AS", r"AND NOT sessions.waits", ""),
    "let go too early": (r"^WITH ready", r"AND NOT \(EXISTS .*(?= FOR NO KEY)", ""),
    "let go by a failure": (r"^WITH ready", r"dependencies.kind = \S+ AND ", ""),
    "let go past a lock": (r"^WITH ready", r"FOR NO KEY UPDATE OF sessions SKIP LOCKED", ""),
    "let go and not waited": (r"^WITH ready", r"AND sessions.waits", ""),
    "given up in any case": (r"AS broken", r"AND dependencies.kind = \S+", ""),
    "deleted while it is waited for": (r"^WITH ended AS", r"AND NOT \(EXISTS .*?(?= RETURNING sessions.id)", ""),
    "an end without its history": (
        r"DELETE FROM leases",
        r"FROM moved JOIN before ON before.id = moved.id",
        r"\g<0> WHERE false",
    ),
}


#: Without `INTERLEAVINGS=2`.
USUAL: Final = (
    "a stranger appends",
    "recovered although renewed",
    "an earlier attempt is adopted",
    "an entry is written twice",
    "completed past a message",
    "let go too early",
)


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
