"""One recovery, for somebody who waits for it: the reaper's own rule, and its whole patience."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from gsd_tasks.service.reap import STATES, Reaper
from gsd_tasks.store import leases

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gsd_tasks.domain.session import SessionId
    from gsd_tasks.store import Database
    from gsd_tasks.store.expiry import Expired
    from gsd_tasks.store.holding import Recovered

#: Looks in the time of a lease.
LOOKS: Final = 20
LONGEST_STEP_S: Final = 1.0
#: Sweeps for what could be recovered and is not: the first one may end a connection that is in the way.
TRIES: Final = 3


@dataclass(slots=True)
class Outcome:
    """What became of leases that had expired: `came_back` has those whose holder renewed or settled meanwhile."""

    requeued: list[SessionId] = field(default_factory=list)
    failed: list[SessionId] = field(default_factory=list)
    cancelled: list[SessionId] = field(default_factory=list)
    paused: list[SessionId] = field(default_factory=list)
    came_back: list[SessionId] = field(default_factory=list)
    locked: list[SessionId] = field(default_factory=list)

    @property
    def recovered(self) -> list[SessionId]:
        """All that were taken from their holders."""
        return [*self.requeued, *self.failed, *self.cancelled, *self.paused]

    def add(self, recovered: Recovered) -> None:
        """Of one sweep."""
        for state in STATES:
            getattr(self, state).extend(getattr(recovered, state))


def recover_expired(database: Database, expired: Sequence[Expired], *, lease_s: float) -> Outcome:
    """Watch these leases for the time of one, and recover what stands still; takes that long, or less if none does.

    More where this process or the database stands still meanwhile: such a pause hardly counts as watching. Another
    lease that has fallen silent is recovered along with them.

    Raises:
        DatabaseUnavailable: the watching would have to begin anew.
    """
    outcome, reaper, watched = Outcome(), Reaper(lease_s=lease_s), [one.lease.state for one in expired]
    step_s, tries = min(lease_s / LOOKS, LONGEST_STEP_S), 0
    while True:
        outcome.add(reaper.sweep(database))
        with database.connection() as connection:
            waiting = leases.held_still(connection, watched)
        tries += all(map(reaper.has_tried, waiting))
        if not waiting or tries == TRIES:
            break
        time.sleep(step_s)
    outcome.locked = [lease.session_id for lease in waiting]
    over = {*outcome.recovered, *outcome.locked}
    outcome.came_back = [one.session_id for one in expired if one.session_id not in over]
    return outcome
