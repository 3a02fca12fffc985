"""Starting a shim: the worker's side."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import select
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final, cast

from gsd_tasks.domain.policy import signal_name
from gsd_tasks.process.contain import shim_command, shim_environment, sweep_marker
from gsd_tasks.process.nursery import NurseryFailed
from gsd_tasks.process.shim.protocol import LOCK_NAME, LOG_NAME, Containment, LaunchSpec

if TYPE_CHECKING:
    from gsd_tasks.process.nursery import Nursery, Shim

__all__ = ["Containment", "LaunchSpec", "Launched", "NotLaunched", "launch"]

_LOG_CHARS: Final = 500
_LAST_WORDS_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Launched:
    """The child runs. The shim is this process's own child: `wait` for it in the end, or it stays a zombie."""

    shim: Shim
    child_pid: int
    started_at_ns: int
    containment: Containment

    @property
    def shim_pid(self) -> int:
        return self.shim.pid

    def wait(self, timeout_s: float = 0.0) -> bool:
        """Whether the shim has ended, at the latest after this time; its child's tree is gone then."""
        try:
            self.shim.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return False
        return True


@dataclass(frozen=True, slots=True)
class NotLaunched:
    """No child any more, and no folder left.

    `stage`: "spool", "containment", "chdir", "exec", "shim" (it broke). Or, where the child may have run for a moment,
    as the shim was gone before it could tell: "killed", "timeout".
    """

    stage: str
    errno: int | None
    problem: str


def launch(
    folder: Path, spec: LaunchSpec, timeout_s: float = 10.0, *, nursery: Nursery | None = None
) -> Launched | NotLaunched:
    """Run `spec` with `folder` as its spool; returns once the command is executed, or is not.

    The shim comes from the `nursery`, if there is one and it has one to give. The folder is made (its parent must
    exist); one that holds anything is refused and left as it is. If this process dies meanwhile, either nothing of the
    attempt is left, or a shim that goes on with it.
    """
    folder = folder.absolute()
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        if any(folder.iterdir()):
            return NotLaunched("spool", errno.EEXIST, f"{folder} is not empty")
    except OSError as error:
        return NotLaunched("spool", error.errno, os.strerror(error.errno or errno.EIO))
    try:
        shim = _start(folder, nursery)
    except NurseryFailed:
        shutil.rmtree(folder, ignore_errors=True)
        return launch(folder, spec, timeout_s)
    except TimeoutError:
        shutil.rmtree(folder, ignore_errors=True)
        return _refusal({"late": True}, folder)
    except OSError as error:
        shutil.rmtree(folder, ignore_errors=True)
        return NotLaunched("shim", error.errno, os.strerror(error.errno or errno.EIO))
    reply = _converse(shim, spec.encode(), time.monotonic() + timeout_s)
    if "started" in reply:
        return Launched(shim, reply["child_pid"], reply["started_at_ns"], spec.containment)
    if "broken" in reply and (signal_number := _killed_by(shim)):
        reply = {"killed": signal_number}
    _end(shim, spec)
    refusal = _refusal(reply, folder)
    shutil.rmtree(folder, ignore_errors=True)
    return refusal


def _start(folder: Path, nursery: Nursery | None = None) -> Shim:
    """Start the shim with its lock already held: there is no moment at which the attempt looks abandoned."""
    lock = os.open(folder / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        log = os.open(folder / LOG_NAME, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            if nursery is not None and (shim := nursery.fork(folder, lock, log)) is not None:
                return shim
            return subprocess.Popen(
                shim_command(str(folder), str(lock)),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                cwd="/",
                env=shim_environment(),
                pass_fds=[lock],
                start_new_session=True,
                bufsize=0,
            )
        finally:
            os.close(log)
    finally:
        os.close(lock)


def _converse(shim: Shim, spec: bytes, until: float) -> dict[str, Any]:
    """Hand over the spec and take the reply; a dict with "broken" or "late" if there is none. Waits for no one longer.

    The spec goes through a pipe: what it holds stands in no file and in no argument.
    """
    with cast("IO[bytes]", shim.stdin) as out, cast("IO[bytes]", shim.stdout) as back:
        os.set_blocking(out.fileno(), False)
        left, heard = memoryview(spec), b""
        while not heard.endswith(b"\n"):
            fd, event = (out.fileno(), select.POLLOUT) if left else (back.fileno(), select.POLLIN)
            if not _ready(fd, event, until):
                return {"late": True}
            try:
                if left:
                    left = left[os.write(fd, left) :]
                elif more := os.read(fd, 4096):
                    heard += more
                else:
                    return {"broken": True}
            except BrokenPipeError:
                left = left[:0]  # it wants no more of it: it may have said why
        reply: dict[str, Any] = json.loads(heard)
        return reply


def _ready(fd: int, event: int, until: float) -> bool:
    poller = select.poll()
    poller.register(fd, event)
    return bool(poller.poll(max(0.0, until - time.monotonic()) * 1000))


def _killed_by(shim: Shim) -> int | None:
    """The signal that ended a shim that says nothing more, if it was one: its end is at hand."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        code = shim.wait(_LAST_WORDS_S)
        return -code if code < 0 else None
    return None


def _end(shim: Shim, spec: LaunchSpec) -> None:
    """One that refused ends by itself; one that broke or hangs takes along what it started, or leaves it to us."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        shim.wait(_LAST_WORDS_S)
        if shim.returncode == 0:
            return
    shim.kill()
    shim.wait()
    sweep_marker(spec.session_id, spec.attempt)


def _refusal(reply: dict[str, Any], folder: Path) -> NotLaunched:
    if "failed" in reply:
        return NotLaunched(reply["failed"], reply["errno"], reply["problem"])
    if "killed" in reply:
        return NotLaunched("killed", None, f"the shim was ended by {signal_name(reply['killed'])}")
    if "late" in reply:
        return NotLaunched("timeout", None, "the shim did not answer in time")
    with contextlib.suppress(OSError):
        log = (folder / LOG_NAME).read_text(errors="replace").strip()
        return NotLaunched("shim", None, f"the shim broke: {log[-_LOG_CHARS:]}")
    return NotLaunched("shim", None, "the shim broke")
