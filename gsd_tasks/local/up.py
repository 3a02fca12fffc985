"""`gsd-tasks up`: a whole cluster on this machine, in the foreground, until Ctrl-C."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from typing import Final
from urllib.parse import urlsplit

from gsd_tasks.domain.errors import ConfigurationError, GsdError
from gsd_tasks.garbage import begun
from gsd_tasks.local.addresses import Addresses
from gsd_tasks.local.api_place import choose_place
from gsd_tasks.local.api_token import keep_token
from gsd_tasks.local.flower_password import flower_password
from gsd_tasks.local.flower_place import choose_flower_place
from gsd_tasks.local.part import Part
from gsd_tasks.local.parts import ClusterParts, WorkerIsUp
from gsd_tasks.local.servers import choose_servers
from gsd_tasks.local.signals import StopRequests
from gsd_tasks.local.state_dir import StateDir
from gsd_tasks.local.supervisor import Supervisor
from gsd_tasks.settings import Settings

CANNOT_START: Final = 125
SPELLED: Final = {"api": "API", "flower": "Flower"}

Groups = Sequence[Sequence[Part]]
"""Parts in starting order; what stands together is stopped together, the last group first."""


def print_line(line: str) -> None:
    """To stdout at once; a screen that has gone away stops nothing."""
    try:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()
    except (OSError, ValueError):
        pass


def run_up(
    settings: Settings,
    *,
    migrate: Callable[[str], None],
    worker_is_up: WorkerIsUp,
    workers: int = 1,
    ready: Callable[[Addresses], None] | None = None,
    say: Callable[[str], None] = print_line,
) -> int:
    """Run servers (where the environment names none), `workers` workers and the other parts until told to stop.

    `migrate` is given the database's URL before any part starts; `ready` is called once everything is up. Main thread
    only: signals are taken over meanwhile, and every process ends with this one, even by `kill -9`. The sessions that
    workers run do not: they belong to their shims.

    Returns 0 after a stop in good order, `CANNOT_START` when it could not start; `say` was told why.
    """

    def parts_of(state: StateDir, addresses: Addresses) -> Groups:
        keep_token(state, addresses.database_url)
        parts = ClusterParts(settings, state, addresses)
        flower = parts.flower(choose_flower_place(settings, state), flower_password(settings))
        api = parts.api(choose_place(settings, state))
        return starting_order(parts, [flower, api], worker_is_up, workers)

    return run_parts(settings, parts_of, migrate=migrate, ready=ready, say=say)


def starting_order(parts: ClusterParts, faces: Sequence[Part], worker_is_up: WorkerIsUp, workers: int) -> Groups:
    """The API, the last of the faces, is stopped first: whoever follows hears of the end from somebody.

    Beat is stopped before whom it sends to, and maintenance after the workers, whose losses it sees to.
    """
    return [
        [parts.maintenance()],
        [parts.worker(number, worker_is_up) for number in range(1, workers + 1)],
        [parts.beat()],
        *([face] for face in faces),
    ]


def run_parts(
    settings: Settings,
    parts_of: Callable[[StateDir, Addresses], Groups],
    *,
    migrate: Callable[[str], None],
    ready: Callable[[Addresses], None] | None = None,
    say: Callable[[str], None] = print_line,
) -> int:
    """`run_up` with other parts."""
    state = StateDir(settings.state_dir.absolute())
    try:
        if not sys.platform.startswith("linux"):
            raise ConfigurationError("`gsd-tasks up` needs Linux (or WSL 2): on others, run it in a container")
        state.create()
        with StopRequests() as requests, state.hold(), Supervisor(requests, say) as supervisor:
            Up(settings, state, supervisor, say).run(parts_of, migrate, ready)
    except (GsdError, OSError) as error:
        say(f"gsd-tasks up: {error}")
        return CANNOT_START
    return 0


class Up:
    """One run of it, with the lock held and the signals taken."""

    def __init__(self, settings: Settings, state: StateDir, supervisor: Supervisor, say: Callable[[str], None]) -> None:
        self._settings = settings
        self._state = state
        self._supervisor = supervisor
        self._say = say
        self._groups: list[Sequence[Part]] = []
        self._began = time.monotonic()

    def run(
        self,
        parts_of: Callable[[StateDir, Addresses], Groups],
        migrate: Callable[[str], None],
        ready: Callable[[Addresses], None] | None,
    ) -> None:
        """Start, stay, and stop everything again whatever happens.

        Raises:
            GsdError, OSError: it could not start.
        """
        try:
            servers = choose_servers(self._settings, self._state)
            addresses = servers.addresses
            self._say_where(addresses, embedded={part.name for part in servers.parts})
            if not self._start([[part] for part in servers.parts]):
                return
            migrate(addresses.database_url)
            running = {"database_url": addresses.database_url, "redis_url": addresses.redis_url}
            self._state.remember(running=running)
            groups = parts_of(self._state, addresses)
            if not self._start(groups):
                return
            faces = [part for group in groups for part in group if part.url is not None]
            self._state.remember(running=running | {f"{part.name}_url": part.url for part in faces})
            self._say_ready(faces)
            begun()
            if ready is not None:
                ready(addresses)
            self._supervisor.run_until_asked()
        finally:
            self._stop()

    def _start(self, groups: Groups) -> bool:
        self._groups.extend(groups)
        return self._supervisor.run_until_ready(part for group in groups for part in group)

    def _stop(self) -> None:
        """The other way round: whoever needs another goes first."""
        for group in reversed(self._groups):
            if group:
                self._say(f"stopping {', '.join(part.name for part in group)}{_patience(group)}")
                self._supervisor.stop(part.name for part in group)
        self._say("stopped")

    def _say_where(self, addresses: Addresses, embedded: set[str]) -> None:
        self._say(f"data      {self._state.root}")
        self._say(f"logs      {self._state.logs}")
        self._say(f"Postgres  {_place(addresses.database_url)}{' (embedded)' if 'postgres' in embedded else ''}")
        self._say(f"Redis     {_place(addresses.redis_url)}{' (embedded)' if 'valkey' in embedded else ''}")

    def _say_ready(self, faces: Sequence[Part]) -> None:
        for part in faces:
            self._say(f"{SPELLED.get(part.name, part.name):<9} {part.url} ({part.access})")
        self._say(f"ready after {time.monotonic() - self._began:.1f} s")
        self._say("first session:  gsd-tasks run -- echo hello")
        self._say("stop:           Ctrl-C")


def _patience(group: Sequence[Part]) -> str:
    """What a person should know who waits for it."""
    part = group[0]
    if part.hurry_bound_s >= part.stop_bound_s:
        return ""
    return f" (at most {part.stop_bound_s:.0f} s; Ctrl-C again kills)"


def _place(url: str) -> str:
    """Without what is secret in it: only where it is."""
    parts = urlsplit(url)
    return f"{parts.hostname or 'local socket'}{f':{parts.port}' if parts.port else ''}{parts.path}"
