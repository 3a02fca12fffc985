"""Which containment this host gives, and what is left when a shim could not do its work."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Final, NamedTuple

from gsd_tasks.process.shim import linux, tree
from gsd_tasks.process.shim.protocol import LOCK_NAME, MARKER_VARIABLE, Containment, ProcessLimit, marker

__all__ = [
    "Containment",
    "HostContainment",
    "Marked",
    "ProcessLimit",
    "inspect_host",
    "kill_shim",
    "marked_processes",
    "probe",
    "shim_command",
    "shim_environment",
    "shim_is_alive",
    "sweep_marker",
]

_KEPT_VARIABLES: Final = ("LD_LIBRARY_PATH",)
_ENTRY: Final = Path(__file__).parent / "shim" / "entry.py"
_PROBE_TIMEOUT_S: Final = 10.0
_INIT_ENDS_S: Final = 5.0
_LOOK_S: Final = 0.01


class HostContainment(NamedTuple):
    """The strongest form that works here; `why_not` says what keeps the host from the one above it.

    `process_limit` is what would bound the number of a session's processes.
    """

    form: Containment
    why_not: str | None
    process_limit: ProcessLimit = ProcessLimit.NONE


class Marked(NamedTuple):
    """A process that carries a session's marker in its environment, as all below the child do by themselves."""

    session_id: str
    attempt: int
    pid: int


def probe() -> Containment:
    """The strongest form that works on this host for this user. Takes some 0.1 s: ask once."""
    return inspect_host().form


def inspect_host() -> HostContainment:
    """As `probe`, with the reason. Tried in earnest, in a process of its own: no list of permissions tells it."""
    try:
        trial = subprocess.run(
            shim_command("--probe"), capture_output=True, text=True, timeout=_PROBE_TIMEOUT_S, check=False, env={}
        )
    except subprocess.TimeoutExpired:
        return HostContainment(Containment.SUBREAPER, "no PID namespace: not within ten seconds")
    if trial.returncode == 0:
        return HostContainment(Containment.PID_NAMESPACE, None, ProcessLimit(trial.stdout))
    return HostContainment(Containment.SUBREAPER, (trial.stdout or trial.stderr).strip())


def shim_command(*arguments: str) -> list[str]:
    """Runs the shim's code in a Python that takes nothing from this one's environment."""
    return [sys.executable, "-I", "-S", "-X", "utf8", str(_ENTRY), *arguments]


def shim_environment() -> dict[str, str]:
    """All of this process's environment that it gets: what a Python with shared libraries in an odd place needs."""
    return {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}


def shim_is_alive(folder: Path) -> bool:
    """Whether a shim owns this spool, from before its process began until after its child's tree is gone."""
    try:
        lock = os.open(folder / LOCK_NAME, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(lock)
    return False


def kill_shim(folder: Path) -> bool:
    """SIGKILL to the shim of this spool, for one that does not answer; whether there was one.

    Returns when its init has ended the tree, which `sweep_marker` afterwards makes sure of; after some seconds at the
    latest, where a process is in an uninterruptible sleep.
    """
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        owner = json.loads((folder / LOCK_NAME).read_bytes())
        if owner["boot_id"] == linux.boot_id() and shim_is_alive(folder):
            shim = tree.Proc(owner["pid"], 0, owner["started"])
            inits = [proc for proc in tree.descendants(shim.pid) if proc.parent == shim.pid]
            if tree.send(shim, signal.SIGKILL):
                _end_inits(inits)
                return True
    return False


def _end_inits(inits: list[tree.Proc]) -> None:
    """A killed shim's init ends its tree by itself, unless whatever stopped the shim has stopped it too."""
    for init in inits:
        tree.send(init, signal.SIGCONT)
    give_up_at = time.monotonic() + _INIT_ENDS_S
    while any(tree.is_alive(init) for init in inits) and time.monotonic() < give_up_at:
        time.sleep(_LOOK_S)


def sweep_marker(session_id: str, attempt: int, patience_s: float = 5.0) -> list[int]:
    """Kill every process of that attempt and all below them; the pids of those that would not die in time.

    For what is left when shim and init were both killed without a PID namespace. Must not be called while the attempt's
    shim lives. A process that has emptied its environment is found only as long as a marked ancestor of it lives.
    """
    wanted = marker(session_id, attempt)

    def find() -> list[tree.Proc]:
        roots = _marked(wanted)
        below = tree.descendants(*(proc.pid for proc in roots)) if roots else []
        return list({*roots, *below})

    return [proc.pid for proc in tree.kill_all(find, lambda: None, patience_s)]


def marked_processes() -> list[Marked]:
    """Every process of every session on this host, as far as this user may see them."""
    found = []
    for pid in tree.all_pids():
        session_id, _, attempt = (_marker_of(pid) or "").rpartition(":")
        if session_id and attempt.isdigit():
            found.append(Marked(session_id, int(attempt), pid))
    return found


def _marked(wanted: str) -> list[tree.Proc]:
    # The process first, its environment second: whoever gets the pid in between does not pass for it.
    procs = [proc for pid in tree.all_pids() if (proc := tree.read_proc(pid))]
    return [proc for proc in procs if _marker_of(proc.pid) == wanted]


def _marker_of(pid: int) -> str | None:
    prefix = MARKER_VARIABLE.encode() + b"="
    try:
        with open(f"/proc/{pid}/environ", "rb") as environ:
            variables = environ.read().split(b"\0")
    except OSError:
        return None
    return next((v.removeprefix(prefix).decode(errors="replace") for v in variables if v.startswith(prefix)), None)
