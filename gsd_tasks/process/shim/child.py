"""The fork and exec of the command itself."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Callable, Mapping
from typing import NamedTuple, NoReturn


class Program(NamedTuple):
    """What is executed, with what it sees. `stdio` are the descriptors that become its 0, 1 and 2."""

    argv: tuple[str, ...]
    env: Mapping[str, str]
    cwd: str
    umask: int
    stdio: tuple[int, int, int]


class NotExecuted(Exception):
    """The command did not start: `stage` is "chdir" or "exec"."""

    def __init__(self, stage: str, code: int) -> None:
        super().__init__(f"{stage}: {os.strerror(code)}")
        self.stage = stage
        self.code = code


def spawn(program: Program, announce: Callable[[], object]) -> int:
    """Start `program` in a session of its own and return its pid, once it is executed.

    `announce` is called in the new process, just before. Other descriptors than 0 to 2 must be close-on-exec.
    """
    failure, failed = os.pipe()
    pid = os.fork()
    if pid == 0:
        _become(program, announce, failed)
    os.close(failed)
    with os.fdopen(failure, "rb") as report:
        # A successful exec closes the other end without a word.
        words = report.read().split()
    if words:
        os.waitpid(pid, 0)
        raise NotExecuted(words[0].decode(), int(words[1]))
    return pid


def _become(program: Program, announce: Callable[[], object], failed: int) -> NoReturn:
    stage = "exec"
    try:
        os.setsid()
        announce()
        _redirect(program.stdio)
        os.umask(program.umask)
        stage = "chdir"
        _enter(program.cwd)
        stage = "exec"
        _reset_signals()
        os.execvpe(program.argv[0], program.argv, dict(program.env))
    except OSError as error:
        code = error.errno or errno.EIO
    except ValueError:  # a NUL in an argument, "=" in a variable's name: what exec cannot express
        code = errno.EINVAL
    except BaseException:  # noqa: BLE001 (this must not go on as a second init)
        code = errno.EIO
    os.write(failed, f"{stage} {code}".encode())
    os._exit(127)


def _enter(real_path: str) -> None:
    os.chdir(real_path)
    if os.getcwd() != real_path:
        # It was a real path when it was checked: since then somebody has put a link into it.
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))


def _redirect(stdio: tuple[int, int, int]) -> None:
    # Moved above 2 first: one of them could stand where another has to go.
    moved = [os.dup(fd) if fd <= 2 else fd for fd in stdio]
    for target, fd in enumerate(moved):
        os.dup2(fd, target, inheritable=True)


def _reset_signals() -> None:
    """An ignored signal stays ignored over exec, and so does a mask: programs expect neither."""
    for signum in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(signum, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
