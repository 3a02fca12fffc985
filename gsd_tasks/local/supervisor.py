"""Keeps parts alive, and stops them in order: one thread, one loop, asleep until something happens.

What can happen is a request to stop, the end of a process (its pidfd becomes readable), or a time that is due: a
restart, the next look at a probe, a KILL.
"""

from __future__ import annotations

import selectors
import signal
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

from gsd_tasks.domain.errors import ConfigurationError, GsdError
from gsd_tasks.local.life import Child, Life, find_recorded, spawn
from gsd_tasks.local.part import Part
from gsd_tasks.local.signals import StopRequests

FIRST_DELAY_S: Final = 0.5
LONGEST_DELAY_S: Final = 30.0
STABLE_S: Final = 60.0
FIRST_PROBE_S: Final = 0.02
SLOWEST_PROBE_S: Final = 0.25
READY_BOUND_S: Final = 120.0
TRIES_TO_START: Final = 3


@dataclass(slots=True, eq=False)
class Charge:
    """A part in our care. `due` is when it is looked at next, on the monotonic clock; None: when something happens."""

    part: Part
    life: Life | None = None
    due: float | None = 0.0
    delay_s: float = 0.0
    probe_s: float = FIRST_PROBE_S
    ready: bool = False
    ended_early: int = 0
    problem: str = ""
    said: str = ""
    stopping: bool = False
    kill_at: float | None = None

    @property
    def settled(self) -> bool:
        return self.stopping and self.life is None


