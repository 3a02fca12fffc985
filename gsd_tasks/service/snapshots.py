"""Snapshots by hand, restoring one, and the pruning of old ones. What a worker takes is `store.snapshots.take`."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from gsd_tasks.domain.errors import AmbiguousId, InvalidValue, NoSuchSnapshot, NotAllowed
from gsd_tasks.domain.session import Kind, SnapshotReason
from gsd_tasks.domain.snapshot import Restored, check_name
from gsd_tasks.domain.state import Status
from gsd_tasks.service import control
from gsd_tasks.store import snapshots, verification

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from uuid import UUID

    from gsd_tasks.domain.session import Session, SessionId
    from gsd_tasks.domain.snapshot import Snapshot
    from gsd_tasks.store import Database

PRUNE_EVERY_S: Final = 3600.0
PAGE: Final = 5000
_DIGITS: Final = re.compile(r"[0-9a-f]{1,32}")
#: Why a session's conversation cannot be set back, and what to do first.
_GOES_ON: Final = {
    Status.QUEUED: "is queued: pause it first",
    Status.RUNNING: "is running: pause or cancel it first",
    Status.WAITING_CHECKPOINT: "waits for an answer, which would find another conversation: cancel it first",
}


def listed(database: Database, wanted: str | UUID) -> list[Snapshot]:
    """The session's snapshots, the newest first."""
    with database.connection() as connection:
        return snapshots.listed(connection, control.find(connection, wanted).id)


def take(database: Database, wanted: str | UUID, name: str | None = None) -> Snapshot:
    """A snapshot by hand, in whatever state the session is. It is kept until the session is deleted.

    Raises:
        NotAllowed: there is no conversation.
        InvalidValue: the name cannot be one.
    """
    if name is not None:
        check_name(name)
    with database.connection() as connection:
        session = control.find(connection, wanted)
        taken = snapshots.take(connection, session.id, SnapshotReason.MANUAL, name)
    if taken is None:
        why = "is a command, which has no conversation" if session.kind is Kind.COMMAND else "has no conversation yet"
        raise NotAllowed(str(session.id), f"{why}: there is nothing to take a snapshot of")
    return taken


def restore(database: Database, wanted: str | UUID, which: str | UUID) -> Restored:
    """Set the conversation and the context back to a snapshot, whose entries are read and hashed anew before.

    What the session printed stays. How it stood is kept as a snapshot, so that this can be undone.

    Raises:
        NotAllowed: somebody goes on with the conversation, or is about to; or the snapshot is damaged.
        NewerFormat: a newer version took it.
        NoSuchSnapshot, AmbiguousId, InvalidValue: `which` names none, or several.
    """
    with database.connection() as connection:
        while True:
            session = control.find(connection, wanted)
            _check_idle(session)
            snapshot = choose(session.id, snapshots.listed(connection, session.id), str(which))
            judged = verification.judged_one(connection, snapshot)
            if judged.newer is not None:
                raise judged.newer
            if judged.broken is not None:
                what = f"snapshot {snapshot.id} cannot be restored: {judged.broken}"
                raise NotAllowed(str(session.id), f"{what}; `gsd-tasks verify {session.id} --repair` mends what it can")
            done = snapshots.restore(connection, snapshot, attempt=session.attempt)
            if done is not None:
                return Restored(session_id=session.id, snapshot=snapshot, before=done.before)
            # It has moved between two looks: the next one says whether it still can.


def choose(session_id: SessionId, there_are: Sequence[Snapshot], wanted: str) -> Snapshot:
    """The snapshot of this name, or with this id, or whose id alone starts so.

    Raises:
        NoSuchSnapshot, AmbiguousId: of ids.
        InvalidValue: several have this name.
    """
    named = [snapshot for snapshot in there_are if snapshot.name == wanted]
    if len(named) > 1:
        ids = ", ".join(str(snapshot.id) for snapshot in named)
        raise InvalidValue("snapshot", f"{wanted!r} is the name of several ({ids}): give the id of one")
    digits = wanted.strip().lower().replace("-", "")
    is_start = _DIGITS.fullmatch(digits) is not None
    found = named or [snapshot for snapshot in there_are if is_start and snapshot.id.hex.startswith(digits)]
    if not found:
        raise NoSuchSnapshot(str(session_id), wanted)
    if len(found) > 1:
        raise AmbiguousId(wanted, tuple(str(snapshot.id) for snapshot in found))
    return found[0]


class Pruner:
    """Removes automatic snapshots that are older than `kept_s`, but never the newest of a session.

    Once an hour it goes through all that are so old, a page at each turn: what waits for the next turn waits briefly.
    """

    def __init__(self, *, kept_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._kept_s = kept_s
        self._clock = clock
        self._due_at = clock()
        self._after_id: UUID | None = None

    def turn(self, database: Database) -> int:
        """The next page, if it is time; how many snapshots were removed."""
        if self._after_id is None and self._clock() < self._due_at:
            return 0
        older_than = datetime.now(UTC) - timedelta(seconds=self._kept_s)
        with database.connection() as connection:
            page = snapshots.prune(connection, older_than=older_than, after_id=self._after_id, limit=PAGE)
        self._after_id = page.last
        if page.last is None:
            self._due_at = self._clock() + PRUNE_EVERY_S
        return page.removed


def _check_idle(session: Session) -> None:
    if session.status not in snapshots.RESTORABLE:
        raise NotAllowed(str(session.id), _GOES_ON[session.status])
