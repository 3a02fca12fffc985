"""What the maintenance process does: a sweep at every tick of beat's, and by itself when the ticks stay out.

A sweep recovers first, so that a Redis that is away stops no recovery; then it looks at what waits for others, and
publishes again. Whoever is to hear of recoveries is told by a thread of its own: nothing waits for that.
"""

from __future__ import annotations

import math
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final, TypeVar

from gsd_tasks.domain.errors import DatabaseUnavailable
from gsd_tasks.service.bell import HISTORY, ring_once, session_channel
from gsd_tasks.service.dependencies import Resolved, resolve
from gsd_tasks.service.loop import Loop
from gsd_tasks.service.messages import QueuedMessages
from gsd_tasks.service.reap import Reaper
from gsd_tasks.service.recovery_hook import Command, Teller, log_recovery, parse_hook
from gsd_tasks.service.republish import Swept, republish
from gsd_tasks.service.retention import Retention
from gsd_tasks.service.snapshots import Pruner
from gsd_tasks.service.tracing import Tracer
from gsd_tasks.store import Database
from gsd_tasks.telemetry import get_log

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from gsd_tasks.domain.session import SessionId
    from gsd_tasks.service.announcing import Publish
    from gsd_tasks.service.sign import Sign
    from gsd_tasks.settings import Settings
    from gsd_tasks.store.holding import Recovered

NAME: Final = "gsd-tasks maintenance"
#: Ticks that come later than this many intervals count as staying out.
MISSED_TICKS: Final = 2
#: A sweep that finds somebody's lock in its way gives up, and the next one tries again: it must never stand still.
LOCK_TIMEOUT_S: Final = 2.0
LOOK_S: Final = 0.5
#: Looks at the leases in the length of one: a recovery comes so much sooner than if sweeps alone were to see them.
LOOKS: Final = 15
#: How often sessions are removed that are kept no longer: by a thread of its own, as it may take long.
REMOVE_EVERY_S: Final = 3600.0

T = TypeVar("T")


