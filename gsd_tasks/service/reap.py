"""Recovering sessions whose holder has fallen silent.

Expired on the database's clock is not enough: after an outage or a stepped clock every lease has expired, and every
holder is about to come back. So a lease must also have stood unrenewed for its whole length on the reaper's own
clock, watched from sweep to sweep. By then the shim has frozen the child, and nothing of the session is at work.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gsd_tasks.store import leases, transitions
from gsd_tasks.telemetry import get_log

if TYPE_CHECKING:
    from collections.abc import Callable

    from gsd_tasks.domain.session import Holder, SessionId
    from gsd_tasks.domain.state import Status
    from gsd_tasks.store import Database
    from gsd_tasks.store.holding import Held


@dataclass(frozen=True, slots=True)
class _Watched:
    """A lease as it was first seen with this count of renewals."""

    renewals: int
    since_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovered:
    """A session that was taken from a silent holder, and what became of it."""

    session_id: SessionId
    status: Status


class Reaper:
    """Keeps what it has seen between sweeps: one per process. Two do no harm: each recovery is one statement."""

    def __init__(self, *, lease_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._lease_s = lease_s
        self._clock = clock
        self._watched: dict[tuple[SessionId, Holder], _Watched] = {}

    def sweep(self, database: Database) -> list[Recovered]:
        """Look at every lease; recover the sessions of those that are expired and have stood still."""
        with database.connection() as connection:
            held = leases.all_held(connection)
            self._watched = {lease.key: self._watch(lease) for lease in held}
            recovered = []
            for lease in held:
                if lease.is_expired and self._has_stood_still(lease):
                    status = transitions.recover(connection, lease)
                    if status is not None:
                        recovered.append(Recovered(session_id=lease.session_id, status=status))
        for one in recovered:
            get_log("reaper").warning("recovered", session=str(one.session_id), now=str(one.status))
        return recovered

    def _watch(self, lease: Held) -> _Watched:
        before = self._watched.get(lease.key)
        return before if before and before.renewals == lease.renewals else _Watched(lease.renewals, self._clock())

    def _has_stood_still(self, lease: Held) -> bool:
        return self._clock() - self._watched[lease.key].since_s >= self._lease_s
