"""Removing ended sessions that are kept no longer, and what else is of no use any more. By hand, or every hour.

In small statements, each a transaction of its own, with a rest after each: nobody waits for it for long. Where there is
an archive, a session is in it before it is removed. Whoever is cut off leaves sessions that are whole, or gone; what
rows are left of the latter, the next run removes. Any number of them may run at once.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from gsd_tasks.domain.errors import GsdError
from gsd_tasks.domain.retention import Prunable, Pruned, Rule, read_statuses
from gsd_tasks.service.archive import Archive, bind, bind_long
from gsd_tasks.store import bygone, ended, leftovers, sessions
from gsd_tasks.telemetry import get_log

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from gsd_tasks.domain.session import SessionId
    from gsd_tasks.settings import Settings
    from gsd_tasks.store import Database
    from gsd_tasks.store.ended import Found

PAGE_SESSIONS: Final = 500
#: How many rows of Postgres's one statement removes, about: some hundredths of a second.
MOST_WEIGHT: Final = 5000
WALKED_SESSIONS: Final = 1000
#: What belongs to no session is kept for so long: recoveries, workers that are gone, tokens that are not good any more.
BYGONE_S: Final = 30 * 24 * 3600.0
#: After each statement, this share of its time is left to others.
REST: Final = 0.5


def rule_of(settings: Settings) -> Rule:
    """What the settings say of how long sessions are kept."""
    return Rule(
        older_than_s=settings.retention_s,
        keep=settings.retention_count,
        statuses=read_statuses(settings.retention_status),
    )


def archive_of(settings: Settings) -> Archive | None:
    """The archive that they name."""
    return None if settings.archive_dir is None else Archive(settings.archive_dir)


def foresee(database: Database, rule: Rule) -> Prunable:
    """What the rule would remove now; nothing is."""
    with database.connection() as connection:
        before = ended.bound(connection, rule)
        if before is None:
            return Prunable(sessions=0, rows=0, needed=0)
        return ended.count(connection, rule.statuses, before)


class Prune:
    """One run. `pruned` says at any time what was removed until then, also when it ends by an exception."""

    def __init__(
        self,
        database: Database,
        rule: Rule,
        *,
        archive: Archive | None = None,
        limit: int | None = None,
        stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        self._database = database
        self._rule = rule
        self._archive = archive
        self._limit = limit
        self._stopping = stopping
        self._log = get_log("retention")
        self._damaged: set[SessionId] = set()
        self.pruned = Pruned()

    def run(self) -> Pruned:
        """Remove what the rule lets go, `limit` sessions at most, and what is bygone.

        Raises:
            ConfigurationError: the archive cannot be written: what is not in it stays.
            DatabaseUnavailable: the next run goes on.
        """
        self._clear_leftovers()
        self._remove_bygone()
        self._remove_sessions()
        return self.pruned

    def _remove_sessions(self) -> None:
        with self._database.connection() as connection:
            before = ended.bound(connection, self._rule)
        if before is None:
            return
        needed = 0
        while not self._is_done():
            # What was needed by what has gone in this pass may go in the next one.
            removed = self.pruned.sessions
            needed = self._pass(before)
            if self.pruned.sessions == removed:
                break
        # As the last pass has met them: of a million others that are to go another time none is looked at for this.
        self._add(Pruned(needed=needed))

    def _pass(self, before: ended.Place) -> int:
        """Remove what may go; how many that it has met are needed."""
        after, needed = None, 0
        while not self._is_done():
            with self._database.connection() as connection:
                page = ended.page(
                    connection,
                    self._rule.statuses,
                    before=before,
                    after=after,
                    limit=PAGE_SESSIONS,
                    counted_rows=MOST_WEIGHT,
                )
            needed += page.needed
            for batch in _batches(page.found[: self._left()]):
                if self._stopping():
                    return needed
                self._remove(batch)
            after = page.last
            if after is None:
                break
        return needed

    def _remove(self, batch: list[Found]) -> None:
        is_heavy = _is_heavy(batch[0])
        if self._archive is not None:
            batch = self._archived(self._archive, batch)
        if not batch:
            return
        began = time.monotonic()
        with self._database.connection() as connection:
            gone = ended.remove_without_rows(connection, batch[0]) if is_heavy else ended.remove(connection, batch)
        rows = {found.id: found.rows for found in batch}
        archived = len(gone) if self._archive is not None else 0
        self._add(Pruned(sessions=len(gone), rows=sum(rows[id_] for id_ in gone), archived=archived))
        _rest(began)
        if is_heavy and gone:
            self._trim(batch[0].id)

    def _archived(self, archive: Archive, batch: list[Found]) -> list[Found]:
        """Those of these that are in the archive."""
        ids = [found.id for found in batch]
        is_heavy = _is_heavy(batch[0])
        bound = {*(bind_long(archive, self._database, ids[0]) if is_heavy else bind(archive, self._database, ids))}
        for session_id in {*ids} - bound - self._damaged:
            with self._database.connection() as connection:
                session = sessions.get(connection, session_id)
            # Else somebody else has removed it, or goes on with it.
            if session is not None and session.status.is_final:
                self._damaged.add(session_id)
                self._log.warning("not archived, and not removed: it has not all of its rows", session=str(session_id))
                self._add(Pruned(damaged=1))
        return [found for found in batch if found.id in bound]

    def _clear_leftovers(self) -> None:
        last: SessionId | None = leftovers.FIRST
        while last is not None and not self._stopping():
            with self._database.connection() as connection:
                walked = leftovers.walk(connection, last, limit=WALKED_SESSIONS)
            for session_id in walked.gone:
                self._add(Pruned(leftover_rows=self._trim(session_id)))
            last = walked.last

    def _trim(self, session_id: SessionId) -> int:
        removed, before_seq = 0, None
        while not self._stopping():
            began = time.monotonic()
            with self._database.connection() as connection:
                trimmed = leftovers.trim(connection, session_id, before_seq=before_seq, weight=MOST_WEIGHT)
            if trimmed.rows == 0:
                break
            removed, before_seq = removed + trimmed.rows, trimmed.first_seq
            _rest(began)
        return removed

    def _remove_bygone(self) -> None:
        steps = {
            "recoveries": bygone.remove_recoveries,
            "workers": bygone.remove_workers,
            "tokens": bygone.remove_tokens,
        }
        for name, step in steps.items():
            while not self._stopping():
                with self._database.connection() as connection:
                    removed = step(connection, older_than_s=BYGONE_S)
                self._add(Pruned(**{name: removed}))
                if removed < bygone.PAGE:
                    break

    def _add(self, more: Pruned) -> None:
        self.pruned += more

    def _is_done(self) -> bool:
        return self._stopping() or self._left() == 0

    def _left(self) -> int | None:
        """How many sessions it may remove still."""
        return None if self._limit is None else max(0, self._limit - self.pruned.sessions)


class Retention:
    """What the maintenance process removes, at each turn of its loop: as the settings say, and what is bygone."""

    def __init__(self, settings: Settings, database: Database, *, stopping: Callable[[], bool]) -> None:
        self._rule = rule_of(settings)
        self._archive = archive_of(settings)
        self._database = database
        self._stopping = stopping
        self._log = get_log("retention")

    def turn(self) -> Pruned:
        """One run. What cuts it off, a database that is away or an archive that is full, is said on the log."""
        prune = Prune(self._database, self._rule, archive=self._archive, stopping=self._stopping)
        try:
            prune.run()
        except GsdError as error:
            self._log.warning("the next run goes on", why=str(error))
        finally:
            if prune.pruned:
                self._log.info("pruned", **_counts(prune.pruned))
        return prune.pruned


def _batches(page: list[Found]) -> Iterator[list[Found]]:
    """Some at a time that weigh no more than one statement should remove; one by itself that weighs more."""
    batch: list[Found] = []
    weight = 0
    for found in page:
        if batch and (_is_heavy(found) or weight + (found.weight or 0) > MOST_WEIGHT):
            yield batch
            batch, weight = [], 0
        if _is_heavy(found):
            yield [found]
            continue
        batch.append(found)
        weight += found.weight or 0
    if batch:
        yield batch


def _is_heavy(found: Found) -> bool:
    return found.weight is None or found.weight > MOST_WEIGHT


def _rest(began: float) -> None:
    time.sleep(REST * (time.monotonic() - began))


def _counts(pruned: Pruned) -> dict[str, int]:
    return {name: count for name in Pruned.__slots__ if (count := getattr(pruned, name))}
