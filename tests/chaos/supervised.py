"""One process of the cluster, started again whenever it has ended."""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from gsd_tasks.local.life import Child, end, spawn, wait_end
from gsd_tasks.local.part import Part
from tests.chaos.clock import S, boot_ns

#: After an end that nobody asked for.
RESTART_S: Final = 0.5
#: A planned stop may wait for a server that is away; then it is killed, as a service manager would.
STOP_BOUND_S: Final = 60.0


@dataclass(slots=True)
class Supervised:
    """Only the main thread calls this: a part dies with the thread that has started it.

    `tell` is given a sentence for what nobody asked for.
    """

    part: Part
    tell: Callable[[str], None]
    child: Child | None = None
    starts_ns: list[int] = field(default_factory=list)
    stops_s: list[float] = field(default_factory=list)
    _start_at_ns: int = 0
    _down_s: float = RESTART_S
    _term_at_ns: int | None = None
    _killed: bool = False

    @property
    def name(self) -> str:
        return self.part.name

    @property
    def pid(self) -> int | None:
        """While it runs."""
        return None if self.child is None or self.child.exit_status() is not None else self.child.pid

    def tick(self) -> None:
        """Notice an end; start again when its time has come."""
        now = boot_ns()
        if self.child is not None:
            status = self.child.exit_status()
            if status is None:
                self._hurry(now)
                return
            self._note_end(status, now)
        if now >= self._start_at_ns:
            self.child = spawn(self.part)
            self.starts_ns.append(now)

    def kill(self, down_s: float) -> None:
        """SIGKILL; it comes back after so long."""
        self._down_s, self._killed = down_s, True
        self.send(signal.SIGKILL)

    def terminate(self, down_s: float) -> None:
        """SIGTERM, and back so long after it has ended."""
        self._down_s = down_s
        self._term_at_ns = self._term_at_ns or boot_ns()
        self.send(signal.SIGTERM)

    def send(self, number: signal.Signals) -> None:
        """Nothing if it has ended."""
        if self.child is not None and self.child.exit_status() is None:
            self.child.send(number)

    def ask_to_stop(self) -> None:
        """For good; `stop` waits for it."""
        self.send(signal.SIGCONT)
        self.send(signal.SIGTERM)

    def stop(self, bound_s: float) -> bool:
        """Whether it ends by itself in time. It ends."""
        if self.child is None or wait_end(self.child, bound_s):
            return True
        end(self.child, signal.SIGKILL, bound_s)
        return False

    def _hurry(self, now: int) -> None:
        if self._term_at_ns is not None and not self._killed and now - self._term_at_ns > STOP_BOUND_S * S:
            self.tell(f"{self.name} has not ended {STOP_BOUND_S:.0f} s after SIGTERM: killed")
            self.kill(self._down_s)

    def _note_end(self, status: int, now: int) -> None:
        if self._killed:
            pass
        elif self._term_at_ns is not None:
            self.stops_s.append((now - self._term_at_ns) / S)
        else:
            said = self.child.log_tail() if self.child else ""
            self.tell(f"{self.name} ended by itself (status {status}): {said[-400:]}")
        self.child, self._term_at_ns, self._killed = None, None, False
        self._start_at_ns = now + int(self._down_s * S)
        self._down_s = RESTART_S
