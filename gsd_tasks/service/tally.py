"""What has happened in the cluster since the last look, each thing once: what counters are made of.

Sums over what Postgres keeps would go down whenever something is pruned. So whoever counts reads the history on from
where it was, by a cursor that misses nothing (`store.history`), and the turns likewise.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from gsd_tasks.domain.costs import NOTHING, Use
from gsd_tasks.domain.session import HistoryEntry, Stream
from gsd_tasks.domain.state import Reason, Status
from gsd_tasks.store import history, tallies
from gsd_tasks.store.tallies import NONE_YET, Counted, Named, Written

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from gsd_tasks.domain.session import SessionId
    from gsd_tasks.store import Connection, Database
    from gsd_tasks.store.history import Cursor, Happened

#: What one look reads of each table at most. What is left is read by the next one.
MOST: Final = 10_000
#: A turn may be committed later than one with a later time, but not by so much.
LATE: Final = timedelta(seconds=60)


@dataclass(slots=True)
class News:
    """What there was between two looks."""

    enqueued: int = 0
    requeued: Counter[Reason] = field(default_factory=Counter)
    ended: Counter[tuple[Status, Reason]] = field(default_factory=Counter)
    recovered: Counter[str] = field(default_factory=Counter)
    #: Seconds from when each could be claimed to its claim; from the claim to when its child was about to begin.
    claimed_s: list[float] = field(default_factory=list)
    dispatched_s: list[float] = field(default_factory=list)
    turns: int = 0
    use: Use = NOTHING
    #: Bytes committed, of each stream.
    written: Counter[Stream] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class _Place:
    """How far somebody has read: the history; claims without a child yet; the turns, those that may be met again."""

    cursor: Cursor
    unlaunched: frozenset[tuple[SessionId, int]]
    turns_from: datetime
    turns_seen: dict[tuple[SessionId, int], datetime]
    #: What was counted of attempts whose end it has not met yet.
    written: Mapping[Named, Counted]


class Tally:
    """One reader. It begins with its first look, and remembers nothing from before. For one thread at a time."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._place: _Place | None = None

    @property
    def unlaunched(self) -> int:
        """How many claims it has seen of which no child was about to begin yet."""
        return len(self._place.unlaunched) if self._place else 0

    def look(self) -> News:
        """What is new. Whatever it raises, the next look finds what this one has not told.

        Raises:
            DatabaseUnavailable: it is away.
        """
        news = News()
        with self._database.connection() as connection:
            if self._place is None:
                # These first: what begins after this look has written nothing before it.
                written = tallies.written(connection)
                self._place = _Place(history.now(connection), frozenset(), tallies.clock(connection), {}, written)
            else:
                self._place = _read_on(connection, self._place, news)
        return news


def _read_on(connection: Connection, place: _Place, news: News) -> _Place:
    running = tallies.written(connection)
    happened, cursor = history.read(connection, place.cursor, limit=MOST)
    entries = [entry for _, entry in happened if isinstance(entry, HistoryEntry)]
    claims = [entry for entry in entries if entry.to_status is Status.RUNNING]
    for _, entry in happened:
        _count(entry, news)
    if claims:
        news.claimed_s = tallies.waited(connection, [claim.id for claim in claims])
    unlaunched = place.unlaunched.union((claim.session_id, claim.attempt) for claim in claims)
    unlaunched = _see_launches(connection, unlaunched, news)
    turns_from, seen = _see_turns(connection, place, news)
    return _Place(cursor, unlaunched, turns_from, seen, _see_output(connection, place.written, running, entries, news))


def _count(happened: Happened, news: News) -> None:
    if not isinstance(happened, HistoryEntry):
        for outcome in ("requeued", "failed", "cancelled", "paused"):
            news.recovered[outcome] += len(getattr(happened, outcome))
    elif happened.from_status is None:
        news.enqueued += 1
    elif happened.from_status is Status.RUNNING and happened.to_status is Status.QUEUED:
        news.requeued[happened.reason] += 1
    elif happened.to_status.is_final:
        news.ended[happened.to_status, happened.reason] += 1


def _see_launches(
    connection: Connection, claims: frozenset[tuple[SessionId, int]], news: News
) -> frozenset[tuple[SessionId, int]]:
    if not claims:
        return claims
    found = tallies.launches(connection, claims)
    news.dispatched_s = [launch.after_s for launch in found.values() if launch.after_s is not None]
    return frozenset(claim for claim, launch in found.items() if launch.after_s is None and not launch.has_ended)


def _see_output(
    connection: Connection,
    known: Mapping[Named, Counted],
    running: Mapping[Named, Counted],
    entries: Sequence[HistoryEntry],
    news: News,
) -> Mapping[Named, Counted]:
    """Bytes are with the lease as long as an attempt runs, and with the attempt once the history tells of its end."""
    ended = {
        tallies.name(entry.session_id, entry.attempt)
        for entry in entries
        if entry.from_status is Status.RUNNING and entry.to_status is not Status.RUNNING
    }
    at_end = tallies.written_at_end(connection, ended) if ended else {}
    present = {named: now for named, now in running.items() if named not in ended}
    for named, now in (present | at_end).items():
        before = known.get(named, NONE_YET)
        if now != before:
            new, old = Written.parse(now), Written.parse(before)
            news.written[Stream.STDOUT] += max(0, new.stdout - old.stdout)
            news.written[Stream.STDERR] += max(0, new.stderr - old.stderr)
    untold = known.keys() - running.keys() - ended
    waited_for = tallies.unended(connection, untold) if untold else set()
    return present | {named: known[named] for named in waited_for}


def _see_turns(
    connection: Connection, place: _Place, news: News
) -> tuple[datetime, dict[tuple[SessionId, int], datetime]]:
    now = tallies.clock(connection)
    page = tallies.turned(connection, place.turns_from, limit=MOST)
    seen = dict(place.turns_seen)
    for turn in page:
        if (turn.session_id, turn.seq) not in seen:
            news.turns += 1
            news.use += turn.use
            seen[turn.session_id, turn.seq] = turn.at
    # Where there is more, the next look goes on after this page instead of waiting for what may be late.
    begin = page[-1].at if len(page) == MOST else max(place.turns_from, now - LATE)
    return begin, {key: at for key, at in seen.items() if at >= begin}