class Supervisor:
    """Runs parts until they are stopped. `say` is told what a person should know, a line at a time."""

    def __init__(self, requests: StopRequests, say: Callable[[str], None]) -> None:
        self._requests = requests
        self._say = say
        self._charges: dict[str, Charge] = {}
        self._selector = selectors.DefaultSelector()
        self._selector.register(requests, selectors.EVENT_READ)

    def run_until_ready(self, parts: Iterable[Part]) -> bool:
        """Take these into care and return once all of them are ready, or False: it was asked to stop.

        Raises:
            ConfigurationError: one ends again and again before it is ready, or does not become ready in time.
        """
        added = [Charge(part) for part in parts]
        self._charges |= {charge.part.name: charge for charge in added}
        try:
            while not all(charge.ready for charge in added) and not self._requests.count:
                self._turn()
                for charge in added:
                    _check_start(charge)
        finally:
            for charge in added:
                _drop_unless_spawned(charge)
        return not self._requests.count

    def run_until_asked(self) -> None:
        """Keep everything alive until a request to stop."""
        while not self._requests.count:
            self._turn()

    def stop(self, names: Iterable[str]) -> None:
        """Stop these together and return when they are gone. The others are kept alive meanwhile."""
        chosen = [self._charges[name] for name in names if name in self._charges]
        for charge in chosen:
            self._ask_to_stop(charge)
        while not all(charge.settled for charge in chosen):
            self._turn()
            if self._in_a_hurry:
                for charge in chosen:
                    self._hasten(charge)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _kind: type[BaseException] | None, _error: object, _trace: TracebackType | None) -> None:
        """Release what the loop needed. Stops nothing."""
        self._selector.close()

    def _turn(self) -> None:
        """Sleep until something happens, and see to it."""
        now = time.monotonic()
        times = [at for charge in self._charges.values() for at in (charge.due, charge.kill_at) if at is not None]
        for key, _ in self._selector.select(max(0.0, min(times) - now) if times else None):
            if key.fileobj is self._requests:
                self._requests.drain()
            else:
                self._see_end(key.data)
        for charge in self._charges.values():
            self._see_due(charge, time.monotonic())

    @property
    def _in_a_hurry(self) -> bool:
        """Somebody has asked twice."""
        return self._requests.count > 1

    def _see_due(self, charge: Charge, now: float) -> None:
        if charge.kill_at is not None and now >= charge.kill_at:
            charge.kill_at = None
            if charge.life is not None:
                self._say(f"{charge.part.name} does not stop: killed")
                charge.life.send(signal.SIGKILL)
        if charge.due is None or now < charge.due:
            return
        if charge.life is None:
            self._start(charge, now)
        else:
            self._probe(charge, charge.life.pid, now)

    def _start(self, charge: Charge, now: float) -> None:
        """Spawn it, once nothing is left of it from a former run."""
        leftover = find_recorded(charge.part)
        if leftover is not None:
            self._say(f"waiting for the {charge.part.name} of a former run (pid {leftover.pid}) to end")
            self._watch(charge, leftover)
            charge.due, charge.kill_at = None, now + charge.part.stop_bound_s
            leftover.send(charge.part.death_signal)
            return
        try:
            child = spawn(charge.part)
        except (GsdError, OSError) as error:
            self._start_later(charge, f"cannot be started: {error}", lived_s=0.0)
            return
        self._watch(charge, child)
        charge.due, charge.probe_s = now, FIRST_PROBE_S

    def _watch(self, charge: Charge, life: Life) -> None:
        charge.life = life
        self._selector.register(life.pidfd, selectors.EVENT_READ, charge)

    def _probe(self, charge: Charge, pid: int, now: float) -> None:
        if charge.part.probe(pid):
            charge.ready, charge.ended_early, charge.due = True, 0, None
        else:
            charge.due, charge.probe_s = now + charge.probe_s, min(2 * charge.probe_s, SLOWEST_PROBE_S)

    def _see_end(self, charge: Charge) -> None:
        life = charge.life
        if life is None:
            return
        self._selector.unregister(life.pidfd)  # before it is closed
        status = life.exit_status()
        charge.life, charge.ready, charge.due, charge.kill_at = None, False, None, None
        if charge.stopping:
            return
        if isinstance(life, Child):
            charge.said = life.log_tail()
            self._start_later(charge, f"ended ({describe(status)})", lived_s=time.monotonic() - life.spawned_at)
        else:
            charge.due = time.monotonic()

    def _start_later(self, charge: Charge, problem: str, *, lived_s: float) -> None:
        charge.ended_early += 1
        charge.problem = problem
        charge.delay_s = next_delay(charge.delay_s, lived_s)
        charge.due = time.monotonic() + charge.delay_s
        self._say(f"{charge.part.name} {problem}: again in {charge.delay_s:g} s; log: {charge.part.log}")

    def _ask_to_stop(self, charge: Charge) -> None:
        if charge.stopping:
            return
        charge.stopping, charge.ready, charge.due = True, False, None
        if isinstance(charge.life, Child):
            charge.kill_at = time.monotonic() + charge.part.stop_bound_s
            is_restart = self._requests.first is signal.SIGTERM
            handover = charge.part.handover_signal if is_restart else None
            charge.life.send(handover or charge.part.stop_signal)

    def _hasten(self, charge: Charge) -> None:
        if charge.kill_at is not None:
            charge.kill_at = min(charge.kill_at, time.monotonic() + charge.part.hurry_bound_s)


def next_delay(former_s: float, lived_s: float) -> float:
    """How long a part that has ended waits: longer each time, and from the start again once it has proved stable."""
    if former_s == 0 or lived_s >= STABLE_S:
        return FIRST_DELAY_S
    return min(2 * former_s, LONGEST_DELAY_S)


def describe(status: int | None) -> str:
    """An exit status in words."""
    if status is None or status >= 0:
        return f"exit status {status}"
    try:
        return f"killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"killed by signal {-status}"


def _drop_unless_spawned(charge: Charge) -> None:
    """Once we are stopping, nothing is started for the first time while others are waited for."""
    if not isinstance(charge.life, Child):
        charge.stopping, charge.due = True, None


def _check_start(charge: Charge) -> None:
    """Give up on a part that cannot start, rather than try for ever while somebody waits for `ready`."""
    part, life = charge.part, charge.life
    if charge.ended_early >= TRIES_TO_START:
        times = f"{part.name} {charge.problem} {charge.ended_early} times"
        raise ConfigurationError(f"{times}: {charge.said or 'it wrote nothing'}; see {part.log}")
    if not charge.ready and isinstance(life, Child) and time.monotonic() - life.spawned_at > READY_BOUND_S:
        raise ConfigurationError(f"{part.name} is not ready after {READY_BOUND_S:.0f} s: see {part.log}")
