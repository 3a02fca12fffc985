"""Becomes another program, tied to the process that started it: `trampoline.py AS SIGNAL PARENT WAIT -- PROGRAM ...`.

A process of its own, because what it does must happen after the fork and after the change of user, and Python code
between fork and exec of a threaded parent may hang. Standard library alone, run with `-I -S`: about 15 ms.

AS      `self`, `userns` (nobody in a user namespace of its own) or `nobody` (a real change of user)
SIGNAL  what the kernel sends when the thread that forked us ends, however it ends
PARENT  the pid of the process that forked us
WAIT    `wait`: go on only after a byte on stdin, so that the parent can write down our pid first; or `now`
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from pathlib import Path

NOBODY = 65534
CANNOT_START = 126

_CLONE_NEWUSER = 0x10000000
_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Never returns: exec, or exit with `CANNOT_START` and a line on stderr."""
    become, death_signal, parent, wait, _, *program = sys.argv[1:]
    _default_signals()
    try:
        _change_user(become)
        # After the change of user, which would clear it.
        _checked(ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0), "prctl")
        if os.getppid() != int(parent) or (wait == "wait" and not _told_to_go()):
            os._exit(CANNOT_START)  # the parent died before the kernel watched it
        os.execvp(program[0], program)
    except OSError as error:
        os.write(2, _said(program[0], error).encode())
        os._exit(CANNOT_START)


def _said(program: str, error: OSError) -> str:
    """The line for the log, in the form that its part would have written it in."""
    if os.environ.get("GSD_LOG_JSON", "").strip().lower() not in {"1", "true", "t", "yes", "y", "on"}:
        return f"cannot start {program}: {error}\n"
    import json
    import time

    now = time.strftime("%Y-%m-%dT%H:%M:%S.000000Z", time.gmtime())
    fields = {"time": now, "level": "critical", "part": "up", "host": os.uname().nodename, "logger": "start"}
    document: str = json.dumps(fields | {"event": "cannot start", "program": program, "why": str(error)})
    return document + "\n"


def _default_signals() -> None:
    """A shell's background job has SIGINT ignored, and would hand that down."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _change_user(become: str) -> None:
    if become == "userns":
        _enter_user_namespace()
    elif become == "nobody":
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)


def _enter_user_namespace() -> None:
    """Be called nobody while the files stay ours: the exec that follows gives up the namespace's capabilities."""
    uid, gid = os.geteuid(), os.getegid()
    _checked(ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWUSER), "unshare")
    for name, content in (("setgroups", "deny"), ("uid_map", f"{NOBODY} {uid} 1"), ("gid_map", f"{NOBODY} {gid} 1")):
        Path("/proc/self", name).write_text(content)


def _told_to_go() -> bool:
    go = os.read(0, 1)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    return bool(go)


def _checked(result: int, call: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{call}: {os.strerror(number)}")


if __name__ == "__main__":
    main()
