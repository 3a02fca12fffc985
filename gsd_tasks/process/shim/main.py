"""The shim, from its first breath to its last.

Its folder is its present folder throughout. Standard input brings one LaunchSpec, standard output takes one reply, and
standard error is the log in the folder, which stays empty unless there is a bug.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from gsd_tasks.process.shim import control, linux
from gsd_tasks.process.shim.child import Program
from gsd_tasks.process.shim.loop import Loop
from gsd_tasks.process.shim.output import Intake, Pipes
from gsd_tasks.process.shim.protocol import (
    LOCK_NAME,
    LOG_NAME,
    PROTOCOL,
    READERS_SINCE,
    Containment,
    LaunchSpec,
    line,
)
from gsd_tasks.process.shim.start import NotStarted, start_child, start_init
from gsd_tasks.process.shim.tree import read_proc
from gsd_tasks.process.spool.exits import EndedBy, ExitFile, ExitRecord
from gsd_tasks.process.spool.writer import SpoolWriter

_HERE = Path()
_PROBED_PROCESSES: Final = 4096
VERSION: Final = {"protocol": PROTOCOL, "readers_since": READERS_SINCE}


def main(arguments: list[str]) -> int:
    """Run one attempt, or the probe; the exit status."""
    if arguments == ["--probe"]:
        return probe()
    folder, lock = arguments
    os.chdir(folder)
    umask = os.umask(0o077)
    try:
        _become_shim(int(lock))
    except OSError as error:
        _reply(1, {"failed": "spool", "errno": error.errno, "problem": error.strerror})
        return 0
    spec = _read_spec()
    if spec is None:
        _leave_nothing()
        return 1
    _run(spec, umask, _detach())
    return 0


def probe() -> int:
    """0 if this host lets this user hold a tree in a PID namespace; else 1.

    On standard output: what bounds processes in there, or the reason.
    """
    linux.make_undumpable()
    try:
        init = start_init(Containment.PID_NAMESPACE, _PROBED_PROCESSES, lambda _: None)
    except NotStarted as refusal:
        os.write(1, f"no PID namespace: {os.strerror(refusal.code)}".encode())
        return 1
    os.write(1, init.process_limit.encode())
    return 0


def _become_shim(lock: int) -> None:
    for signum in (signal.SIGINT, signal.SIGHUP):
        signal.signal(signum, signal.SIG_IGN)
    # Kept back until there is a child to end; init, which inherits this, is not to end by it at all.
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    linux.make_undumpable()
    linux.name_process(b"gsd-shim")
    linux.set_child_subreaper()
    os.set_inheritable(lock, False)
    me = read_proc(os.getpid())
    os.write(lock, line({"pid": os.getpid(), "started": me and me.started, "boot_id": linux.boot_id(), **VERSION}))


def _read_spec() -> LaunchSpec | None:
    """None: the worker died before it had said all, or spoke another protocol."""
    with os.fdopen(0, "rb", closefd=False) as stdin:
        document = stdin.readline()
    try:
        return LaunchSpec.decode(document)
    except (ValueError, KeyError, TypeError) as error:
        if document.endswith(b"\n"):
            _reply(1, {"failed": "spec", "errno": 0, "problem": f"{type(error).__name__}: {error}"})
        return None


def _leave_nothing() -> None:
    for name in (LOCK_NAME, LOG_NAME):
        with contextlib.suppress(OSError):
            os.unlink(name)
    with contextlib.suppress(OSError):
        os.rmdir(Path.cwd())


def _detach() -> int:
    """Let go of the worker's two pipes, but for the one that this returns: it takes the reply."""
    reply_to = os.dup(1)
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(nothing, 1)
    os.close(nothing)
    return reply_to


def _run(spec: LaunchSpec, umask: int, reply_to: int) -> None:
    started_at_ns = time.time_ns()
    try:
        exit_file = ExitFile(_HERE)
        spool = SpoolWriter(_HERE)
        listener = control.listen()
        pipes = Pipes.open(spec.beginning)
    except OSError as error:
        _reply(reply_to, {"failed": "spool", "errno": error.errno, "problem": error.strerror})
        return
    program = Program(spec.argv, spec.child_env(), spec.cwd, umask, pipes.theirs)
    try:
        init, child_pid = start_child(spec, program)
    except NotStarted as refusal:
        exit_file.write(_not_started(refusal, started_at_ns))
        _reply(reply_to, {"failed": refusal.stage, "errno": refusal.code, "problem": os.strerror(refusal.code)})
        return
    pipes.close_theirs()
    _reply(reply_to, {"started": True, "child_pid": child_pid, "started_at_ns": started_at_ns})
    loop = Loop(spec, Intake(spool, spec.max_output_bytes), init, child_pid)
    loop.run(pipes, listener)
    exit_file.write(_ended(loop, started_at_ns))


def _reply(to: int, message: Mapping[str, Any]) -> None:
    with contextlib.suppress(BrokenPipeError):  # the worker died: whoever takes over the folder reads it there
        os.write(to, line({"protocol": PROTOCOL, **message}))
    os.close(to)


def _not_started(refusal: NotStarted, started_at_ns: int) -> ExitRecord:
    return ExitRecord(
        exit_code=None,
        exit_signal=None,
        ended_by=EndedBy.NOT_STARTED,
        detail=str(refusal),
        started_at_ns=started_at_ns,
        ended_at_ns=time.time_ns(),
        stdout_bytes=0,
        stderr_bytes=0,
        peak_rss_bytes=None,
    )


def _ended(loop: Loop, started_at_ns: int) -> ExitRecord:
    # Nobody took its status: init was killed, and the child with it.
    status = signal.SIGKILL if loop.status is None else loop.status
    failure = loop.intake.failure
    detail = "init was killed, and everything below it" if loop.status is None else None
    return ExitRecord(
        exit_code=os.WEXITSTATUS(status) if os.WIFEXITED(status) else None,
        exit_signal=os.WTERMSIG(status) if os.WIFSIGNALED(status) else None,
        ended_by=loop.course.ended_by if failure is None else EndedBy.SPOOL_FAILED,
        detail=detail if failure is None else f"{failure.strerror} (errno {failure.errno})",
        started_at_ns=started_at_ns,
        ended_at_ns=time.time_ns(),
        stdout_bytes=loop.intake.counts.stdout,
        stderr_bytes=loop.intake.counts.stderr,
        peak_rss_bytes=loop.peak_rss_bytes,
    )
