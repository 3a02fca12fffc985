"""The parts of a cluster on one machine, beside the servers: each is a process of this installation's own code.

One more part is one more method here, and its place in `up`'s `starting_order`.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

from gsd_tasks.local.addresses import Addresses
from gsd_tasks.local.api_place import ApiPlace
from gsd_tasks.local.flower_password import USER, Password
from gsd_tasks.local.flower_place import FlowerPlace
from gsd_tasks.local.part import CELERY_PART, Part
from gsd_tasks.local.stamp import Stamp
from gsd_tasks.local.state_dir import StateDir
from gsd_tasks.settings import Drain, Settings

STOP_BOUND_S: Final = 60.0
API_STOP_BOUND_S: Final = 20.0  # for followers to hear that it ends
FLOWER_STOP_BOUND_S: Final = 10.0
SETTLE_S: Final = 1.0

WorkerIsUp = Callable[[Addresses, int], bool]
"""Whether the worker with this pid takes sessions. Answers within a second or so, and never raises."""

# What may hold paths relative to the operator's folder, which is not the parts'.
_PATH_VARIABLES: Final = ("PYTHONPATH", "GSD_CLAUDE_BIN", "GSD_SECRETS_DIR")
# Where the operator's own commands go: a part is at home here, and has no use for somebody's token.
_OPERATORS_OWN: Final = ("GSD_API_URL", "GSD_API_TOKEN")


class ClusterParts:
    """Builds the parts of one `up`."""

    def __init__(self, settings: Settings, state: StateDir, addresses: Addresses) -> None:
        self._settings = settings
        self._state = state
        self._addresses = addresses
        self._env = part_environment(settings, state, addresses)

    def worker(self, number: int, is_up: WorkerIsUp) -> Part:
        """A worker: it runs sessions. What it takes, and how many at once, is the app's configuration."""
        name = "worker" if number == 1 else f"worker{number}"
        node = "gsd" if number == 1 else f"gsd{number}"
        return self._celery(
            name,
            ("worker", "-n", f"{node}@%h", "-E", "--without-gossip", "--without-mingle", "-l", "WARNING"),
            # As a person's Ctrl-C: the cluster ends, so nothing is handed over. A kill of `up` sends SIGTERM.
            stop_signal=signal.SIGINT,
            # Where that was asked for, a SIGTERM to `up` is no end: the next one goes on with what runs.
            handover_signal=signal.SIGTERM if self._settings.drain is Drain.HANDOVER else None,
            stop_bound_s=STOP_BOUND_S + self._settings.drain_s,
            probe=lambda pid: is_up(self._addresses, pid),
        )

    def maintenance(self) -> Part:
        """The maintenance process: one task at a time, on a queue of its own."""
        queue = self._settings.maintenance_queue
        options = ("-P", "solo", "-Q", queue, "-n", "maint@%h", "--without-gossip", "--without-mingle", "-l", "WARNING")
        return self._celery("maintenance", ("worker", *options))

    def beat(self) -> Part:
        """What says when: it only sends messages to the maintenance process."""
        schedule = str(self._state.beat / "schedule")
        return self._celery("beat", ("beat", "-s", schedule, "--pidfile=", "-l", "WARNING"), umask=0o077)

    def api(self, place: ApiPlace) -> Part:
        """The API, on a port that nobody else of this cluster has."""
        return Part(
            name="api",
            argv=(sys.executable, "-m", "gsd_tasks", "api"),
            env={**self._env, "GSD_API_HOST": place.host, "GSD_API_PORT": str(place.port)},
            log=self._state.logs / "api.log",
            record=self._state.api_record,
            cwd=self._state.parts,
            stop_bound_s=API_STOP_BOUND_S,
            probe=place.is_served_by,
            url=place.url,
            access=f"token: {self._state.api_token}",
        )

    def flower(self, place: FlowerPlace, password: Password) -> Part:
        """What people look at in a browser, on a port that nobody else of this cluster has."""
        options = (f"--address={place.host}", f"--port={place.port}", "--logging=warning")
        return replace(
            self._celery("flower", ("flower", *options), stop_bound_s=FLOWER_STOP_BOUND_S, probe=place.is_served_by),
            record=self._state.flower_record,
            url=place.url,
            access=f"user: {USER}, password: {password.place}",
        )

    def _celery(
        self,
        name: str,
        arguments: tuple[str, ...],
        *,
        stop_signal: signal.Signals = signal.SIGTERM,
        handover_signal: signal.Signals | None = None,
        stop_bound_s: float = STOP_BOUND_S,
        umask: int = -1,  # a worker hands its own down to what sessions write
        probe: Callable[[int], bool] | None = None,
    ) -> Part:
        return Part(
            name=name,
            argv=(sys.executable, "-m", CELERY_PART, *arguments),
            env=self._env,
            log=self._state.logs / f"{name}.log",
            record=self._state.parts / f"{name}.json",
            cwd=self._state.parts,
            umask=umask,
            stop_signal=stop_signal,
            handover_signal=handover_signal,
            stop_bound_s=stop_bound_s,
            probe=probe or has_settled,
        )


def part_environment(settings: Settings, state: StateDir, addresses: Addresses) -> Mapping[str, str]:
    """Ours, with the addresses and the folders made explicit.

    Parts do not run in the operator's folder: `python -m` imports from there first, and a `logging.py` in it would
    break them.
    """
    absolute = {name: _absolute(os.environ[name]) for name in _PATH_VARIABLES if os.environ.get(name)}
    ours = {name: value for name, value in os.environ.items() if name not in _OPERATORS_OWN}
    return {
        **ours,
        **absolute,
        "GSD_DATABASE_URL": addresses.database_url,
        "GSD_REDIS_URL": addresses.redis_url,
        "GSD_STATE_DIR": str(state.root),
        "GSD_WORKSPACE_ROOTS": ":".join(settings.workspace_roots) or "/",
    }


def has_settled(pid: int) -> bool:
    """For a part that cannot be asked: it has not ended at once."""
    stamp = Stamp.of(pid)
    if stamp is None:
        return False
    return time.clock_gettime(time.CLOCK_BOOTTIME) - stamp.start_ticks / os.sysconf("SC_CLK_TCK") > SETTLE_S


def _absolute(paths: str) -> str:
    return os.pathsep.join(str(Path(path).absolute()) for path in paths.split(os.pathsep))
