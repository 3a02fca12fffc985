"""The heartbeat: one thread of a worker keeps the leases of all its sessions.

    slot loop turns  ->  keeper renews in Postgres  ->  shim gets a new deadline

Each arrow is needed. A slot that hangs loses its lease although its worker lives; a worker that is cut off sends no
deadline, and its shim freezes the child at the old one, before anybody else may start the next.
"""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from gsd_tasks.domain.errors import DatabaseUnavailable
from gsd_tasks.process.link import ShimGone, ShimLink, ShimSilent
from gsd_tasks.service.loop import Loop
from gsd_tasks.store import leases
from gsd_tasks.telemetry import get_log

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from gsd_tasks.domain.session import Holder
    from gsd_tasks.domain.state import Wanted
    from gsd_tasks.store import Claim, Database

#: A slot's loop turns at least every second; one that has not for so long hangs.
HANGS_AFTER_S: Final = 5.0


def boot_clock_s() -> float:
    """Seconds on the clock that the shim's deadlines are on: it goes on while the host sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Lease:
    """One session's lease, shared by its slot and the keeper."""

    def __init__(self, claim: Claim, *, deadline_boot_s: float, lease_s: float) -> None:
        self.claim = claim
        self._lease_s = lease_s
        self.deadline_boot_s = deadline_boot_s
        self.wanted: Wanted | None = None
        self.messages = claim.session.messages
        self.is_lost = False
        self._turned_at = time.monotonic()
        self._lock = threading.Lock()
        self._shim_silent_since: float | None = None
        # What the shim was told of the deadline, as far as that is known.
        self._told_boot_s: float | None = None
        self._link: ShimLink | None = None
        self._wake: Callable[[], None] | None = None
        self._backlog: Callable[[], int] = lambda: 0

    @property
    def spooled_bytes(self) -> int:
        """What its spool has that is not committed."""
        return self._backlog()

    @property
    def slot_hangs(self) -> bool:
        """Its slot's loop has stood still for too long."""
        return time.monotonic() - self._turned_at > HANGS_AFTER_S

    @property
    def shim_is_hung(self) -> bool:
        """The shim has taken no deadline for a whole lease: its child stands still, and would for ever."""
        silent_since = self._shim_silent_since
        return silent_since is not None and time.monotonic() - silent_since > self._lease_s

    def turned(self) -> None:
        """The slot's loop is alive."""
        self._turned_at = time.monotonic()

    def attach(self, link: ShimLink, wake: Callable[[], None], backlog: Callable[[], int] = lambda: 0) -> None:
        """From here on there is a shim to pass deadlines to, and a slot that waits and may be woken.

        `backlog` says what is not committed; it is called from the keeper's thread.
        """
        with self._lock:
            self._link, self._wake, self._backlog = link, wake, backlog
            self._pass_on()

    def launched_until(self, deadline_boot_s: float) -> None:
        """There is a shim that was started with this deadline: it need not be told of that again."""
        with self._lock:
            self._told_boot_s = deadline_boot_s

    def detach(self) -> None:
        """The shim is gone, or the slot no longer listens."""
        with self._lock:
            self._link = self._wake = None
            self._backlog = lambda: 0

    def renewed(self, deadline_boot_s: float, wanted: Wanted | None, messages: int = 0) -> None:
        """Postgres has granted another term. `messages` is the number of the last one that people have sent."""
        news = wanted is not self.wanted or messages != self.messages
        self.wanted, self.messages = wanted, messages
        with self._lock:
            self.deadline_boot_s = deadline_boot_s
            self._pass_on()
            if news and self._wake is not None:
                self._wake()

    def lose(self) -> None:
        """Postgres says that somebody else holds the session, or nobody."""
        self.is_lost = True
        with self._lock:
            if self._wake is not None:
                self._wake()

    def _pass_on(self) -> None:
        if self._link is None or self._told_boot_s == self.deadline_boot_s:
            return
        try:
            self._link.set_deadline(self.deadline_boot_s)
            self._told_boot_s = self.deadline_boot_s
            self._shim_silent_since = None
        except ShimGone:
            self._link = None
        except ShimSilent as error:
            self._shim_silent_since = self._shim_silent_since or time.monotonic()
            # It keeps the deadline that it has, and freezes its child by that.
            get_log("keeper").warning("the shim takes no deadline", **_names(self.claim), why=str(error))


