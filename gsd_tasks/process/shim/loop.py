"""The shim's life with its child: one thread, one selector, woken only by what happens or falls due."""

from __future__ import annotations

import base64
import contextlib
import math
import os
import selectors
import signal
import socket
import time
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from gsd_tasks.process.shim import linux, tree
from gsd_tasks.process.shim.control import ControlServer
from gsd_tasks.process.shim.course import Course, Order
from gsd_tasks.process.shim.feed import Feed
from gsd_tasks.process.shim.init import Command
from gsd_tasks.process.shim.output import STREAMS, Intake, Pipes
from gsd_tasks.process.shim.protocol import LaunchSpec
from gsd_tasks.process.shim.start import InitHandle, Report
from gsd_tasks.process.spool.exits import EndedBy

_COMMANDS: Final = {
    Order.INTERRUPT: Command.INTERRUPT,
    Order.TERMINATE: Command.TERMINATE,
    Order.KILL: Command.KILL,
}
# What may be given from outside as the reason for an end; the others are the shim's own.
_ASKED_FOR: Final = (EndedBy.STOPPED, EndedBy.LEASE_LOST)
# A dead tree's pipe holds at most its capacity, which one read takes.
_LAST_READS: Final = 4


class Loop:
    """`run` returns when no process of the tree is left and everything that it wrote is in `intake`.

    `status` is the child's wait status, None if nobody lived to take it; `peak_rss_bytes` is the most that the child,
    or a process it waited for, had.
    """

    def __init__(self, spec: LaunchSpec, intake: Intake, init: InitHandle, child_pid: int) -> None:
        self.course = Course(spec, time.monotonic())
        self.status: int | None = None
        self.peak_rss_bytes: int | None = None
        self.intake = intake
        self._spec = spec
        self._init = init
        self._init_gone = False
        self._init_silent = False
        self._child_pid = child_pid
        self._timer = linux.boot_timer()
        self._selector = selectors.DefaultSelector()
        self._control: ControlServer
        self._feed: Feed
        self._outputs: dict[int, int] = {}

    def run(self, pipes: Pipes, listener: socket.socket) -> None:
        self._watch(pipes, listener)
        while not self._init_gone:
            self._follow_course()
            patience_s = self.course.wait_s(time.monotonic(), linux.boot_s())
            for key, _ in self._selector.select(patience_s):
                key.data()
            if self.intake.has_news():
                self._control.tell_news()
        self._bury()
        self._drain()

    def _watch(self, pipes: Pipes, listener: socket.socket) -> None:
        """Everything that can wake us, each with what is done about it."""
        stdin, *outputs = pipes.ours
        for fd, stream in zip(outputs, STREAMS, strict=True):
            self._outputs[fd] = stream
            self._on_readable(fd, partial(self._take, fd))
        self._feed = Feed(stdin, self._spec, self._selector)
        self._on_readable(self._init.reports.fileno(), self._hear_init)
        self._on_readable(self._init.pidfd, self._lose_init)
        self._on_readable(self._timer, self._take_timer)
        terminated = _terminated()
        self._on_readable(terminated, lambda: self._be_terminated(terminated))
        self._control = ControlServer(listener, self._selector, self._answer)
        linux.set_boot_timer(self._timer, self.course.deadline_boot_s)

    def _take_timer(self) -> None:
        # A new deadline that came in the same turn has set it anew: then there is nothing to read any more.
        with contextlib.suppress(BlockingIOError):
            os.read(self._timer, 8)

    def _on_readable(self, fd: int, do: Callable[[], object]) -> None:
        self._selector.register(fd, selectors.EVENT_READ, do)

    def _follow_course(self) -> None:
        # Where we have stood still ourselves, init has gone on: what it did counts before the time that has passed.
        self._hear_init()
        now = time.monotonic()
        if not self._outputs:
            self.course.pipes_closed(now)
        if self.intake.failure is not None:
            self.course.spool_failed(now)
        elif self.intake.full:
            self.course.end(EndedBy.OUTPUT_LIMIT, now)
        while order := self.course.next_order(now, linux.boot_s()):
            match order:
                case Order.KILL_INIT:
                    self._init.kill()
                case Order.WAKE_INIT:
                    self._init.wake()
                case command:
                    self._init.order(_COMMANDS[command])

    def _take(self, fd: int) -> None:
        size = self.intake.take(fd, self._outputs[fd])
        if size:
            self.course.output_came(time.monotonic())
        elif size == 0:
            del self._outputs[fd]
            self._selector.unregister(fd)
            os.close(fd)

    def _hear_init(self) -> None:
        """All that it has reported by now."""
        with contextlib.suppress(BlockingIOError):
            while report := self._init.receive():
                self._heed(report)
            if not self._init_silent:
                self._init_silent = True
                self._selector.unregister(self._init.reports)

    def _heed(self, report: Report) -> None:
        match report.words:
            case ["exited", status, peak_kib]:
                self.status, self.peak_rss_bytes = int(status), 1024 * int(peak_kib)
                self.course.child_exited(time.monotonic())
                self._feed.finish()
                self._control.tell_news()
            case ["frozen", since]:
                self.course.froze(float(since))
            case ["thawed", since]:
                self.course.thawed(float(since))
            case ["abandoned"]:
                self.course.end(EndedBy.LEASE_LOST, time.monotonic())
            case _:
                raise ValueError(f"unknown report: {report.words}")

    def _lose_init(self) -> None:
        """It did as it was told, or it was killed: with it went its namespace, or its orphans have come to us."""
        os.waitpid(self._init.pid, 0)
        self._selector.unregister(self._init.pidfd)
        self._init_gone = True
        self._feed.finish()

    def _bury(self) -> None:
        self._hear_init()
        tree.kill_brood(self._reap)

    def _reap(self) -> bool:
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    return True
                if pid == self._child_pid:
                    self.status = status
        return False

    def _drain(self) -> None:
        for fd, stream in self._outputs.items():
            for _ in range(_LAST_READS):
                if not self.intake.take(fd, stream):
                    break

    def _be_terminated(self, told: int) -> None:
        """SIGTERM by hand, or from a host that shuts down."""
        os.read(told, 4096)
        self.course.end(EndedBy.STOPPED, time.monotonic())

    def _answer(self, request: dict[str, Any]) -> dict[str, Any]:
        match request:
            case {"do": "deadline", "boot_s": float() | int() as boot_s} if math.isfinite(boot_s):
                self.course.deadline_boot_s = boot_s
                linux.set_boot_timer(self._timer, boot_s)
                self._init.order(Command.DEADLINE, boot_s)
                return {}
            case {"do": "end", "why": why} if why in _ASKED_FOR:
                self.course.end(EndedBy(why), time.monotonic())
                return {}
            case {"do": "interrupt"}:
                self._init.order(Command.INTERRUPT)
                return {}
            case {"do": "input", "number": int() as number, "data": str() as data}:
                return {"taken": self._feed.take(number, base64.b64decode(data, validate=True))}
            case {"do": "close_input"}:
                self._feed.finish()
                return {}
            case {"do": "status"}:
                return self._describe()
            case _:
                # Not the whole of it: it may hold an input, and so a secret.
                raise ValueError(f"unknown request: {request['do']!r:.40}")

    def _describe(self) -> dict[str, Any]:
        return {
            "child_pid": self._child_pid,
            "frozen": self.course.frozen,
            "ended": self.status is not None,
            "ended_by": self.course.ended_by,
            "deadline_boot_s": self.course.deadline_boot_s,
            "stdout_bytes": self.intake.counts.stdout,
            "stderr_bytes": self.intake.counts.stderr,
            "inputs": self._feed.number,
            "input_open": self._feed.is_open,
        }


def _terminated() -> int:
    """A descriptor that is readable once SIGTERM has come, were it before this."""
    heard, told = os.pipe()
    os.set_blocking(told, False)
    signal.set_wakeup_fd(told, warn_on_full_buffer=False)
    signal.signal(signal.SIGTERM, lambda *_: None)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
    return heard
