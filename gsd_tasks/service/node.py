"""A worker as the services see it: who it is, its slots, and its side loops."""

from __future__ import annotations

import contextlib
import math
import os
import queue
import socket
import threading
import time
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Final

import uuid_utils.compat as uuid_utils

from gsd_tasks.domain.errors import DatabaseUnavailable
from gsd_tasks.domain.session import SLOTS, Worker, WorkerId, WorkerStatus
from gsd_tasks.process.contain import Containment, probe
from gsd_tasks.process.nursery import Nursery
from gsd_tasks.process.survival import shims_survive
from gsd_tasks.service.announcing import announce
from gsd_tasks.service.bell import WANTED, Bell, Ear
from gsd_tasks.service.inherited import Inherited
from gsd_tasks.service.lease import Keeper
from gsd_tasks.service.loop import Loop
from gsd_tasks.service.secrecy import has_credentials
from gsd_tasks.service.sign import Sign
from gsd_tasks.service.spools import Spools
from gsd_tasks.service.tracing import Tracer
from gsd_tasks.settings import Drain
from gsd_tasks.store import Database, adoption, nodes, schema
from gsd_tasks.store.database import worker_name
from gsd_tasks.telemetry import get_log

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gsd_tasks.domain.session import Session
    from gsd_tasks.service.announcing import Publish
    from gsd_tasks.settings import Settings

#: How long a slot waits between two tries at a database that is away.
AWAY_S: Final = 0.5
#: How long a worker that stops waits for a database that is away: what it cannot write then is left to its lease.
LAST_WORDS_S: Final = 20.0
#: The share of a heartbeat that a statement waits for a lock before it is tried again later.
LOCK_PATIENCE: Final = 0.4
BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
#: How long one wait for a bell is: without Redis, a node that stops takes as long.
LISTEN_S: Final = 1.0
MACHINE_ID: Final = Path("/etc/machine-id")


