"""What to do with the child, and when: its limits and the steps of ending it. Pure: time is handed in.

Freezing is init's own: it knows the deadline, and reports what it does. The course counts that time for no limit, and
sees to an init that does not do it.

`now` is CLOCK_MONOTONIC, which stands still while the machine sleeps, as the child does; `boot_s` is CLOCK_BOOTTIME,
which goes on, as the lease does.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

from gsd_tasks.process.shim.protocol import LaunchSpec
from gsd_tasks.process.spool.exits import EndedBy

# How long a grandchild may hold the pipes open after the child's own end.
LINGER_S: Final = 2.0
# How long init may take over a KILL, or a freeze or thaw that is due, before it is itself killed.
KILL_BOUND_S: Final = 5.0

# How long it may take over a freeze or a thaw before it is told to go on, in case somebody has stopped it.
WAKE_S: Final = 0.1

_NEVER: Final = float("inf")


class Order(Enum):
    """What is to be done. INTERRUPT and TERMINATE reach the child's process group, WAKE_INIT init, KILL everything."""

    WAKE_INIT = "wake_init"
    INTERRUPT = "interrupt"
    TERMINATE = "terminate"
    KILL = "kill"
    KILL_INIT = "kill_init"


class Course:
    """One attempt's course. Ask `next_order` until it has none, and again after `wait_s` or when something happened."""

    def __init__(self, spec: LaunchSpec, now: float) -> None:
        self._spec = spec
        self.deadline_boot_s = spec.deadline_boot_s
        self.frozen = False
        self.ended_by: EndedBy | None = None
        self._exited = False
        self._killed = False
        # These two move on by the length of a freeze when it is over.
        self._started = self._last_output = now
        self._frozen_at = now
        # Since when init owes us a freeze or a thaw.
        self._owed_since = self._wake_due = _NEVER
        self._steps: list[Order] = []
        self._step_due = _NEVER

    def output_came(self, now: float) -> None:
        self._last_output = now

    def froze(self, at: float) -> None:
        """Nothing has run since then: no limit counts on."""
        self.frozen, self._frozen_at = True, at

    def thawed(self, at: float) -> None:
        """Everything has run again since then."""
        if self.frozen:
            self._started += at - self._frozen_at
            self._last_output += at - self._frozen_at
        self.frozen = False

    def child_exited(self, now: float) -> None:
        """What is left of the tree gets LINGER_S to let go of the pipes."""
        self._exited = True
        if not self._killed:
            self._steps, self._step_due = [Order.KILL], now + LINGER_S

    def pipes_closed(self, now: float) -> None:
        """Nobody can write any more. Once the child has exited there is nothing left to wait for."""
        if self._exited and not self._killed:
            self._step_due = now

    def end(self, by: EndedBy, now: float) -> None:
        """Begin to end the child. The first cause stays, but for a lost lease, which leaves no time for grace."""
        if self._killed or self._exited:
            return
        if self.ended_by is None:
            self.ended_by = by
            interrupt = [Order.INTERRUPT] if self._spec.interrupt_first else []
            self._steps, self._step_due = [*interrupt, Order.TERMINATE, Order.KILL], now
        if by is EndedBy.LEASE_LOST:
            self._steps, self._step_due = [Order.KILL], now

    def spool_failed(self, now: float) -> None:
        """Output is missing from here on, however the child ends."""
        self.end(EndedBy.SPOOL_FAILED, now)
        self.ended_by = EndedBy.SPOOL_FAILED

    def next_order(self, now: float, boot_s: float) -> Order | None:
        """At most one; call again until None."""
        expired = boot_s >= self.deadline_boot_s
        is_owed = expired != self.frozen and not self._steps and not self._killed
        self._owed_since = min(self._owed_since, now) if is_owed else _NEVER
        self._wake_due = min(self._wake_due, now + WAKE_S) if is_owed else _NEVER
        if now >= self._owed_since + KILL_BOUND_S:
            self._give_init_up(now)
        elif now >= self._wake_due:
            self._wake_due = now + WAKE_S
            return Order.WAKE_INIT
        if not self._steps and not is_owed:
            self._check_bounds(now)
        if expired and self._steps and not self._killed:
            # Terminating takes a running child, and past the deadline none may run.
            self._steps, self._step_due = [Order.KILL], now
        return self._next_step(now)

    def wait_s(self, now: float, boot_s: float) -> float | None:
        """Until when `next_order` has nothing to say, unless something happens; None: for ever."""
        due = [self._step_due if self._steps else _NEVER, self._wake_due]
        if not self._killed and boot_s < self.deadline_boot_s:
            due.append(now + self.deadline_boot_s - boot_s)
        if not self._steps and not self._killed and self._owed_since == _NEVER:
            due.append(self._bound()[0])
        first = min(due)
        return None if first == _NEVER else max(0.0, first - now)

    def _bound(self) -> tuple[float, EndedBy]:
        """The next bound that the child will meet if it goes on as it does."""
        if self.frozen:
            return self._frozen_at + self._spec.freeze_bound_s, EndedBy.LEASE_LOST
        timeout = self._started + self._spec.timeout_s
        idle = self._last_output + self._spec.idle_timeout_s
        return (timeout, EndedBy.TIMEOUT) if timeout <= idle else (idle, EndedBy.IDLE_TIMEOUT)

    def _check_bounds(self, now: float) -> None:
        due, cause = self._bound()
        if now >= due:
            self.end(cause, now)

    def _give_init_up(self, now: float) -> None:
        """It hangs: its tree can be neither frozen nor thawed any more, only ended with it."""
        if self.ended_by is None:
            self.ended_by = EndedBy.LEASE_LOST
        self._killed = True
        self._steps, self._step_due = [Order.KILL_INIT], now

    def _next_step(self, now: float) -> Order | None:
        if not self._steps or now < self._step_due:
            return None
        order = self._steps.pop(0)
        self._step_due = now + self._spec.grace_s
        if order is Order.KILL:
            self._killed = True
            self._steps, self._step_due = [Order.KILL_INIT], now + KILL_BOUND_S
        return order
