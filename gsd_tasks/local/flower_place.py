"""Where the Flower of an `up` listens, and whether it does."""

from __future__ import annotations

import http.client
import signal
from dataclasses import dataclass
from typing import Final

from gsd_tasks.local.api_place import ApiPlace, take_port
from gsd_tasks.local.life import end, find_leftover
from gsd_tasks.local.stamp import read_stamp
from gsd_tasks.local.state_dir import StateDir
from gsd_tasks.settings import Settings

FORMER_BOUND_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class FlowerPlace(ApiPlace):
    """An address and a port."""

    def answers(self) -> bool:
        """That it asks for the password is a sign of health too."""
        return self._status_of("/healthcheck") == http.client.UNAUTHORIZED


def choose_flower_place(settings: Settings, state: StateDir) -> FlowerPlace:
    """`GSD_FLOWER_HOST`, and the port that is set; else the one that it had, or another one. As `choose_place`.

    Raises:
        ConfigurationError: there is no such address here, or the port is taken.
    """
    end(find_leftover(read_stamp(state.flower_record)), signal.SIGTERM, FORMER_BOUND_S)
    wanted = settings.flower_port if "flower_port" in settings.model_fields_set else 0
    return FlowerPlace(settings.flower_host, take_port(state, "flower", settings.flower_host, wanted))
