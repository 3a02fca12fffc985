"""What is written of sessions, and nobody attends to: leases, and the spools of this host. Nothing is changed."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final

from gsd_tasks.domain.errors import ConfigurationError, DatabaseUnavailable
from gsd_tasks.process.spool.frames import holds_output, is_abandoned
from gsd_tasks.service.findings import Finding, State
from gsd_tasks.service.spools import Spools
from gsd_tasks.store import Database, adoption, expiry, leases, vitals

if TYPE_CHECKING:
    from gsd_tasks.service.spools import Spool
    from gsd_tasks.settings import Settings
    from gsd_tasks.store import Connection

#: A maintenance process has watched an expired lease for as long as one lasts, and taken it, before this is over.
ATTENDED_S: Final = 60.0


def examine(settings: Settings, url: str) -> list[Finding]:
    """Both, of a database that has been found good."""
    try:
        database = Database(url, connections=1)
        try:
            with database.connection() as connection:
                return [_stale_leases(connection, settings), _unread_spools(connection, settings)]
        finally:
            database.close()
    except (ConfigurationError, DatabaseUnavailable) as error:
        return [Finding("leases", State.PROBLEM, "not read", str(error))]


def _stale_leases(connection: Connection, settings: Settings) -> Finding:
    now_s = vitals.ask(connection).now_s
    silent_s = [now_s - lease.expired_at.timestamp() for lease in expiry.expired(connection)]
    stale_s = [since_s for since_s in silent_s if since_s > ATTENDED_S + settings.lease_s]
    if not stale_s:
        return Finding("leases", State.OK, "none is stale")
    found = f"{len(stale_s)} stale, the oldest for {max(stale_s):.0f} s"
    advice = "their workers are silent and nobody recovers them: start `gsd-tasks maintenance`, or use `gsd-tasks reap`"
    return Finding("leases", State.NOTE, found, advice)


def _unread_spools(connection: Connection, settings: Settings) -> Finding:
    spools = Spools(settings.spool_dir, settings.private_dir, adoption.cluster_id(connection))
    candidates: list[Spool] = []
    with contextlib.suppress(OSError):  # there is no folder of this cluster
        candidates = [spool for spool in spools.all() if holds_output(spool.folder)]
    held = {lease.session_id for lease in leases.all_held(connection) if not lease.is_expired}
    current = adoption.current_attempts(connection, {spool.session_id for spool in candidates})
    unread = [
        spool
        for spool in candidates
        if not (spool.session_id in held and current.get(spool.session_id) == spool.attempt)
        # Its worker may be about to clear it.
        and is_abandoned(spool.folder, ATTENDED_S)
    ]
    if not unread:
        return Finding("spools", State.OK, "none is left unread")
    advice = "no worker is at them: start one here with this GSD_STATE_DIR, which reads on, or clears up what is over"
    return Finding("spools", State.NOTE, f"{len(unread)} unread, such as {unread[0].folder}", advice)