class Keeper:
    """Renews every lease of this worker, every `heartbeat_s`, and at once when hurried."""

    def __init__(self, database: Database, *, lease_s: float, heartbeat_s: float) -> None:
        self._database = database
        self._lease_s = lease_s
        # By holder, not by session: an old holder may still be cleaning up when a new one has the session.
        self._held: dict[Holder, Lease] = {}
        self._lock = threading.Lock()
        self._loop = Loop("keeper", self.turn, interval_s=heartbeat_s)
        self._log = get_log("keeper")

    @property
    def is_alive(self) -> bool:
        """Whether leases are being kept."""
        return self._loop.is_alive

    def start(self) -> None:
        """Begin to keep."""
        self._loop.start()

    def stop(self) -> None:
        """Keep no more; call it when no slot is busy."""
        self._loop.stop()

    def hurry(self) -> None:
        """Somebody wants something of a session: look now."""
        self._loop.hurry()

    def turn(self) -> None:
        """Once, now: another term for all that is held, but for those whose slot hangs."""
        with self._lock:
            held = list(self._held.values())
        kept: list[Lease] = []
        for lease in held:
            if lease.slot_hangs:
                self._log.error("slot hangs: its lease is not renewed", **_names(lease.claim))
            elif not lease.is_lost:
                kept.append(lease)
        self._renew_several(kept)

    @contextmanager
    def keeping(self, claim: Claim, *, claimed_at_boot_s: float) -> Iterator[Lease]:
        """Keep this lease while the block runs. `claimed_at_boot_s` is from before the claim was sent."""
        lease = Lease(claim, deadline_boot_s=claimed_at_boot_s + self._lease_s, lease_s=self._lease_s)
        with self._lock:
            self._held[claim.holder] = lease
        try:
            yield lease
        finally:
            with self._lock:
                del self._held[claim.holder]

    def _renew_several(self, kept: Sequence[Lease]) -> None:
        """All in one statement; by itself each that has no answer there, as it is lost or somebody has locked it."""
        if not kept:
            return
        sent_at_boot_s = boot_clock_s()
        renewed: Mapping[Holder, leases.Renewed] = {}
        try:
            with self._database.connection() as connection:
                claims, spooled = [lease.claim for lease in kept], [lease.spooled_bytes for lease in kept]
                renewed = leases.renew_several(connection, claims, lease_s=self._lease_s, spooled_bytes=spooled)
        except DatabaseUnavailable as error:
            self._log.warning("leases not renewed", why=str(error))
            return
        for lease in kept:
            granted = renewed.get(lease.claim.holder)
            if granted is None:
                self.renew(lease)
            else:
                lease.renewed(sent_at_boot_s + self._lease_s, granted.wanted, granted.messages)

    def renew(self, lease: Lease) -> None:
        """Once, now: another term, if Postgres answers and it is still ours."""
        # Taken before the renewal is sent, so that our deadline is never later than the one that Postgres sets.
        sent_at_boot_s = boot_clock_s()
        try:
            with self._database.connection() as connection:
                renewed = leases.renew(
                    connection, lease.claim, lease_s=self._lease_s, spooled_bytes=lease.spooled_bytes
                )
        except DatabaseUnavailable as error:
            self._log.warning("lease not renewed", **_names(lease.claim), why=str(error))
            return
        if renewed is None:
            # A settlement of our own ends the lease as well; the slot knows.
            lease.lose()
        else:
            lease.renewed(sent_at_boot_s + self._lease_s, renewed.wanted, renewed.messages)


def _names(claim: Claim) -> dict[str, Any]:
    """Whose lease it is, for the log: the keeper's thread is about many."""
    return {"session": str(claim.session.id), "attempt": claim.attempt, "slot": claim.slot}