class Maintenance:
    """One per process; any number of them do no harm to each other. Safe to share among threads.

    Raises:
        ConfigurationError: `GSD_ON_RECOVERY` cannot be run.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        database_url: str,
        redis_url: str,
        publish: Publish,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._sign: Sign | None = None
        self._problem = ""
        self._every_s = settings.republish_s
        self._watch_every_s = settings.lease_s / LOOKS
        self._redis_url = redis_url
        self._publish = publish
        self._database = Database(database_url, connections=3, name=NAME, lock_timeout_s=LOCK_TIMEOUT_S)
        self._tracer = Tracer(self._database)
        self._reaper = Reaper(lease_s=settings.lease_s, clock=clock)
        self._pruner = Pruner(kept_s=settings.snapshots_kept_s, clock=clock)
        self._command = _command(settings)
        self._teller = Teller(
            self._database, self._command or log_recovery, bound_s=settings.on_recovery_timeout_s, clock=clock
        )
        self._sweeping = threading.Lock()
        self._ticked_at = self._swept_at = -math.inf
        self._retention = Retention(settings, self._database, stopping=lambda: self._removals.is_stopping)
        self._removals = Loop("retention", self._retention.turn, interval_s=REMOVE_EVERY_S)
        self._sweeps = Loop("sweeper", self._turn, interval_s=min(LOOK_S, settings.republish_s, settings.lease_s / 4))
        self._tellings = Loop("teller", self._tell, interval_s=settings.republish_s)
        self._log = get_log("maintenance")

    def start(self, sign: Sign | None = None) -> None:
        """Sweep from now on, with ticks or without. Each sweep gives the sign, if there is one."""
        self._sign = sign
        self._sweeps.start()
        self._tellings.start()
        self._removals.start()

    def stop(self) -> None:
        """Sweep no more; a command of `GSD_ON_RECOVERY` that still runs is killed, and told again another time."""
        if self._command is not None:
            self._command.stop()
        self._removals.stop()
        self._tellings.stop()
        self._sweeps.stop()
        if self._sign is not None:
            self._sign.take_away()
        self._tracer.stop()
        self._database.close()

    def tick(self) -> Swept:
        """Beat's word for a sweep. Does nothing while one is under way: that one is as good."""
        self._ticked_at = self._clock()
        return self._sweep()

    def _turn(self) -> None:
        if self._is_due():
            self._sweep()
        elif self._clock() - self._reaper.looked_at >= self._watch_every_s:
            self._watch()

    def _watch(self) -> None:
        # A database that is away is the sweeps' to say.
        with suppress(DatabaseUnavailable):
            self._reaper.watch(self._database)

    def _is_due(self) -> bool:
        """Without ticks, every interval; and when a lease will have stood still long enough, at that very moment."""
        now = self._clock()
        if now >= self._reaper.due_at:
            return True
        return now - self._ticked_at >= MISSED_TICKS * self._every_s and now - self._swept_at >= self._every_s

    def _sweep(self) -> Swept:
        if not self._sweeping.acquire(blocking=False):
            return Swept()
        try:
            return self._sweep_alone()
        finally:
            self._swept_at = self._clock()
            if self._sign is not None:
                self._sign.give(self._problem)
            self._sweeping.release()

    def _sweep_alone(self) -> Swept:
        self._problem = ""
        recovered = self._or_say(lambda: self._reaper.sweep(self._database))
        # Before messages are looked for: what is let go has its own.
        resolved = self._or_say(self._resolve) or Resolved()
        swept = self._or_say(self._republish) or Swept(redis_answers=False)
        if swept.expired:
            # What waits for these need not wait for the next sweep.
            expired = self._or_say(lambda: self._resolve(swept.expired)) or Resolved()
            resolved = Resolved(let_go=resolved.let_go + expired.let_go, given_up=resolved.given_up + expired.given_up)
        if recovered:
            self._tellings.hurry()
            self._tracer.ended((*recovered.failed, *recovered.cancelled))
        self._tracer.ended((*swept.expired, *resolved.given_up))
        if swept.redis_answers and (recovered or resolved):
            ring_once(self._redis_url, *_bells(recovered, resolved))
        if swept.published or swept.expired:
            self._log.info("swept", published=swept.published, expired=len(swept.expired))
        self._or_say(lambda: self._pruner.turn(self._database))
        return swept

    def _resolve(self, ended: Iterable[SessionId] | None = None) -> Resolved:
        return resolve(self._database, self._publish, ended)

    def _republish(self) -> Swept:
        return republish(self._database, QueuedMessages(self._redis_url), self._publish)

    def _tell(self) -> None:
        # A database that is away is the sweeps' to say.
        with suppress(DatabaseUnavailable):
            self._teller.turn()

    def _or_say(self, step: Callable[[], T]) -> T | None:
        """One part of a sweep: whatever becomes of it, the others come."""
        try:
            return step()
        except DatabaseUnavailable as error:
            self._log.warning("a part of the sweep waits for the next", why=str(error))
            self._problem = str(error)
        except Exception as error:  # noqa: BLE001  (a loop's boundary, as it were: logged, and the next sweep comes)
            self._log.exception("a part of the sweep failed")
            self._problem = f"a part of the sweep failed: {error}"
        return None


def _command(settings: Settings) -> Command | None:
    argv = parse_hook(settings.on_recovery)
    return None if argv is None else Command(argv, timeout_s=settings.on_recovery_timeout_s)


def _bells(recovered: Recovered | None, resolved: Resolved) -> Iterator[tuple[str, str]]:
    yield HISTORY, ""
    yield from ((session_channel(session_id), "") for session_id in resolved)
    if recovered is None:
        return
    for ids in (recovered.requeued, recovered.failed, recovered.cancelled, recovered.paused):
        yield from ((session_channel(session_id), "") for session_id in ids)
