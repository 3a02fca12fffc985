"""What this host and this user would give a worker. Nothing is changed by looking."""

from __future__ import annotations

import os
import platform
import shutil
import stat
import sys
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Final

import psutil

from gsd_tasks.domain.credentials import ADVICE
from gsd_tasks.domain.errors import ConfigurationError
from gsd_tasks.domain.session import SLOTS
from gsd_tasks.process.cgroup import memory_allowed, processes_allowed
from gsd_tasks.process.claude import ask_version, find_claude
from gsd_tasks.process.contain import Containment, HostContainment, ProcessLimit
from gsd_tasks.process.secrets import read_by_others
from gsd_tasks.process.survival import Survival
from gsd_tasks.service.findings import Finding, State
from gsd_tasks.service.secrecy import names_of_credentials

if TYPE_CHECKING:
    from gsd_tasks.settings import Settings

_GIB: Final = 1 << 30
_LITTLE_SPACE_GIB: Final = 1.0
#: What a session takes, a claude CLI with what it runs.
_SLOT_GIB: Final = 0.5
# `claude.private_dir` and its name are below it.
_LONGEST_PATH: Final = 51
_NETWORK_FILE_SYSTEMS: Final = frozenset({"9p", "afs", "ceph", "cifs", "glusterfs", "lustre", "nfs", "nfs4", "smb3"})
_NOT_LOCKED_IN: Final = "a session may still do all that its worker's user may, with files and on the network"
_WEAKER: Final = (
    "sessions see each other's processes; what changes its user cannot be ended; and if shim and init are both killed "
    "by force, what has emptied its environment and lost its parents is not found again"
)
_BOUND_TOGETHER: Final = (
    "nothing here counts the processes of one session alone: bound the worker with all of its sessions, by TasksMax= "
    "in its systemd unit or the container's limit on pids"
)


def program() -> Finding:
    """What would run, on what."""
    found = f"{version('gsd-tasks')} on Python {platform.python_version()}, {platform.system()} {platform.release()}"
    if sys.platform != "linux":
        return Finding("gsd-tasks", State.PROBLEM, found, "a worker needs Linux: elsewhere, run it in a container")
    return Finding("gsd-tasks", State.OK, found)


def state_folder(folder: Path) -> Finding:
    """Where spools go, as far as it exists."""
    nearest = next(path for path in (folder, *folder.parents) if path.exists())
    problem = _unusable(folder, nearest)
    # Spools may be on a disk of their own.
    place = folder / "spool" if (folder / "spool").is_dir() else nearest
    try:
        free_gib = shutil.disk_usage(place).free / _GIB
    except OSError as error:
        return Finding("state folder", State.PROBLEM, str(folder), f"{place}: {error.strerror}: set GSD_STATE_DIR")
    kind = file_system(place)
    is_new = "" if nearest == folder else ", made when it is needed"
    found = f"{folder}: {free_gib:.1f} GiB free on {kind}{is_new}"
    if problem is not None:
        return Finding("state folder", State.PROBLEM, found, f"{problem}: set GSD_STATE_DIR to a folder of your own")
    caution = _caution(kind, free_gib, len(os.fsencode(folder)))
    return Finding("state folder", State.NOTE if caution else State.OK, found, caution)


