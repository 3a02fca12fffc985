"""What is found in a session's facts: by values alone."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gsd_tasks.domain.errors import InvalidValue, NewerFormat
from gsd_tasks.domain.replay import replay
from gsd_tasks.domain.session import HistoryEntry, SnapshotReason
from gsd_tasks.domain.snapshot import DIGESTS, FORMAT, Snapshot, check_name, digest_1
from gsd_tasks.domain.soundness import Fault, Judged, Read, judge, read
from gsd_tasks.domain.spans import Span, clip, holes, in_words, runs, within
from gsd_tasks.domain.state import Reason, Status
from gsd_tasks.domain.verification import Facts, find_cut
from tests.sessions import AT, ID, entry

NUMBERS = st.lists(st.integers(1, 40), unique=True).map(sorted)


def snapshot(number: int, *entries: Span, last_entry: int | None = None, **fields: object) -> Snapshot:
    made = Snapshot(
        id=UUID(int=number),
        session_id=ID,
        reason=SnapshotReason.TURN,
        name=None,
        format=FORMAT,
        attempt=1,
        last_seq=0,
        last_entry=entries[-1][1] if last_entry is None else last_entry,
        entries=entries,
        context={},
        sha256="",
        size_bytes=1,
        at=AT + timedelta(seconds=number),
    )
    return replace(made, **fields)  # type: ignore[arg-type]


def facts(last: int, *, torn: tuple[int, ...] = (), lost: tuple[int, ...] = (), **fields: object) -> Facts:
    there = [seq for seq in range(1, last + 1) if seq not in lost]
    entries = {seq: Read(b"", Fault.TORN if seq in torn else None) for seq in there}
    made = Facts(session_id=ID, status=Status.PAUSED, attempt=1, last_seq=0, entries=entries, live=((1, last),))
    return replace(made, **fields)  # type: ignore[arg-type]


def step(came_from: Status | None, to: Status, reason: Reason, attempt: int) -> HistoryEntry:
    return entry(to, reason, attempt=attempt, came_from=came_from)


BORN = step(None, Status.QUEUED, Reason.ENQUEUED, 0)
CLAIMED = step(Status.QUEUED, Status.RUNNING, Reason.CLAIMED, 1)
ADOPTED = step(Status.RUNNING, Status.RUNNING, Reason.ADOPTED, 1)
DONE = step(Status.RUNNING, Status.COMPLETED, Reason.FINISHED, 1)


@given(NUMBERS, NUMBERS)
def test_spans_are_what_their_numbers_are(wanted: list[int], there: list[int]) -> None:
    spans = runs(wanted)
    assert [number for first, last in spans for number in range(first, last + 1)] == wanted
    assert all(one[1] + 1 < two[0] for one, two in pairwise(spans))
    assert list(within(spans, there)) == sorted(set(wanted) & set(there))
    assert [number for first, last in holes(spans, there) for number in range(first, last + 1)] == sorted(
        set(wanted) - set(there)
    )
    assert list(clip(spans, 20)) == runs([number for number in wanted if number <= 20])


def test_spans_are_said_in_words() -> None:
    assert in_words("entry", [(5, 5)]) == "entry 5 is"
    assert in_words("row", [(5, 7)]) == "rows 5 to 7 are"
    assert in_words("entry", [(1, 1), (3, 4)]) == "entries 1, 3 to 4 are"


@pytest.mark.parametrize(
    ("history", "status", "attempt"),
    [
        ([BORN], Status.QUEUED, 0),
        ([BORN, CLAIMED, ADOPTED, DONE], Status.COMPLETED, 1),
        ([BORN, CLAIMED, DONE, step(Status.COMPLETED, Status.QUEUED, Reason.FOLLOW_UP, 1)], Status.QUEUED, 1),
    ],
)
def test_a_history_that_leads_to_where_the_session_stands_is_right(
    history: list[HistoryEntry], status: Status, attempt: int
) -> None:
    assert replay(history, status, attempt) is None


@pytest.mark.parametrize(
    ("history", "said"),
    [
        ([], "it ends with nothing"),
        ([BORN, CLAIMED], "it ends running after 1 claims, and the session is completed in attempt 1"),
        ([CLAIMED, DONE], "it goes on from queued, and was nothing before"),
        ([BORN, DONE], "it goes on from running, and was queued before"),
        ([BORN, CLAIMED, replace(DONE, attempt=2)], "completed (finished) is of attempt 2, after 1 claims"),
        ([BORN, step(Status.QUEUED, Status.COMPLETED, Reason.FINISHED, 1)], "as nothing does"),
        ([step(None, Status.RUNNING, Reason.CLAIMED, 1), DONE], "it goes from nothing to running"),
        ([BORN, CLAIMED, DONE, DONE], "it goes on from running, and was completed before"),
    ],
)
def test_any_other_history_is_not(history: list[HistoryEntry], said: str) -> None:
    assert said in str(replay(history, Status.COMPLETED, 1))


def test_an_entry_is_read_anew() -> None:
    good = '{"type": "user"}'
    noted = hashlib.sha256(good.encode()).digest()
    assert read(good, noted) == Read(noted, None)
    assert read(good[:-1], noted).fault is Fault.CHANGED
    for torn in ('{"type": "us', "", "[]", "null"):
        assert read(torn, hashlib.sha256(torn.encode()).digest()).fault is Fault.TORN


def test_a_snapshot_is_judged_by_what_its_entries_are_now() -> None:
    entries = {seq: Read(bytes([seq]) * 32, None) for seq in range(1, 7)}
    sha256 = digest_1([(seq, bytes([seq]) * 32) for seq in (1, 2, 5)], "{}").hex()
    taken = snapshot(1, (1, 2), (5, 5), sha256=sha256)
    assert judge(taken, "{}", entries).is_sound
    assert judge(taken, "{}", {seq: one for seq, one in entries.items() if seq != 3}).is_sound, "it has no entry 3"
    assert "checksum" in str(judge(taken, '{"a": 1}', entries).broken)
    assert "checksum" in str(judge(replace(taken, entries=((1, 2), (4, 5))), "{}", entries).broken)
    assert "checksum" in str(judge(taken, "{}", entries | {5: Read(b"x" * 32, None)}).broken)
    assert judge(taken, "{}", entries | {2: Read(b"", Fault.TORN)}).broken == "entry 2 is damaged"
    del entries[1], entries[2]
    assert judge(taken, "{}", entries).broken == "entries 1 to 2 are missing"


def test_an_older_format_is_read_in_its_own_way_and_a_newer_one_is_not_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Format 0 stands in for one that a later version will have left behind."""
    monkeypatch.setitem(DIGESTS, 0, lambda entries, _: hashlib.sha256(b"".join(one for _, one in entries)).digest())
    entries = {1: Read(b"a" * 32, None)}
    old = snapshot(1, (1, 1), format=0, sha256=hashlib.sha256(b"a" * 32).hexdigest())
    assert judge(old, "any", entries).is_sound
    assert "checksum" in str(judge(replace(old, format=1), "any", entries).broken)
    new = judge(replace(old, format=2), "any", entries)
    assert (new.is_sound, new.broken) == (False, None)
    assert isinstance(new.newer, NewerFormat)
    assert "has format 2, and this version knows those up to 1: upgrade gsd-tasks" in str(new.newer)


