"""What the doctor looks at of an `up`: its secret files, and where API and Flower would listen. Nothing is changed."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from gsd_tasks.local.addresses import running_api, running_flower
from gsd_tasks.local.api_place import ApiPlace
from gsd_tasks.local.flower_place import FlowerPlace
from gsd_tasks.local.ports import is_free
from gsd_tasks.local.state_dir import StateDir
from gsd_tasks.service.findings import Finding, State

if TYPE_CHECKING:
    from pathlib import Path

    from gsd_tasks.settings import Settings


def secret_files(state_dir: Path) -> Finding:
    """Whether passwords, the token and what sessions have written are their owner's alone."""
    state = StateDir(state_dir)
    secret = [path for path in (state.cluster_file, state.api_token, state.flower_password) if path.exists()]
    # In a folder that others cannot enter, nobody reads what is below.
    below = [state.root / "spool", state.root / "sessions", state.logs] if _is_open(state.root) else []
    open_ones = [path.name for path in (*secret, *below) if _is_open(path)]
    if open_ones:
        advice = f"other users of this host can get at {', '.join(open_ones)} in {state_dir}: chmod go-rwx, and change"
        return Finding("secret files", State.NOTE, f"{len(open_ones)} open to others", f"{advice} what was secret")
    return Finding("secret files", State.OK, "their owner's alone" if secret else "none yet")


def ports(settings: Settings) -> list[Finding]:
    """Of the API and of Flower: free, or had by ours."""
    api = ApiPlace(settings.api_host, settings.api_port)
    flower = FlowerPlace(settings.flower_host, settings.flower_port)
    return [
        _port("API", api, "GSD_API_PORT", running_api(settings.state_dir)),
        _port("Flower", flower, "GSD_FLOWER_PORT", running_flower(settings.state_dir)),
    ]


def _port(name: str, place: ApiPlace, variable: str, running: str | None) -> Finding:
    check = f"{name} port"
    if running is not None:
        return Finding(check, State.OK, f"the running `up` has {running}")
    where = f"{place.host} port {place.port}"
    if place.port == 0 or is_free(place.port, place.host):
        return Finding(check, State.OK, f"{where} is free" if place.port else "any")
    if not is_free(0, place.host):
        advice = f"{place.host} is no address of this machine: set {variable.replace('PORT', 'HOST')} to one that is"
        return Finding(check, State.NOTE, f"{where} cannot be had", advice)
    if place.answers():
        return Finding(check, State.OK, f"{where} is ours")
    advice = f"something else listens there, so that {name} would not start: end it, or set {variable}"
    return Finding(check, State.NOTE, f"{where} is taken", advice)


def _is_open(path: Path) -> bool:
    try:
        status = path.stat()
    except OSError:
        return False
    return status.st_uid == os.geteuid() and bool(stat.S_IMODE(status.st_mode) & 0o077)
