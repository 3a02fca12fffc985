"""What can be wrong with what Postgres has of a session; found in its facts, without looking at Postgres again.

Source of what is right: the invariants of `docs/reliability.md`, and the table of transitions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from gsd_tasks.domain.replay import replay
from gsd_tasks.domain.session import HistoryEntry, SessionId
from gsd_tasks.domain.snapshot import Snapshot
from gsd_tasks.domain.soundness import Entries, Fault, Judged
from gsd_tasks.domain.spans import Span, clip, holes, in_words, runs, within
from gsd_tasks.domain.state import Status


class Damage(StrEnum):
    """What kinds of it there are."""

    OUTPUT_MISSING = "output_missing"
    OUTPUT_UNCOUNTED = "output_uncounted"
    OUTPUT_DISORDERED = "output_disordered"
    OUTPUT_ORPHANED = "output_orphaned"
    ENTRY_MISSING = "entry_missing"
    ENTRY_CHANGED = "entry_changed"
    ENTRY_TORN = "entry_torn"
    SNAPSHOT_BROKEN = "snapshot_broken"
    SNAPSHOT_UNKNOWN = "snapshot_unknown"
    ATTEMPT_OPEN = "attempt_open"
    HISTORY_BROKEN = "history_broken"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong: of which kind, and in a sentence which, and what it means."""

    damage: Damage
    what: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """What was looked at, and what was found; after a repair also what that did.

    `remaining` is what is wrong now: without a repair, what was found.
    """

    session_id: SessionId
    rows: int
    entries: int
    snapshots: int
    findings: tuple[Finding, ...]
    repairs: tuple[str, ...] = ()
    remaining: tuple[Finding, ...]


@dataclass(frozen=True, slots=True)
class Disorder:
    """So many rows of one attempt's stream that were written before the row before them; the first of them."""

    attempt: int
    stream: str
    rows: int
    first_seq: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What Postgres has of one session. `live` are the entries that its conversation should consist of.

    `uncounted` are output rows after `last_seq`; `open_attempts` those without an end, but for one that runs.
    """

    session_id: SessionId
    status: Status
    attempt: int
    last_seq: int
    missing_rows: tuple[Span, ...] = ()
    uncounted: Span | None = None
    disordered: tuple[Disorder, ...] = ()
    entries: Entries = field(default_factory=dict)
    live: tuple[Span, ...] = ()
    snapshots: tuple[Judged, ...] = ()
    open_attempts: tuple[int, ...] = ()
    history: tuple[HistoryEntry, ...] = ()


@dataclass(frozen=True, slots=True)
class Cut:
    """Up to which entry a damaged conversation is sound, and the snapshot of that point, where there is one."""

    last_entry: int
    snapshot: Snapshot | None


_MEANS: Final[Mapping[Damage, str]] = {
    Damage.ENTRY_MISSING: "missing: the conversation has a hole",
    Damage.ENTRY_CHANGED: "not what was written: the checksum is another",
    Damage.ENTRY_TORN: "torn: no JSON object",
}


def examine(facts: Facts) -> tuple[Finding, ...]:
    """Everything that is wrong."""
    return (*_of_output(facts), *_of_transcript(facts), *_of_snapshots(facts), *_of_course(facts))


def orphaned(rows: int) -> Finding:
    """What is wrong with output rows that belong to no session."""
    return Finding(Damage.OUTPUT_ORPHANED, f"{count_rows(rows)} of a session that there is not: nobody can read them")


def find_cut(facts: Facts) -> Cut | None:
    """Up to where a damaged conversation is kept: to its newest sound snapshot, else to its last sound entry.

    A snapshot is taken at the end of a turn, as a rule; an entry may be half of something. None: it is not damaged.
    """
    first = min((span[0] for _, spans in _damaged(facts) for span in spans), default=None)
    if first is None:
        return None
    on_the_way = (
        judged.snapshot
        for judged in facts.snapshots
        # The conversation may have been restored: then it did not come through all of them.
        if judged.is_sound and judged.snapshot.entries == clip(facts.live, judged.snapshot.last_entry)
    )
    before = (snapshot for snapshot in on_the_way if snapshot.last_entry < first)
    newest = max(before, key=lambda snapshot: (snapshot.last_entry, snapshot.at), default=None)
    return Cut(first - 1 if newest is None else newest.last_entry, newest)


def count_rows(number: int) -> str:
    """`1 output row`, `2 output rows`."""
    return "1 output row" if number == 1 else f"{number} output rows"


def _of_output(facts: Facts) -> Iterator[Finding]:
    for span in facts.missing_rows:
        what = f"output {in_words('row', [span])} missing: what the child wrote there is lost"
        yield Finding(Damage.OUTPUT_MISSING, what)
    if facts.uncounted is not None:
        what = f"output {in_words('row', [facts.uncounted])} not counted: the session has {facts.last_seq}"
        yield Finding(Damage.OUTPUT_UNCOUNTED, what)
    for disorder in facts.disordered:
        where = f"of {disorder.stream} in attempt {disorder.attempt}, the first is row {disorder.first_seq}"
        what = f"{count_rows(disorder.rows)} older than the one before ({where}): a clock, or times, were changed"
        yield Finding(Damage.OUTPUT_DISORDERED, what)


def _of_transcript(facts: Facts) -> Iterator[Finding]:
    for damage, spans in _damaged(facts):
        yield from (Finding(damage, f"{in_words('entry', [span])} {_MEANS[damage]}") for span in spans)


def _of_snapshots(facts: Facts) -> Iterator[Finding]:
    for judged in facts.snapshots:
        if judged.newer is not None:
            yield Finding(Damage.SNAPSHOT_UNKNOWN, str(judged.newer))
        elif judged.broken is not None:
            what = f"snapshot {judged.snapshot.id} cannot be restored: {judged.broken}"
            yield Finding(Damage.SNAPSHOT_BROKEN, what)


def _of_course(facts: Facts) -> Iterator[Finding]:
    for attempt in facts.open_attempts:
        what = f"attempt {attempt} has no end, and the session is {facts.status} in attempt {facts.attempt}"
        yield Finding(Damage.ATTEMPT_OPEN, what)
    wrong = replay(facts.history, facts.status, facts.attempt)
    if wrong is not None:
        yield Finding(Damage.HISTORY_BROKEN, f"the history does not lead to where the session stands: {wrong}")


def _damaged(facts: Facts) -> Iterator[tuple[Damage, list[Span]]]:
    """Of what the conversation consists of. Whatever else is damaged hurts nobody, or a snapshot."""
    numbers = list(facts.entries)
    yield Damage.ENTRY_MISSING, holes(facts.live, numbers)
    live = list(within(facts.live, numbers))
    for fault, damage in ((Fault.CHANGED, Damage.ENTRY_CHANGED), (Fault.TORN, Damage.ENTRY_TORN)):
        yield damage, runs(seq for seq in live if facts.entries[seq].fault is fault)