def test_what_is_sound_is_not_cut() -> None:
    assert find_cut(facts(5)) is None
    assert find_cut(facts(5, torn=(3,), live=((1, 2), (4, 5)))) is None, "what it does not consist of hurts nobody"


@pytest.mark.parametrize(("torn", "lost", "last"), [((5,), (), 4), ((5,), (3,), 2), ((), (1,), 0), ((8, 4), (), 3)])
def test_without_a_snapshot_all_before_the_first_damage_is_kept(
    torn: tuple[int, ...], lost: tuple[int, ...], last: int
) -> None:
    cut = find_cut(facts(9, torn=torn, lost=lost))
    assert cut is not None
    assert (cut.last_entry, cut.snapshot) == (last, None)


def test_it_is_cut_at_the_newest_sound_snapshot_that_it_came_through() -> None:
    live = ((1, 3), (6, 12))
    good, later = snapshot(1, (1, 2)), snapshot(2, (1, 3), (6, 7), last_entry=8)
    of_branch, behind = snapshot(3, (1, 5)), snapshot(4, (1, 3), (6, 12))
    broken, unknown = snapshot(5, (1, 3), (6, 9)), snapshot(6, (1, 3), (6, 9))
    judged = (
        *(Judged(one, None) for one in (good, of_branch, behind)),
        Judged(broken, "it is"),
        Judged(unknown, None, NewerFormat("6", 2, 1)),
    )
    found = find_cut(facts(12, torn=(11,), live=live, snapshots=judged))
    assert found is not None
    assert (found.snapshot, found.last_entry) == (good, 2)
    # After it was restored, a snapshot may know of entries that it does not consist of.
    fitting = replace(later, entries=((1, 3), (6, 8)))
    found = find_cut(facts(12, torn=(11,), live=live, snapshots=(*judged, Judged(later, None), Judged(fitting, None))))
    assert found is not None
    assert (found.snapshot, found.last_entry) == (fitting, 8)


@pytest.mark.parametrize("name", ["", " ", "a\0b", "a\nb", "\udc80", "x" * 201])
def test_a_name_that_nobody_could_read_or_type_is_refused(name: str) -> None:
    with pytest.raises(InvalidValue):
        check_name(name)


def test_any_other_name_will_do() -> None:
    for name in ("good", "before the refactoring", "ü✓", "x" * 200):
        check_name(name)
