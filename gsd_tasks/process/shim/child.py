"""The start of the command itself."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Mapping
from typing import Final, NamedTuple

_SIGNALS: Final = signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}


class Program(NamedTuple):
    """What is executed, with what it sees. `stdio` are the descriptors, above 2, that become its 0, 1 and 2."""

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


def spawn(program: Program) -> int:
    """Start `program` in a session of its own and return its pid, once it is executed. Leaves us in `/`.

    Not by a fork of this Python, which would copy all of its memory's tables to throw them away: until it is executed,
    the new process shares our memory, and we stand still. So what it is to begin with, we are ourselves for a moment.
    Other descriptors than 0 to 2 must be close-on-exec.
    """
    try:
        _enter(program.cwd)
    except (OSError, ValueError) as error:
        raise NotExecuted("chdir", _code(error)) from error
    umask = os.umask(program.umask)
    try:
        return _execute(program)
    except (OSError, ValueError) as error:
        raise NotExecuted("exec", _code(error)) from error
    finally:
        os.umask(umask)
        os.chdir("/")


def _enter(real_path: str) -> None:
    os.chdir(real_path)
    if os.getcwd() != real_path:
        # It was a real path when it was checked: since then somebody has put a link into it.
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))


def _execute(program: Program) -> int:
    """The first of that name on the program's own PATH, as `os.execvpe` looks for it."""
    name = program.argv[0]
    if os.path.dirname(name):
        return _spawn(name, program)
    missing: OSError = FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
    refused: OSError | None = None
    for folder in program.env.get("PATH", os.defpath).split(os.pathsep):
        path = os.path.join(folder, name)
        try:
            os.stat(path)  # to be told that it is not there by a new process takes longer
            return _spawn(path, program)
        except (FileNotFoundError, NotADirectoryError) as error:
            missing = error
        except OSError as error:
            refused = refused or error
    raise refused or missing


def _spawn(path: str, program: Program) -> int:
    return os.posix_spawn(
        path,
        program.argv,
        program.env,
        file_actions=[(os.POSIX_SPAWN_DUP2, fd, target) for target, fd in enumerate(program.stdio)],
        setsid=True,
        # An ignored signal stays ignored over exec, and so does a mask: programs expect neither.
        setsigdef=_SIGNALS,
        setsigmask=(),
    )


def _code(error: OSError | ValueError) -> int:
    """ValueError: a NUL in an argument, "=" in a variable's name, which exec cannot express."""
    return (error.errno or errno.EIO) if isinstance(error, OSError) else errno.EINVAL
