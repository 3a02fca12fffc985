"""The shim's side of init: forking it into the containment that was asked for, and speaking with it."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import signal
import socket
import struct
import traceback
from collections.abc import Callable, Collection
from typing import Final, NamedTuple

from gsd_tasks.process.shim import linux
from gsd_tasks.process.shim.child import Program
from gsd_tasks.process.shim.crowd import bound_processes
from gsd_tasks.process.shim.init import Command, Init, Term
from gsd_tasks.process.shim.protocol import Containment, LaunchSpec, ProcessLimit

_GO: Final = b"g"
_PACKET_BYTES: Final = 256
_CREDENTIALS: Final = struct.Struct("3i")


class NotStarted(Exception):
    """No child, and nothing is left of the attempt to make one. `stage`: "containment", "chdir" or "exec"."""

    def __init__(self, stage: str, code: int) -> None:
        super().__init__(f"{stage}: {os.strerror(code)}")
        self.stage = stage
        self.code = code


class Report(NamedTuple):
    """A packet from init, or from the child before its exec. `pid` is the sender's, as numbered outside."""

    pid: int
    words: list[str]


class InitHandle:
    """A running init. It and everything in its world die when this process does, or on `kill`."""

    def __init__(self, pid: int, commands: int, reports: socket.socket, process_limit: ProcessLimit) -> None:
        self.pid = pid
        self.pidfd = linux.pidfd_open(pid)
        self.reports = reports
        self.process_limit = process_limit
        self._commands = commands
        os.set_blocking(commands, False)

    def order(self, command: Command, boot_s: float = 0.0) -> None:
        # Broken: it is dead, as its pidfd says. Full: it has not obeyed for hours, and the course sees to that.
        with contextlib.suppress(BrokenPipeError, BlockingIOError):
            os.write(self._commands, command.encode(boot_s))

    def wake(self) -> None:
        """Let it go on, if somebody has stopped it."""
        self._send(signal.SIGCONT)

    def kill(self) -> None:
        self._send(signal.SIGKILL)

    def _send(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            linux.pidfd_send_signal(self.pidfd, number)

    def receive(self) -> Report | None:
        """The next report; None when there is none left and no one to send any. BlockingIOError if that can change."""
        return _receive(self.reports)


def start_child(spec: LaunchSpec, program: Program) -> tuple[InitHandle, int]:
    """Run `program` below a new init, within the bounds of `spec`; returns that and the child's pid.

    Raises:
        NotStarted: the system refused. Nothing runs.
    """
    term = Term(spec.deadline_boot_s, spec.freeze_bound_s)
    init = start_init(spec.containment, spec.max_processes, lambda init: init.live(program, term), keep=program.stdio)
    child_pid = 0
    while report := init.receive():
        if report.words[0] == "child":
            child_pid = report.pid
        elif report.words[0] == "started":
            init.reports.setblocking(False)
            return init, child_pid
        else:
            break
    os.waitpid(init.pid, 0)
    raise _failure(report)


def start_init(
    containment: Containment, max_processes: int, live: Callable[[Init], object], keep: Collection[int] = ()
) -> InitHandle:
    """Fork an init that does `live` and ends. It has no descriptors of ours but 0 to 2 and `keep`.

    Raises:
        NotStarted: stage "containment": the host does not allow this form.
    """
    commands, orders = os.pipe()
    reports, reporting = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    # Who sent a packet is told by the kernel, in our own numbering: the only simple way to the pids in the namespace.
    reports.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
    powers = linux.capabilities()

    def begin(*, own_users: bool = False) -> None:
        linux.close_all_but({0, 1, 2, commands, reporting.fileno(), *keep})
        _settle(containment, commands)
        limit = ProcessLimit.NONE
        if containment is Containment.PID_NAMESPACE:
            limit = bound_processes(max_processes, own_users=own_users)
        # A user namespace makes its maker almighty in there: the child would start in folders closed to its user.
        linux.set_capabilities(powers)
        init = Init(commands, reporting, containment)
        init.report(f"ready {limit}")
        live(init)

    if containment is Containment.PID_NAMESPACE:
        starter = _fork(lambda: _enter_and_fork(begin, reporting), reporting)
        os.waitpid(starter, 0)
    else:
        _fork(begin, reporting)
    os.close(commands)
    reporting.close()
    with contextlib.suppress(BrokenPipeError):
        os.write(orders, _GO)
    report = _receive(reports)
    if report is None or report.words[0] != "ready":
        raise _failure(report)
    return InitHandle(report.pid, orders, reports, ProcessLimit(report.words[1]))


def _enter_and_fork(begin: Callable[..., object], reporting: socket.socket) -> None:
    """An intermediate process, so that the shim itself stays outside: it must know the host's users and processes."""
    own_users = linux.enter_pid_namespace()
    _fork(lambda: begin(own_users=own_users), reporting)


def _fork(do: Callable[[], object], reporting: socket.socket) -> int:
    """Do it in a new process, which then ends; nothing of it may ever return into the shim's code."""
    pid = os.fork()
    if pid:
        return pid
    try:
        do()
    except OSError as error:
        reporting.send(f"failed containment {error.errno or errno.EIO}".encode())
    except BaseException:  # noqa: BLE001 (this must not go on as a second shim)
        traceback.print_exc()
    finally:
        os._exit(0)


def _settle(containment: Containment, commands: int) -> None:
    """Wait until our parent is the shim, tie our life to its, and take possession of our world."""
    os.setsid()
    linux.name_process(b"gsd-init")
    if os.read(commands, 1) != _GO:
        os._exit(1)
    if containment is Containment.SUBREAPER:
        # SIGKILL on the shim's death would leave the tree behind: here the pipe's end is the sign, and is acted upon.
        linux.set_child_subreaper()
        return
    linux.set_parent_death_signal(signal.SIGKILL)
    poller = select.poll()
    poller.register(commands, select.POLLIN)
    if poller.poll(0):  # its end: the shim died before that was set
        os._exit(1)
    linux.mount_own_proc()


def _receive(reports: socket.socket) -> Report | None:
    data, ancillary, _, _ = reports.recvmsg(_PACKET_BYTES, socket.CMSG_SPACE(_CREDENTIALS.size))
    if not data:
        return None
    pid = 0
    for _, kind, value in ancillary:
        if kind == socket.SCM_CREDENTIALS:
            pid = _CREDENTIALS.unpack(value)[0]
    return Report(pid, data.decode().split())


def _failure(report: Report | None) -> NotStarted:
    if report is None or report.words[0] != "failed":
        return NotStarted("containment", errno.EIO)
    return NotStarted(report.words[1], int(report.words[2]))