def memory() -> Finding:
    """Whether every slot finds what a session takes; of a host, or of the cgroup that bounds it."""
    host, bound = psutil.virtual_memory(), memory_allowed()
    total = min(host.total, bound or host.total)
    free_gib = min(host.available, total) / _GIB
    found = f"{free_gib:.1f} of {total / _GIB:.1f} GiB for {SLOTS} slots"
    if free_gib >= SLOTS * _SLOT_GIB:
        return Finding("memory", State.OK, found)
    why = f"a slot takes some {_SLOT_GIB:g} GiB, and where there is none left, the kernel kills"
    fitting = int(free_gib // _SLOT_GIB)
    advice = f"start the worker with --slots {fitting}, or give it more" if fitting else "give it more"
    return Finding("memory", State.NOTE, found, f"{why}: {advice}")


def containment(host: HostContainment) -> Finding:
    """How a session's processes are held together, and what that does not do."""
    if host.form is Containment.PID_NAMESPACE:
        return Finding("containment", State.OK, f"{host.form}", f"held together, not locked in: {_NOT_LOCKED_IN}")
    why = f"{host.why_not}, so processes are found through /proc: {_WEAKER}; {_NOT_LOCKED_IN}"
    return Finding("containment", State.NOTE, f"{host.form}", why)


def process_limit(host: HostContainment, at_most: int) -> Finding:
    """Whether a fork bomb is the session's own problem."""
    match host.process_limit:
        case _ if at_most == 0:
            return Finding("process limit", State.OK, "none: GSD_MAX_PROCESSES is 0")
        case ProcessLimit.PID_MAX:
            return Finding("process limit", State.OK, f"{at_most} a session, by its PID namespace")
        case ProcessLimit.NPROC:
            return Finding("process limit", State.OK, f"{at_most} a session, by its user namespace")
        case ProcessLimit.NONE:
            together = processes_allowed()
            found = "none a session" if together is None else f"none a session, {together} for this cgroup"
            return Finding("process limit", State.NOTE, found, _BOUND_TOGETHER)


def shims(survival: Survival) -> Finding:
    """Whether sessions can run on while their worker is exchanged. A unit or container gives an answer of its own."""
    found = "outlive a worker's planned stop" if survival.survives else "end with their worker"
    return Finding("shims", State.OK if survival.survives else State.NOTE, found, survival.why)


def claude(settings: Settings) -> Finding:
    """Commands need none; so only a wrong setting is a problem."""
    found = "not found"
    try:
        binary = find_claude(settings.claude_bin, os.environ.get("PATH", ""))
        found = str(binary)
        return Finding("claude", State.OK, f"{found}, {ask_version(binary)}")
    except ConfigurationError as error:
        state = State.NOTE if settings.claude_bin is None else State.PROBLEM
        return Finding("claude", state, found, f"Claude sessions would fail: {error}")


def credentials(settings: Settings) -> Finding:
    """Commands need none. Names alone: no value is shown."""
    names = names_of_credentials(settings)
    if names:
        return Finding("credentials", State.OK, ", ".join(names))
    return Finding("credentials", State.NOTE, "none for Claude", f"Claude sessions would fail: {ADVICE}")


def secrets(folder: Path) -> Finding:
    """Whether what is to be secret is."""
    try:
        names = sorted(path.name for path in folder.iterdir() if path.is_file())
    except OSError as error:
        return Finding("secrets", State.PROBLEM, str(folder), f"GSD_SECRETS_DIR: {error.strerror}")
    found = f"{folder}: {len(names)} files"
    if open_ones := [name for name in names if read_by_others(folder, name)]:
        advice = f"other users of this host can read {', '.join(open_ones)}: chmod 600, or keep them from the folder"
        return Finding("secrets", State.NOTE, found, advice)
    return Finding("secrets", State.OK, found)


def workspace_roots(roots: tuple[str, ...]) -> Finding:
    """A worker does not start without any."""
    if not roots:
        advice = "a worker does not start without: set GSD_WORKSPACE_ROOTS to where sessions may work, or use `up`"
        return Finding("workspace roots", State.PROBLEM, "none", advice)
    found = ":".join(roots)
    missing = [root for root in roots if not Path(root).is_dir()]
    if missing:
        advice = f"GSD_WORKSPACE_ROOTS: no such folder: {', '.join(missing)}"
        return Finding("workspace roots", State.NOTE, found, advice)
    return Finding("workspace roots", State.OK, found)


def file_system(path: Path) -> str:
    """The type of the file system that holds `path`."""
    real = path.resolve()
    # What was mounted last on a place hides what was there before.
    holding = [part for part in psutil.disk_partitions(all=True) if real.is_relative_to(part.mountpoint)]
    return str(max(reversed(holding), key=lambda part: len(part.mountpoint)).fstype) if holding else "unknown"


def _unusable(folder: Path, nearest: Path) -> str | None:
    status = nearest.stat()
    if not stat.S_ISDIR(status.st_mode):
        return f"{nearest} is no folder"
    if nearest == folder and status.st_uid != os.geteuid():
        return f"{folder} belongs to uid {status.st_uid}"
    if nearest == folder and status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return f"others may write to {folder}"
    if not os.access(nearest, os.W_OK | os.X_OK, effective_ids=True):
        return f"{nearest} is closed to this user"
    return None


def _caution(kind: str, free_gib: float, path_bytes: int) -> str | None:
    if kind in _NETWORK_FILE_SYSTEMS or kind.startswith("fuse"):
        return f"{kind} may be on the network, and spools belong on a local disk: set GSD_STATE_DIR"
    if kind in {"overlay", "aufs"}:
        return "a container's own layer, which goes with it: mount a volume here, so that the next one finds the spools"
    if kind in {"tmpfs", "ramfs"}:
        return "in memory: it takes from the memory of sessions, and is gone when the host starts again"
    if free_gib < _LITTLE_SPACE_GIB:
        too_full = f"less than {_LITTLE_SPACE_GIB:g} GiB is free, and a session whose output finds no room is ended"
        return f"{too_full}: make room, or set GSD_STATE_DIR to a larger disk"
    if path_bytes > _LONGEST_PATH:
        return f"the path has more than {_LONGEST_PATH} bytes: the claude CLI will leave a folder in /tmp instead"
    return None
