"""The spools of this host: which there are, and ending what is left of attempts that are over.

Several workers may share the host and its state folder: each spool has one owner at a time, and what a living worker
owns is nobody else's business. Clusters may share it too, so each has a folder of its own.
"""

from __future__ import annotations

import contextlib
import os
import time
from typing import TYPE_CHECKING, Final, NamedTuple
from uuid import UUID

from gsd_tasks.domain.session import SessionId
from gsd_tasks.process.claude import remove_private_dir
from gsd_tasks.process.contain import kill_shim, shim_is_alive, sweep_marker
from gsd_tasks.process.foreign import why_foreign
from gsd_tasks.process.link import ShimLink, ShimUnreachable
from gsd_tasks.process.spool.exits import read_exit
from gsd_tasks.process.spool.frames import is_abandoned
from gsd_tasks.process.spool.owner import Owner, spool_folders
from gsd_tasks.store import adoption, leftovers
from gsd_tasks.telemetry import get_log

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from gsd_tasks.store import Database

#: A shim that was told to kill has nothing left to wait for.
SHIM_ENDS_S: Final = 10.0
LOOK_S: Final = 0.02
LEAST_ROOM_BYTES: Final = 1 << 20
CLUSTER_DIGITS: Final = 12
#: How long the output of a session stays of which the database knows nothing.
UNKNOWN_S: Final = 24 * 3600.0


class Spool(NamedTuple):
    """Where an attempt's output stands on this host."""

    session_id: SessionId
    attempt: int
    folder: Path


class Spools:
    """Those of one cluster on this host."""

    def __init__(self, spool_dir: Path, private_dir: Path, cluster_id: UUID) -> None:
        self._base = spool_dir / cluster_id.hex[:CLUSTER_DIGITS]
        self._private_dir = private_dir

    def make_folders(self) -> None:
        """Where everything of this goes. Raises OSError."""
        for folder in (self._base, self._private_dir):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def have_room(self) -> bool:
        """Whether a session can begin here: one that cannot write its first byte is better left to another worker."""
        try:
            self.make_folders()
            disk = os.statvfs(self._base)
        except OSError:
            return False
        has_names = disk.f_files == 0 or disk.f_favail > 0  # some file systems do not count them
        return has_names and disk.f_bavail * disk.f_frsize >= LEAST_ROOM_BYTES

    def of(self, session_id: SessionId, attempt: int) -> Spool:
        """Where that attempt's spool is, or would be."""
        return Spool(session_id, attempt, self._base / str(session_id) / str(attempt))

    def all(self) -> Iterator[Spool]:
        """Each that there is, the oldest session first."""
        for session in sorted(self._base.iterdir()):
            # Gone meanwhile, another user's, or nothing of ours: nobody is to be kept from the others.
            with contextlib.suppress(OSError, ValueError):
                session_id = SessionId(UUID(session.name))
                for folder in sorted(spool_folders(session)):
                    yield Spool(session_id, int(folder.name), folder)

    def current(self, database: Database) -> list[Spool]:
        """Those whose attempt is still held by somebody. Raises `DatabaseUnavailable`."""
        return [spool for spool, is_current in self._judged(database) if is_current]

    def clear(self, database: Database) -> None:
        """End and remove what is left of attempts that are over, unless a living worker is at it.

        Where there is no such session (any more), what the child wrote stays for `UNKNOWN_S`: if the database was set
        back to an older state, there is nothing else that has it. Raises `DatabaseUnavailable`.
        """
        # The folders first, the leases second: whoever makes a folder has its lease before.
        over = [spool for spool, is_current in self._judged(database) if not is_current]
        known = self._known(database, over)
        for spool in over:
            self._clear(spool, is_known=spool.session_id in known)
        for session in self._base.iterdir():
            with contextlib.suppress(OSError):  # there is something in it
                session.rmdir()

    def _clear(self, spool: Spool, *, is_known: bool) -> None:
        log = get_log("spools").bind(session=str(spool.session_id), attempt=spool.attempt)
        try:
            owner = Owner.take(spool.folder)
            if owner is not None:
                end_child(spool)
                if is_known or is_abandoned(spool.folder, UNKNOWN_S):
                    log.warning("clearing up after an attempt that is over")
                    self.remove(spool, owner)
                else:
                    owner.let_go()
        except OSError as error:
            log.warning("cannot be cleared up after", why=str(error))

    def remove(self, spool: Spool, owner: Owner | None) -> None:
        """The spool, if it came to one, and the folder that its child had for itself. The child must be gone."""
        # The right to it goes last: who dies on the way leaves something by which the rest is found.
        remove_private_dir(self._private_dir, spool.session_id, spool.attempt)
        if owner is not None:
            owner.remove()

    def _known(self, database: Database, spools: list[Spool]) -> set[SessionId]:
        if not spools:
            return set()
        with database.connection() as connection:
            return leftovers.known(connection, {spool.session_id for spool in spools})

    def _judged(self, database: Database) -> list[tuple[Spool, bool]]:
        found = list(self.all())
        if not found:
            return []
        with database.connection() as connection:
            held = adoption.current_attempts(connection, {spool.session_id for spool in found})
        return [(spool, held.get(spool.session_id) == spool.attempt) for spool in found]


def end_child(spool: Spool) -> None:
    """Nothing of the attempt is alive afterwards. By its owner alone; doing it twice does no harm.

    A shim of a version with other words is not asked: that it holds its lock, and who it is, are the same in all.
    """
    if not spool.folder.exists():
        return  # nothing was ever started there
    is_foreign = why_foreign(spool.folder) is not None
    if not is_foreign and read_exit(spool.folder) is not None and not shim_is_alive(spool.folder):
        return  # it has seen the whole tree go, and has ended
    if not is_foreign:
        with contextlib.suppress(ShimUnreachable):
            ShimLink(spool.folder).end("lease_lost")
    if is_foreign or not wait_for_shim(spool.folder, SHIM_ENDS_S):
        kill_shim(spool.folder)
        wait_for_shim(spool.folder, SHIM_ENDS_S)
    if is_foreign or read_exit(spool.folder) is None:
        # Its shim was killed: only one that has seen the whole tree go writes down the end.
        sweep_marker(str(spool.session_id), spool.attempt)


def wait_for_shim(folder: Path, timeout_s: float) -> bool:
    """Whether the shim has ended, at the latest after this time."""
    until = time.monotonic() + timeout_s
    while shim_is_alive(folder):
        if time.monotonic() > until:
            return False
        time.sleep(LOOK_S)
    return True