class Node:
    """One life of one worker: made once per process, used by its slots from their threads."""

    def __init__(
        self,
        settings: Settings,
        *,
        database_url: str,
        redis_url: str,
        publish: Publish,
        name: str,
        slots: int = SLOTS,
    ) -> None:
        self.settings = settings
        self.publish = publish
        self.containment: Containment = probe()
        self.worker = self._describe(name, slots)
        # Somebody's lock on one session's rows (a psql) must not keep the leases of the others from being renewed.
        self.database = Database(
            database_url, name=worker_name(self.worker.id), lock_timeout_s=settings.heartbeat_s * LOCK_PATIENCE
        )
        self.tracer = Tracer(self.database)
        self.bell = Bell(redis_url)
        self.keeper = Keeper(self.database, lease_s=settings.lease_s, heartbeat_s=settings.heartbeat_s)
        self.stopping = threading.Event()
        self.inherited = Inherited()
        self.nursery = Nursery()
        self._drain_until = 0.0
        self._drains_by_handover = _drains_by_handover(settings.drain)
        self._is_handing_over = False
        self._spools: Spools | None = None
        self._free: queue.PriorityQueue[int] = queue.PriorityQueue()
        for slot in range(1, slots + 1):
            self._free.put(slot)
        self._handed_back: list[Session] = []
        self._ear = Ear(redis_url, WANTED)
        self._sign = Sign(settings.state_dir, name)
        self._presence = Loop("presence", self._be_seen, interval_s=settings.heartbeat_s)
        self._listener = Loop("listener", self._listen, interval_s=0)
        self._janitor = Loop("janitor", self._clear, interval_s=settings.lease_s)
        self._log = get_log("node")

    @property
    def id(self) -> WorkerId:
        """This life's id."""
        return self.worker.id

    def start(self) -> None:
        """Take part in the cluster. Raises `SchemaMismatch` or `DatabaseUnavailable`."""
        with self.database.connection() as connection:
            schema.check(connection)
            self._spools = Spools(self.settings.spool_dir, self.settings.private_dir, adoption.cluster_id(connection))
            nodes.register(connection, self.worker)
        self.spools.make_folders()
        self.nursery.start()
        for loop in (self.bell, self.keeper, self._presence, self._listener, self._janitor):
            loop.start()

    @property
    def spools(self) -> Spools:
        """Those of this host, once it has started."""
        if self._spools is None:
            raise RuntimeError("the node has not started")
        return self._spools

    def stop_claiming(self, *, finish: bool = False) -> None:
        """Claim nothing more, and let go of what runs: by handing it over, or (always with `finish`) by ending it.

        What is to end has `GSD_DRAIN_S` for it.
        """
        self._drains_by_handover = self._drains_by_handover and not finish  # once asked to finish, it does
        self._is_handing_over = self._drains_by_handover
        if not self.stopping.is_set():
            # Asked again, it stops no later for that.
            self._drain_until = time.monotonic() + (0 if self._is_handing_over else self.settings.drain_s)
        self.stopping.set()
        self._presence.hurry()

    @property
    def is_handing_over(self) -> bool:
        """It is stopping, and what runs is left to the next worker of this host."""
        return self.stopping.is_set() and self._is_handing_over

    @property
    def is_drained(self) -> bool:
        """It is stopping, and what still runs has had its time (`GSD_DRAIN_S`)."""
        return self.drained_for_s >= 0

    @property
    def drained_for_s(self) -> float:
        """How long ago that time was over; negative while there is some left, or no talk of stopping."""
        return time.monotonic() - self._drain_until if self.stopping.is_set() else -math.inf

    def announce(self, session: Session) -> None:
        """Have somebody go on with what is queued again, and not only when the next sweep finds it.

        While this worker stops, it may well be the first to take the message, and would refuse it: so not before it is
        done.
        """
        if self.stopping.is_set():
            self._handed_back.append(session)
        else:
            announce(self.publish, [session])

    def stop(self) -> None:
        """Leave the cluster; call it when no slot is busy, and no message is taken any more."""
        self.stopping.set()
        announce(self.publish, self._handed_back)
        self._listener.dismiss()
        # So that it hears of it now; whoever else hears this looks once for nothing.
        self.bell.ring(WANTED)
        for loop in (self._janitor, self._listener, self._presence, self.keeper):
            loop.stop()
        self.inherited.let_go()
        self.nursery.stop()
        with contextlib.suppress(DatabaseUnavailable):
            # Without this word it counts as gone a little later: it has fallen silent.
            self._say_alive(WorkerStatus.STOPPED)
        self._sign.take_away()
        self.bell.stop()
        self._ear.close()
        self.tracer.stop()
        self.database.close()

    @contextmanager
    def slot(self) -> Iterator[int]:
        """The lowest free slot, for the time of the block. There is one for every thread of the pool."""
        slot = self._free.get(timeout=60)
        try:
            yield slot
        finally:
            self._free.put(slot)

    def _be_seen(self) -> None:
        try:
            self._say_alive()
        except DatabaseUnavailable as error:
            self._log.warning("nobody is told that this worker lives", why=str(error))
            self._sign.give(str(error))
        else:
            self._sign.give()

    def _say_alive(self, status: WorkerStatus | None = None) -> None:
        present = WorkerStatus.STOPPING if self.stopping.is_set() else WorkerStatus.ALIVE
        with self.database.connection() as connection:
            # A credential that was put into the folder meanwhile counts from now on.
            can_talk = has_credentials(self.settings)
            if not nodes.seen(connection, self.id, status or present, has_credentials=can_talk):
                # It was silent for so long that it was forgotten.
                nodes.register(connection, self.worker)
                nodes.seen(connection, self.id, status or present, has_credentials=can_talk)

    def _listen(self) -> None:
        was_listening = self._ear.is_listening
        heard = self._ear.wait(LISTEN_S)
        # What rang before it began to listen, it has not heard. And bells for other workers' sessions are heard too: a
        # look costs one renewal of at most three leases.
        if heard is not None or (self._ear.is_listening and not was_listening):
            self.keeper.hurry()

    def _clear(self) -> None:
        """What other workers of this host have left behind: they may not come back to do it."""
        with contextlib.suppress(DatabaseUnavailable):
            self.spools.clear(self.database)

    def _describe(self, name: str, slots: int) -> Worker:
        now = datetime.now(UTC)
        return Worker(
            id=WorkerId(uuid_utils.uuid7()),
            name=name,
            host_id=_first_line(MACHINE_ID) or socket.gethostname(),
            boot_id=_first_line(BOOT_ID) or "unknown",
            pid=os.getpid(),
            version=version("gsd-tasks"),
            status=WorkerStatus.ALIVE,
            queues=self.settings.queues,
            slots=slots,
            containment=str(self.containment),
            has_credentials=has_credentials(self.settings),
            busy={},
            started_at=now,
            seen_at=now,
        )


def _drains_by_handover(drain: Drain) -> bool:
    return shims_survive().survives if drain is Drain.AUTO else drain is Drain.HANDOVER


def _first_line(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
