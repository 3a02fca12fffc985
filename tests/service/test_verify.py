"""Every kind of damage is found, and nothing else; what can be mended is, in one transaction, and the rest is said."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple
from uuid import UUID, uuid4

import pytest
import uuid_utils.compat as uuid_utils
from sqlalchemy import Connection, text

from gsd_tasks.domain.errors import NoSuchSession, NotAllowed
from gsd_tasks.domain.policy import Ending, decide
from gsd_tasks.domain.session import Holder, OnLost, SessionId, SnapshotReason, Stream, Submission, WorkerId
from gsd_tasks.domain.state import Reason
from gsd_tasks.domain.submission import digest
from gsd_tasks.domain.transcript import Entry
from gsd_tasks.domain.verification import Damage
from gsd_tasks.service import snapshots
from gsd_tasks.service.verify import repair, verify
from gsd_tasks.store import Claim, Database, leases, outputs, repairs, transcript, transitions
from gsd_tasks.store import snapshots as stored
from gsd_tasks.store.leases import Progress
from tests.conversations import converse, line, print_rows, spoil
from tests.workers import register_worker

DONE = decide(Ending(reason=Reason.FINISHED, succeeded=True, exit_code=0), wanted=None, on_lost=OnLost.FAIL)
NOTHING: frozenset[Damage] = frozenset()
TORN = "UPDATE transcript SET entry = left(entry, 9), sha256 = sha256(convert_to(left(entry, 9), 'UTF8'))"
#: What no repair can bring back.
LASTING = {Damage.OUTPUT_MISSING, Damage.OUTPUT_DISORDERED, Damage.SNAPSHOT_UNKNOWN, Damage.HISTORY_BROKEN}
TABLES = ("sessions", "attempts", "session_outputs", "transcript", "snapshots", "session_history")


class Case(NamedTuple):
    """What is done to a session, what is found of it, what remains after a repair, and of the conversation then."""

    spoil: str
    found: frozenset[Damage] | set[Damage]
    remains: frozenset[Damage] | set[Damage] = NOTHING
    conversation: str = "{[1,)}"


#: Of a session with 8 output rows and 9 entries, the first 4 and 5 of which are of its first attempt, and with
#: snapshots at its entries 3, 6 and 9. Two findings of a damaged entry are the entry itself, and the last snapshot.
CASES = {
    "nothing": Case("SELECT 1", NOTHING),
    "other context": Case("""UPDATE sessions SET context = '{"b": 1}' WHERE id = :id""", NOTHING),
    "a row": Case(
        "DELETE FROM session_outputs WHERE session_id = :id AND seq = 3",
        {Damage.OUTPUT_MISSING},
        {Damage.OUTPUT_MISSING},
    ),
    "the last rows": Case(
        "DELETE FROM session_outputs WHERE session_id = :id AND seq > 6",
        {Damage.OUTPUT_MISSING},
        {Damage.OUTPUT_MISSING},
    ),
    "a row too many": Case(
        "INSERT INTO session_outputs SELECT session_id, 9, attempt, stream, written_at, data, raw, eol"
        "  FROM session_outputs WHERE session_id = :id AND seq = 8",
        {Damage.OUTPUT_UNCOUNTED},
    ),
    "a row too many after a hole": Case(
        "UPDATE session_outputs SET seq = 10 WHERE session_id = :id AND seq = 8",
        {Damage.OUTPUT_MISSING, Damage.OUTPUT_UNCOUNTED},
        {Damage.OUTPUT_MISSING},
    ),
    "a row's time": Case(
        "UPDATE session_outputs SET written_at = written_at - interval '2 s' WHERE session_id = :id AND seq = 7",
        {Damage.OUTPUT_DISORDERED},
        {Damage.OUTPUT_DISORDERED},
    ),
    "the time of another attempt's rows": Case(
        "UPDATE session_outputs SET written_at = written_at + interval '1 h' WHERE session_id = :id AND attempt = 1",
        NOTHING,
    ),
    "the time of another stream's row": Case(
        "UPDATE session_outputs SET written_at = written_at - interval '1 h', stream = 'stderr'"
        " WHERE session_id = :id AND seq = 7",
        NOTHING,
    ),
    "an entry's text": Case(
        "UPDATE transcript SET entry = replace(entry, '7', '8') WHERE session_id = :id AND seq = 7",
        {Damage.ENTRY_CHANGED, Damage.SNAPSHOT_BROKEN},
        conversation="{[1,7),[10,)}",
    ),
    "an entry's checksum": Case(
        "UPDATE transcript SET sha256 = sha256('') WHERE session_id = :id AND seq = 7",
        {Damage.ENTRY_CHANGED, Damage.SNAPSHOT_BROKEN},
        conversation="{[1,7),[10,)}",
    ),
    "an entry and its checksum": Case(
        "UPDATE transcript SET entry = :other, sha256 = sha256(convert_to(:other, 'UTF8'))"
        " WHERE session_id = :id AND seq = 7",
        {Damage.SNAPSHOT_BROKEN},
    ),
    "an entry as it was torn": Case(
        f"{TORN} WHERE session_id = :id AND seq = 7",
        {Damage.ENTRY_TORN, Damage.SNAPSHOT_BROKEN},
        conversation="{[1,7),[10,)}",
    ),
    "an entry": Case(
        "DELETE FROM transcript WHERE session_id = :id AND seq = 7",
        {Damage.ENTRY_MISSING, Damage.SNAPSHOT_BROKEN},
        conversation="{[1,7),[10,)}",
    ),
    "the last entry": Case(
        "DELETE FROM transcript WHERE session_id = :id AND seq = 9", {Damage.SNAPSHOT_BROKEN}, conversation="{[1,)}"
    ),
    "two entries, each in its way": Case(
        f"WITH gone AS (DELETE FROM transcript WHERE session_id = :id AND seq = 8)"
        f" {TORN} WHERE session_id = :id AND seq = 4",
        {Damage.ENTRY_MISSING, Damage.ENTRY_TORN, Damage.SNAPSHOT_BROKEN},
        conversation="{[1,4),[10,)}",
    ),
    "an entry before every snapshot": Case(
        f"{TORN} WHERE session_id = :id AND seq = 3",
        {Damage.ENTRY_TORN, Damage.SNAPSHOT_BROKEN},
        conversation="{[1,3),[10,)}",
    ),
    "the first entry": Case(
        f"{TORN} WHERE session_id = :id AND seq = 1",
        {Damage.ENTRY_TORN, Damage.SNAPSHOT_BROKEN},
        conversation="{[10,)}",
    ),
    "all entries": Case(
        "DELETE FROM transcript WHERE session_id = :id", {Damage.SNAPSHOT_BROKEN}, conversation="{[1,)}"
    ),
    "a snapshot's checksum": Case(
        "UPDATE snapshots SET sha256 = sha256('') WHERE session_id = :id AND last_entry = 6", {Damage.SNAPSHOT_BROKEN}
    ),
    "a snapshot's context": Case(
        """UPDATE snapshots SET context = '{"b": 1}' WHERE session_id = :id AND last_entry = 6""",
        {Damage.SNAPSHOT_BROKEN},
    ),
    "a snapshot's entries": Case(
        "UPDATE snapshots SET entries = '{[1,6)}' WHERE session_id = :id AND last_entry = 6", {Damage.SNAPSHOT_BROKEN}
    ),
    "a snapshot's format": Case(
        "UPDATE snapshots SET format = 2 WHERE session_id = :id AND last_entry = 6",
        {Damage.SNAPSHOT_UNKNOWN},
        {Damage.SNAPSHOT_UNKNOWN},
    ),
    "the last attempt's end": Case(
        "UPDATE attempts SET ended_at = NULL, reason = NULL, last_seq = NULL WHERE session_id = :id AND attempt = 2",
        {Damage.ATTEMPT_OPEN},
    ),
    "both attempts' ends": Case(
        "UPDATE attempts SET ended_at = NULL, reason = NULL, detail = NULL, last_seq = NULL WHERE session_id = :id",
        {Damage.ATTEMPT_OPEN},
    ),
    "a line of the history": Case(
        "DELETE FROM session_history WHERE session_id = :id AND to_status = 'completed'",
        {Damage.HISTORY_BROKEN},
        {Damage.HISTORY_BROKEN},
    ),
    "the session's attempt": Case(
        "UPDATE sessions SET attempt = 3 WHERE id = :id", {Damage.HISTORY_BROKEN}, {Damage.HISTORY_BROKEN}
    ),
    "the session's count of rows": Case(
        "UPDATE sessions SET last_seq = 5 WHERE id = :id", {Damage.OUTPUT_UNCOUNTED}, NOTHING
    ),
}


@pytest.fixture
def connection(database: Database) -> Iterator[Connection]:
    with database.connection() as connection:
        yield connection


@dataclass(frozen=True)
class Sessions:
    """Makes sessions on one connection."""

    connection: Connection
    worker: WorkerId

    def queued(self) -> SessionId:
        session_id = SessionId(uuid_utils.uuid7())
        request = Submission(prompt="Fix it", working_dir="/", context={"a": 1}, on_lost=OnLost.REQUEUE)
        written = transitions.enqueue(self.connection, session_id, request, digest(request))
        assert written is not None
        assert written.id == session_id
        return session_id

    def claimed(self, session_id: SessionId) -> Claim:
        claim = transitions.claim(
            self.connection, session_id, holder=Holder(uuid4()), worker_id=self.worker, slot=1, lease_s=30
        )
        assert claim is not None
        assert leases.mark_launching(self.connection, claim)
        return claim

    def ended(self) -> SessionId:
        """As `CASES` says, come there as sessions do."""
        session_id = self.queued()
        first = self.claimed(session_id)
        self._go_on(first, rows=4, entries=3)
        self._go_on(first, rows=0, entries=2, snapshot=False)
        (held,) = [held for held in leases.all_held(self.connection) if held.session_id == session_id]
        assert transitions.recover(self.connection, [held]).requeued == (session_id,)
        second = self.claimed(session_id)
        self._go_on(second, rows=0, entries=1)
        self._go_on(second, rows=4, entries=3)
        assert transitions.settle(self.connection, second, DONE)
        return session_id

    def _go_on(self, claim: Claim, *, rows: int, entries: int, snapshot: bool = True) -> None:
        which = {"id": claim.session.id}
        last = self.connection.execute(text("SELECT last_seq FROM leases WHERE session_id = :id"), which).scalar_one()
        print_rows(self.connection, claim.session.id, last + 1, last + rows, attempt=claim.attempt)
        converse(self.connection, claim.session.id, entries, attempt=claim.attempt)
        spoil(
            self.connection,
            "UPDATE leases SET last_seq = last_seq + :rows, last_entry = last_entry + :entries WHERE session_id = :id",
            rows=rows,
            entries=entries,
            **which,
        )
        if snapshot:
            assert stored.take(self.connection, claim.session.id, SnapshotReason.TURN)


@pytest.fixture
def made(connection: Connection) -> Sessions:
    return Sessions(connection, register_worker(connection))


def conversation(connection: Connection, session_id: SessionId) -> str:
    found = text("SELECT conversation::text FROM sessions WHERE id = :id")
    return str(connection.execute(found, {"id": session_id}).scalar_one())


def do_harm(connection: Connection, session_id: SessionId, statement: str) -> None:
    """Past every constraint that the server would hold against it."""
    values = {"id": session_id, **({"other": line(99)} if ":other" in statement else {})}
    connection.execute(text("SET session_replication_role = replica"))
    connection.execute(text(statement), values if ":id" in statement else {})
    connection.execute(text("SET session_replication_role = origin"))


def everything(connection: Connection) -> dict[str, list[str]]:
    """All that there is, as text."""
    return {table: sorted(connection.execute(text(f"SELECT t::text FROM {table} AS t")).scalars()) for table in TABLES}


def test_each_damage_is_found_and_no_other_and_mended_where_that_can_be(
    database: Database, connection: Connection, made: Sessions
) -> None:
    """On one database: each is another session, and what is done to one is found in no other."""
    untouched = made.ended()
    before_all = everything(connection)
    for name, case in CASES.items():
        session_id = made.ended()
        do_harm(connection, session_id, case.spoil)
        looked = verify(database, session_id)
        assert {finding.damage for finding in looked.findings} == case.found, name
        assert (looked.repairs, looked.remaining) == ((), looked.findings)
        mended = repair(database, session_id)
        assert (mended.findings, mended.session_id) == (looked.findings, session_id)
        assert {finding.damage for finding in mended.remaining} == case.remains, name
        assert bool(mended.repairs) is (case.found > case.remains), name
        assert verify(database, session_id).findings == mended.remaining, name
        assert repair(database, session_id).repairs == (), name
        assert conversation(connection, session_id) == case.conversation, name
    assert verify(database, untouched).findings == ()
    after_all = everything(connection)
    assert all(set(before_all[table]) <= set(after_all[table]) for table in TABLES), "of no other session anything"


def test_each_finding_says_where_and_what_it_means(database: Database, connection: Connection, made: Sessions) -> None:
    session_id = made.ended()
    do_harm(connection, session_id, "DELETE FROM session_outputs WHERE session_id = :id AND seq IN (2, 3, 8)")
    do_harm(connection, session_id, "UPDATE snapshots SET sha256 = sha256('') WHERE last_entry = 3")
    do_harm(connection, session_id, f"{TORN} WHERE seq IN (7, 8)")
    first, _, last = (one.id for one in reversed(stored.listed(connection, session_id)))
    mended = repair(database, session_id)
    assert [finding.what for finding in mended.findings] == [
        "output rows 2 to 3 are missing: what the child wrote there is lost",
        "output row 8 is missing: what the child wrote there is lost",
        "entries 7 to 8 are torn: no JSON object",
        f"snapshot {first} cannot be restored: its checksum is another, as its entries or its context were changed",
        f"snapshot {last} cannot be restored: entries 7 to 8 are damaged",
    ]
    newest = stored.listed(connection, session_id)[0].id
    cut = f"cut the conversation back to snapshot {newest}, the newest sound one before the damage"
    removed = f"removed what cannot be restored: snapshot {first}, snapshot {last}"
    assert mended.repairs == (f"{cut}: entries 7 to 9 are left out", removed)
    assert mended.remaining == mended.findings[:2]


def test_without_a_sound_snapshot_the_repair_says_so(
    database: Database, connection: Connection, made: Sessions
) -> None:
    some, none = made.ended(), made.ended()
    do_harm(connection, some, f"{TORN} WHERE session_id = :id AND seq = 3")
    do_harm(connection, none, f"{TORN} WHERE session_id = :id AND seq = 1")
    why = "as no snapshot before the damage is sound"
    assert f"back to entry 2, {why}: entries 3 to 9 are left out" in repair(database, some).repairs[0]
    assert f"back to its beginning, {why}: entries 1 to 9 are left out" in repair(database, none).repairs[0]


def test_a_closed_attempt_ended_as_the_history_tells(
    database: Database, connection: Connection, made: Sessions
) -> None:
    session_id = made.ended()
    columns = "attempt, ended_at, reason, detail, last_seq"
    ends = text(f"SELECT {columns} FROM attempts WHERE session_id = :id ORDER BY attempt")
    before = connection.execute(ends, {"id": session_id}).all()
    do_harm(connection, session_id, CASES["both attempts' ends"].spoil)
    do_harm(connection, session_id, CASES["a line of the history"].spoil)
    assert repair(database, session_id).repairs == ("closed attempt 1", "closed attempt 2")
    one, two = connection.execute(ends, {"id": session_id}).all()
    # Both are clocks of one statement.
    assert (one.reason, one.detail, one.last_seq) == (before[0].reason, before[0].detail, before[0].last_seq)
    assert abs((one.ended_at - before[0].ended_at).total_seconds()) < 1
    assert (two.reason, two.last_seq) == (Reason.INTERNAL, 8)
    assert "nobody has noted its end" in two.detail


def test_rows_that_nobody_counted_are_not_in_the_way_of_the_next_attempt(
    database: Database, connection: Connection, made: Sessions
) -> None:
    session_id = made.ended()
    do_harm(connection, session_id, CASES["a row too many"].spoil)
    assert repair(database, session_id).repairs == ("counted 9 output rows instead of 8",)
    counts = text("SELECT last_seq FROM attempts WHERE session_id = :id ORDER BY attempt")
    assert connection.execute(counts, {"id": session_id}).scalars().all() == [4, 9]
    assert transitions.follow_up(connection, session_id, "Go on")
    claim = made.claimed(session_id)
    batch = outputs.Batch()
    batch.add(Stream.STDOUT, datetime.now(UTC), b"line", eol=True)
    assert outputs.append(connection, claim, batch, Progress(9), Progress(10, 5, 0))
    assert verify(database, session_id).findings == ()


def test_a_conversation_that_was_cut_goes_on(database: Database, connection: Connection, made: Sessions) -> None:
    session_id = made.ended()
    do_harm(connection, session_id, CASES["an entry as it was torn"].spoil)
    repair(database, session_id)
    converse(connection, session_id, 2)
    live = [one.seq for page in transcript.live(connection, session_id) for one in page]
    assert live == [1, 2, 3, 4, 5, 6, 10, 11]
    taken = snapshots.take(database, session_id)
    assert taken.entries == ((1, 6), (10, 11))
    assert verify(database, session_id).findings == ()


def test_a_repair_that_fails_has_done_nothing(
    database: Database, connection: Connection, made: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    session_id = made.ended()
    do_harm(connection, session_id, CASES["two entries, each in its way"].spoil)
    do_harm(connection, session_id, CASES["both attempts' ends"].spoil)
    before = everything(connection)

    def fail(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(repairs, "close_attempt", fail)
    with pytest.raises(ZeroDivisionError):
        repair(database, session_id)
    assert everything(connection) == before
    monkeypatch.undo()
    assert repair(database, session_id).remaining == ()


def test_what_runs_is_looked_at_but_not_repaired(database: Database, connection: Connection, made: Sessions) -> None:
    session_id = made.queued()
    assert repair(database, session_id).remaining == ()
    made.claimed(session_id)
    assert verify(database, session_id).findings == ()
    spoil(connection, "UPDATE leases SET last_seq = 2, last_entry = 2")
    before = everything(connection)
    assert [finding.damage for finding in verify(database, session_id).findings] == [
        Damage.OUTPUT_MISSING,
        Damage.ENTRY_MISSING,
    ]
    with pytest.raises(NotAllowed, match="is running: wait for its end"):
        repair(database, session_id)
    assert everything(connection) == before


def test_nothing_is_found_in_a_session_at_work_however_fast_it_writes(
    database: Database, connection: Connection, made: Sessions
) -> None:
    """What is read one after the other is of one instant."""
    claim, looks = made.claimed(made.queued()), 0

    def work() -> int:
        with database.connection() as other:
            for number in itertools.count():
                if number >= 60 and looks > 3:
                    return number
                rows, entries = outputs.Batch(), transcript.Entries()
                rows.add(Stream.STDOUT, datetime.now(UTC), b"line", eol=True)
                assert outputs.append(other, claim, rows, Progress(number), Progress(number + 1, 5, 0))
                entries.add(number, Entry("user", None), line(number))
                assert transcript.append(other, claim, entries, before=number, after=number + 1)
                stored.take(other, claim.session.id, SnapshotReason.TURN, kept=3)
        raise AssertionError

    with ThreadPoolExecutor(1) as pool:
        working = pool.submit(work)
        try:
            while not working.done():
                assert verify(database, claim.session.id).findings == ()
                looks += 1
        finally:
            looks += 4  # enough
    done = verify(database, claim.session.id)
    assert (done.rows, done.entries, done.snapshots) == (working.result(), working.result(), 3)


def test_rows_of_a_session_that_there_is_not_are_told_by_its_whole_id_and_removed(
    database: Database, connection: Connection, made: Sessions
) -> None:
    gone, other = made.ended(), made.ended()
    connection.execute(text("SET session_replication_role = replica"))
    spoil(connection, "DELETE FROM sessions WHERE id = :id", id=gone)
    connection.execute(text("SET session_replication_role = origin"))
    for wanted in (gone, str(gone)):
        (finding,) = verify(database, wanted).findings
        assert finding.what == "8 output rows of a session that there is not: nobody can read them"
    with pytest.raises(NoSuchSession):
        verify(database, str(gone)[:35])
    mended = repair(database, gone)
    assert (mended.repairs, mended.remaining) == (("removed 8 output rows of no session",), ())
    assert connection.execute(text("SELECT DISTINCT session_id FROM session_outputs")).scalars().all() == [other]
    for unknown in (gone, UUID(int=7), "ffff", "no id"):
        with pytest.raises(NoSuchSession):
            verify(database, unknown)


@pytest.mark.parametrize("seed", range(3))
def test_after_any_damages_a_repair_leaves_what_is_sound(
    database: Database, connection: Connection, made: Sessions, seed: int
) -> None:
    chance = random.Random(seed)
    for _ in range(8):
        session_id = made.ended()
        chosen = chance.sample(sorted(CASES), chance.randint(2, 5))
        for name in chosen:
            do_harm(connection, session_id, CASES[name].spoil)
        mended = repair(database, session_id)
        assert {finding.damage for finding in mended.remaining} <= LASTING, chosen
        assert verify(database, session_id).findings == mended.remaining, chosen
        assert repair(database, session_id).repairs == (), chosen
        for snapshot in stored.listed(connection, session_id):
            if snapshot.format == 1 and snapshot.name is None:
                snapshots.restore(database, session_id, snapshot.id)
                assert {finding.damage for finding in verify(database, session_id).findings} <= LASTING, chosen


def test_of_a_session_at_rest_all_is_counted(database: Database, made: Sessions) -> None:
    looked = verify(database, made.ended())
    assert (looked.rows, looked.entries, looked.snapshots, looked.findings) == (8, 9, 3, ())
