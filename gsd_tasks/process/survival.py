"""Whether a shim outlives the planned stop of its worker on this host: asked of what would end both together.

Two things do: a container, whose first process takes all others along, and a systemd unit, which by default ends every
process that is left of it. A shim has a session of its own, so neither a terminal nor a supervisor's signal reaches it.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Final, NamedTuple

# PROC_PID_INIT_INO in <linux/proc_ns.h>: the PID namespace that the kernel began with.
_INITIAL_PID_NAMESPACE: Final = 0xEFFFFFFC
_SURVIVING_KILL_MODES: Final = ("process", "none")
_SYSTEMCTL_TIMEOUT_S: Final = 5.0


class Survival(NamedTuple):
    """`why` is a sentence without a full stop; where shims do not survive, it says what would make them."""

    survives: bool
    why: str


class Unit(NamedTuple):
    """A systemd service, of the system or of a user's own manager."""

    name: str
    of_user: bool

    @property
    def systemctl(self) -> list[str]:
        """The beginning of the command that speaks to its manager."""
        return ["systemctl", "--user"] if self.of_user else ["systemctl"]


class KillMode(NamedTuple):
    """What systemctl answered: the mode, or why there is none."""

    mode: str | None
    problem: str


class Surroundings(NamedTuple):
    """What this process lives in. `kill_mode` is the unit's, None where there is no unit."""

    pid: int
    parent_pid: int
    in_initial_pid_namespace: bool
    unit: Unit | None
    kill_mode: KillMode | None


def shims_survive() -> Survival:
    """Whether this process's shims go on when it is told to stop. May take seconds, where systemd is slow to answer."""
    return judge(_look_around())


def judge(here: Surroundings) -> Survival:
    """The decision by itself. A unit comes first: systemd may itself be the first process of a container."""
    if here.unit is not None:
        return _judge_unit(here.unit, here.kill_mode or KillMode(None, "it was not asked"))
    # A parent of 0 is outside: the container's runtime started us, beside whatever is its first process.
    if not here.in_initial_pid_namespace and (here.pid == 1 or here.parent_pid in (0, 1)):
        return Survival(False, "this process's end is its container's, which takes the shims along")
    return Survival(True, "nothing here ends them with the worker: no systemd unit, and not a container's own process")


def unit_of(cgroups: str) -> Unit | None:
    """The service that a process belongs to, by its /proc/PID/cgroup; None outside of one.

    A scope (a login, a terminal's window, a container) is none; nor is `user@N.service`, in which a user's own manager
    lives with all that it starts. What systemd ends is the whole of a unit, so one of ours may lie deeper in it.
    """
    lines = [line.split(":", 2) for line in cgroups.splitlines()]
    # Where both kinds are mounted they agree, or one of them says nothing.
    paths = [path for _, controllers, path in lines if controllers in {"", "name=systemd"}]
    parts = max(paths, key=len, default="/").split("/")
    services = [part for part in parts if part.endswith(".service")]
    if not services or _is_manager(services[-1]):
        return None
    return Unit(services[-1], of_user=any(_is_manager(part) for part in services))


def _is_manager(service: str) -> bool:
    return service.startswith("user@")


def _judge_unit(unit: Unit, kill_mode: KillMode) -> Survival:
    advice = f"KillMode=process in the [Service] section of {unit.name} leaves them running"
    if kill_mode.mode is None:
        return Survival(False, f"{unit.name} may end them with the worker: {kill_mode.problem}; {advice}")
    if kill_mode.mode in _SURVIVING_KILL_MODES:
        return Survival(True, f"{unit.name} has KillMode={kill_mode.mode}")
    return Survival(False, f"{unit.name} has KillMode={kill_mode.mode}: it ends them with the worker; {advice}")


def _look_around() -> Surroundings:
    unit = unit_of(_read("/proc/self/cgroup"))
    return Surroundings(
        pid=os.getpid(),
        parent_pid=os.getppid(),
        in_initial_pid_namespace=os.stat("/proc/self/ns/pid").st_ino == _INITIAL_PID_NAMESPACE,
        unit=unit,
        kill_mode=None if unit is None else ask_kill_mode(unit),
    )


def ask_kill_mode(unit: Unit) -> KillMode:
    """The unit's own setting, from its manager."""
    command = [*unit.systemctl, "show", "--property=KillMode", "--value", unit.name]
    try:
        asked = subprocess.run(
            command, capture_output=True, text=True, timeout=_SYSTEMCTL_TIMEOUT_S, check=False, stdin=subprocess.DEVNULL
        )
    except subprocess.TimeoutExpired:
        return KillMode(None, f"systemctl did not answer within {_SYSTEMCTL_TIMEOUT_S:g} s")
    except OSError as error:
        return KillMode(None, f"systemctl: {error.strerror}")
    mode = asked.stdout.strip()
    if asked.returncode == 0 and mode:
        return KillMode(mode, "")
    first = next(iter(asked.stderr.strip().splitlines()), f"exit code {asked.returncode}")
    return KillMode(None, f"systemctl: {first}")


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""
