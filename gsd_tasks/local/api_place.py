"""Where the API of an `up` listens, and whether it does."""

from __future__ import annotations

import http.client
import signal
from dataclasses import dataclass
from typing import Final

import psutil

from gsd_tasks.domain.errors import ConfigurationError
from gsd_tasks.domain.hosts import in_url, reached_at
from gsd_tasks.local.life import end, find_leftover
from gsd_tasks.local.ports import choose_port, is_free
from gsd_tasks.local.stamp import read_stamp
from gsd_tasks.local.state_dir import StateDir
from gsd_tasks.settings import Settings

ANSWER_BOUND_S: Final = 1.0
FORMER_BOUND_S: Final = 20.0


@dataclass(frozen=True, slots=True)
class ApiPlace:
    """An address and a port."""

    host: str
    port: int

    @property
    def url(self) -> str:
        """For clients on this machine."""
        return f"http://{in_url(reached_at(self.host))}:{self.port}"

    def is_served_by(self, pid: int) -> bool:
        """Whether this process listens there and is well: a stranger on that port answers too."""
        return self._is_held_by(pid) and self.answers()

    def _is_held_by(self, pid: int) -> bool:
        try:
            held = psutil.Process(pid).net_connections("tcp")
        except psutil.AccessDenied:
            return True  # It hides what it has open: then the answer has to do.
        except psutil.Error:
            return False
        return any(one.status == psutil.CONN_LISTEN and one.laddr.port == self.port for one in held)

    def answers(self) -> bool:
        """Whether something of this kind listens there and is well."""
        return self._status_of("/healthz") == http.client.OK

    def _status_of(self, path: str) -> int | None:
        connection = http.client.HTTPConnection(reached_at(self.host), self.port, timeout=ANSWER_BOUND_S)
        try:
            connection.request("GET", path)
            return connection.getresponse().status
        except (OSError, http.client.HTTPException):
            return None
        finally:
            connection.close()


def choose_place(settings: Settings, state: StateDir) -> ApiPlace:
    """`GSD_API_HOST`, and the port that is set; else the one that it had, if that is still free, or another one.

    Ends the API of a former `up`, which would look like somebody else on that port. Only for the holder of the lock.

    Raises:
        ConfigurationError: there is no such address here, or the port is taken.
    """
    end(find_leftover(read_stamp(state.api_record)), signal.SIGTERM, FORMER_BOUND_S)
    wanted = settings.api_port if "api_port" in settings.model_fields_set else 0
    return ApiPlace(settings.api_host, take_port(state, "api", settings.api_host, wanted))


def take_port(state: StateDir, part: str, host: str, wanted: int) -> int:
    """The wanted port; with 0 the one that this part had, if that is still free, or another one, which is remembered.

    Raises:
        ConfigurationError: there is no such address here, or the port is taken.
    """
    variable = f"GSD_{part.upper()}"
    if not is_free(0, host):
        why = f"{host!r} is no address of this machine: use 127.0.0.1, or one that is"
        raise ConfigurationError(f"{variable}_HOST: {why}")
    if wanted:
        if not is_free(wanted, host):
            raise ConfigurationError(
                f"{variable}_PORT: {host} port {wanted} cannot be had: end what has it, or set another, or none"
            )
        return wanted
    port = choose_port(_remembered(state, part), host)
    state.remember(**{part: {"port": port}})
    return port


def _remembered(state: StateDir, part: str) -> int | None:
    match state.read().get(part):
        case {"port": int(port)} if 0 < port < 65536:
            return port
        case _:
            return None
