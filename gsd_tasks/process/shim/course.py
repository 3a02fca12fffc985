"""What to do with the child, and when: its limits, its deadline, and the steps of ending it. Pure: time is handed in.

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
# How long init may take over a KILL before it is itself killed.
KILL_BOUND_S: Final = 5.0

_NEVER: Final = float("inf")


class Order(Enum):
    """What is to be done. INTERRUPT and TERMINATE reach the child's process group, the others its whole tree."""

    FREEZE = "freeze"
    THAW = "thaw"
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
        # These three move on by the length of a freeze when it is over.
        self._started = self._last_output = now
        self._frozen_at = now
        self._steps: list[Order] = []
        self._step_due = _NEVER

    def output_came(self, now: float) -> None:
        self._last_output = now

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
        if self.frozen and not expired and not self._killed:
            return self._thaw(now)
        if not self._steps and not self._killed:
            if expired and not self.frozen:
                return self._freeze(now)
            self._check_bounds(now)
        if expired and self._steps and not self._killed:
            # Terminating takes a running child, and past the deadline none may run.
            self._steps, self._step_due = [Order.KILL], now
        return self._next_step(now)

    def wait_s(self, now: float, boot_s: float) -> float | None:
        """Until when `next_order` has nothing to say, unless something happens; None: for ever."""
        due = [self._step_due if self._steps else _NEVER]
        if not self._killed and not self.frozen:
            due.append(now + self.deadline_boot_s - boot_s)
        if not self._steps and not self._killed:
            due.append(self._bound()[0])
        first = min(due)
        return None if first == _NEVER else max(0.0, first - now)

    def _freeze(self, now: float) -> Order:
        self.frozen = True
        self._frozen_at = now
        return Order.FREEZE

    def _thaw(self, now: float) -> Order:
        self.frozen = False
        self._started += now - self._frozen_at
        self._last_output += now - self._frozen_at
        return Order.THAW

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

    def _next_step(self, now: float) -> Order | None:
        if not self._steps or now < self._step_due:
            return None
        order = self._steps.pop(0)
        self._step_due = now + self._spec.grace_s
        if order is Order.KILL:
            self._killed = True
            self._steps, self._step_due = [Order.KILL_INIT], now + KILL_BOUND_S
        return order
