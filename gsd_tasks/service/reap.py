"""Recovering sessions whose holder has fallen silent, and telling which workers have.

Expired on the database's clock is not enough: after an outage or a step of that clock every lease has expired, and
every holder is about to come back. So a lease must also have stood unrenewed for its whole length on the reaper's own
clock, watched from sweep to sweep. By then the shim has frozen the child, and nothing of the session is at work. Nor is
it needed: where the database's clock was set back, a dead holder's lease may last for hours yet. One that has stood
still for twice its length counts as silent, whatever that clock says.
"""

from __future__ import annotations

import math
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from gsd_tasks.domain.errors import DatabaseUnavailable
from gsd_tasks.service.stillness import Stillness
from gsd_tasks.store import blockers, leases, nodes, transitions
from gsd_tasks.telemetry import get_log

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from gsd_tasks.domain.session import SessionId
    from gsd_tasks.store import Connection, Database
    from gsd_tasks.store.blockers import Blocker
    from gsd_tasks.store.holding import Held, Recovered

#: How many leases long one must have stood still that has not expired.
TERMS_UNEXPIRED: Final = 2
STATES: Final = ("requeued", "failed", "cancelled", "paused")


class Reaper:
    """Keeps what it has seen between sweeps: one per process. Two do no harm: each recovery is one statement.

    A pause between two sweeps counts for half a lease at most, and one that has failed makes all the watching begin
    anew: when the database is back, or this process goes on, every holder has the time to say that it is there. Safe to
    share among threads: one at a time is at it.
    """

    def __init__(self, *, lease_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._lease_s = lease_s
        self._leases = Stillness(longest_gap_s=lease_s / 2, clock=clock)
        self._workers = Stillness(longest_gap_s=lease_s / 2, clock=clock)
        self._due_at = math.inf
        self._alone = threading.Lock()
        self._log = get_log("reaper")

    @property
    def due_at(self) -> float:
        """When the next sweep could recover something that this one could not, on the reaper's clock."""
        return self._due_at

    def has_tried(self, lease: Held) -> bool:
        """Whether this one, which had expired and is still there, had stood still for long enough at the last look."""
        return self._leases.still_for_s(lease.state) >= self._lease_s

    @property
    def looked_at(self) -> float:
        """When it last looked at the leases, on its clock."""
        return self._leases.looked_at_s

    def watch(self, database: Database) -> None:
        """Look at every lease, and no more. A lease stands still from the first look on that finds it so: the more
        looks there are between two sweeps, the sooner it is due.

        Raises:
            DatabaseUnavailable: the watching begins anew.
        """
        with self._alone, self._beginning_anew(), database.connection() as connection:
            self._look(connection)

    def sweep(self, database: Database) -> Recovered:
        """Look at every lease; recover the sessions of the silent ones, all in one statement.

        Raises:
            DatabaseUnavailable: what was under way may or may not have happened.
        """
        with self._alone, self._beginning_anew():
            recovered = self._recover(database)
            self._mark_gone(database)
        return recovered

    @contextmanager
    def _beginning_anew(self) -> Iterator[None]:
        """Where the database is away during the block, nobody knows what has stood still."""
        self._due_at = math.inf
        try:
            yield
        except DatabaseUnavailable:
            self._leases.forget()
            self._workers.forget()
            self._due_at = math.inf
            raise

    def _look(self, connection: Connection) -> None:
        self._leases.look(leases.states(connection))
        stood_s = self._leases.all_still_for_s()
        self._due_at = self._leases.looked_at_s + min(map(self._may_be_silent_in, stood_s), default=math.inf)

    def _recover(self, database: Database) -> Recovered:
        with database.connection() as connection:
            self._look(connection)
            # Now, and not when this is done: a worker has fallen silent as its leases have, and is gone when they are.
            self._workers.look(nodes.states(connection))
            still = leases.held_still(connection, self._leases.still_for(self._lease_s))
            silent = [lease for lease in still if self._is_silent(lease)]
            recovered = transitions.recover(connection, silent)
        if recovered:
            self._log.warning("recovered", **_by_state(recovered))
        if len(recovered) < len(silent):
            self._unblock(database, silent)
        return recovered

    def _is_silent(self, lease: Held) -> bool:
        """Of one that has stood still for its whole length."""
        return lease.is_expired or self._leases.still_for_s(lease.state) >= TERMS_UNEXPIRED * self._lease_s

    def _may_be_silent_in(self, still_s: float) -> float:
        """How long until it may count as silent. Never, if it did so long ago: what could be done was done."""
        for terms in (1, TERMS_UNEXPIRED):
            if still_s < terms * self._lease_s:
                return terms * self._lease_s - still_s
        return math.inf

    def _unblock(self, database: Database, silent: Sequence[Held]) -> None:
        """Whoever is locked by somebody else was passed over. A backend of the silent holder's own is ended."""
        with database.connection() as connection:
            still_there = leases.held_still(connection, [lease.state for lease in silent])
        for lease in still_there:
            for blocker in blockers.find(database, lease.session_id):
                self._end_or_tell(database, lease.session_id, blocker)

    def _end_or_tell(self, database: Database, session_id: SessionId, blocker: Blocker) -> None:
        log = self._log.bind(
            session=str(session_id),
            pid=blocker.pid,
            application=blocker.application,
            user=blocker.user,
            open_for_s=round(blocker.open_for_s),
        )
        if not blocker.is_holders or blocker.open_for_s <= self._lease_s:
            log.warning("a recovery waits for a lock")
            return
        with database.connection() as connection:
            has_ended = blockers.end(connection, blocker)
        if has_ended:
            self._due_at = -math.inf
            log.warning("ended a connection of a silent worker, which held a lock")

    def _mark_gone(self, database: Database) -> None:
        with database.connection() as connection:
            names = nodes.mark_gone(connection, self._workers.still_for(self._lease_s))
        if names:
            self._log.warning("workers have gone", workers=names)


def _by_state(recovered: Recovered) -> dict[str, list[str]]:
    return {name: list(map(str, getattr(recovered, name))) for name in STATES if getattr(recovered, name)}
