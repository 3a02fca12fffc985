"""The shim's side of init: forking it into the containment that was asked for, and speaking with it."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import signal
import socket
import traceback
from collections.abc import Callable, Collection
from typing import Final, NamedTuple

from gsd_tasks.process.shim import linux
from gsd_tasks.process.shim.child import Program
from gsd_tasks.process.shim.crowd import bound_processes
from gsd_tasks.process.shim.init import Command, Init, Term
from gsd_tasks.process.shim.protocol import Containment, LaunchSpec, ProcessLimit

_PACKET_BYTES: Final = 256


class NotStarted(Exception):
    """No child, and nothing is left of the attempt to make one. `stage`: "containment", "chdir" or "exec"."""

    def __init__(self, stage: str, code: int) -> None:
        super().__init__(f"{stage}: {os.strerror(code)}")
        self.stage = stage
        self.code = code


class Report(NamedTuple):
    """A packet from init. `pid` is that of the process whose descriptor it brought, as numbered outside; 0: none."""

    words: list[str]
    pid: int = 0


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

    That is 0 where the child has ended by now.

    Raises:
        NotStarted: the system refused. Nothing runs.
    """
    term = Term(spec.deadline_boot_s, spec.freeze_bound_s)
    init = start_init(spec.containment, spec.max_processes, lambda init: init.live(program, term), keep=program.stdio)
    report = init.receive()
    if report is not None and report.words[0] == "started":
        init.reports.setblocking(False)
        return init, report.pid
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

    try:
        fork = _fork_apart if containment is Containment.PID_NAMESPACE else _fork
        pid = fork(begin, reporting)
    except OSError as error:
        raise NotStarted("containment", error.errno or errno.EIO) from error
    os.close(commands)
    reporting.close()
    report = _receive(reports)
    if report is None or report.words[0] != "ready":
        raise _failure(report)
    return InitHandle(pid, orders, reports, ProcessLimit(report.words[1]))


def _fork_apart(begin: Callable[..., object], reporting: socket.socket) -> int:
    """`_fork` into a PID namespace; the shim itself stays outside: it must know the host's users and processes."""
    user = os.geteuid(), os.getegid()
    try:
        return _fork(begin, reporting, linux.fork_into_pid_namespace)
    except PermissionError:
        pass

    def begin_as_user() -> None:
        linux.be_user(*user)
        begin(own_users=True)

    return _fork(begin_as_user, reporting, linux.fork_into_user_namespace)


def _fork(do: Callable[[], object], reporting: socket.socket, fork: Callable[[], int] = os.fork) -> int:
    """Do it in a new process, which then ends; nothing of it may ever return into the shim's code."""
    pid = fork()
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
    """Tie our life to the shim's, which is our parent, and take possession of our world."""
    os.setsid()
    linux.name_process(b"gsd-init")
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
    data, descriptors, _, _ = socket.recv_fds(reports, _PACKET_BYTES, 1, socket.MSG_CMSG_CLOEXEC)
    if not data:
        return None
    pids = [linux.pid_of(descriptor) for descriptor in descriptors]
    for descriptor in descriptors:
        os.close(descriptor)
    return Report(data.decode().split(), *pids)


def _failure(report: Report | None) -> NotStarted:
    if report is None or report.words[0] != "failed":
        return NotStarted("containment", errno.EIO)
    return NotStarted(report.words[1], int(report.words[2]))
