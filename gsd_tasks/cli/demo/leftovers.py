"""That nothing is left running: looked up in the process table, not taken from anybody's word."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Final

from gsd_tasks.process.shim import linux, tree

_PATIENCE_S: Final = 5.0
_LOOK_S: Final = 0.05


def adopt_orphans() -> None:
    """From now on, whatever we start and whatever that starts stays below us, even if it cuts itself loose."""
    linux.set_child_subreaper()


def end_leftovers() -> list[str]:
    """Wait a little for everything below us to end, and kill what does not. Says what that was."""
    give_up_at = time.monotonic() + _PATIENCE_S
    while (left := _below_us()) and time.monotonic() < give_up_at:
        time.sleep(_LOOK_S)
    named = [f"process {proc.pid} ({_command(proc.pid)})" for proc in left]
    tree.kill_all(_below_us, _reap, _PATIENCE_S)
    return named


def _below_us() -> list[tree.Proc]:
    _reap()
    return tree.descendants(os.getpid())


def _reap() -> None:
    """Take the exit status of those whose own parent has gone: they are our children now."""
    try:
        while os.waitpid(-1, os.WNOHANG) != (0, 0):
            pass
    except ChildProcessError:
        return


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()[:100]
    except OSError:
        return "ended meanwhile"
