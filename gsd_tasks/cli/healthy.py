"""`healthy`: for health checks, which run beside a part and want an exit code."""

from __future__ import annotations

import socket
from enum import StrEnum
from http import HTTPStatus
from typing import TYPE_CHECKING, Annotated

import typer

from gsd_tasks.cli import exits

if TYPE_CHECKING:
    from gsd_tasks.service.sign import Condition
    from gsd_tasks.settings import Settings


class Part(StrEnum):
    """What can be asked about."""

    WORKER = "worker"
    MAINTENANCE = "maintenance"
    BEAT = "beat"
    API = "api"
    FLOWER = "flower"


def register(app: typer.Typer) -> None:
    """Add the command of this file."""
    app.command("healthy")(healthy)


def healthy(
    part: Annotated[Part, typer.Argument(help="Which part of this host.")],
    *,
    name: Annotated[
        str | None,
        typer.Option(
            "--name", metavar="NAME", help="What it was called, if it was.", show_default="as it calls itself"
        ),
    ] = None,
) -> int:
    """Say whether a part that was started on this host does its work; for health checks.

    Exits with 0 if it does, with 1 if it is silent, and with 125 if it lives and cannot work: as its database is away,
    for example, which starting it again would not mend. Only the API and Flower are spoken to; the others leave signs
    of life in GSD_STATE_DIR, which must be the same as theirs.
    """
    from gsd_tasks.service.sign import State
    from gsd_tasks.settings import read_settings

    settings = read_settings()
    match part:
        case Part.API:
            condition = _ask_api(settings)
        case Part.FLOWER:
            condition = _ask_flower(settings)
        case _:
            condition = _read_sign(settings, part, name)
    print(f"{condition.state}: {condition.why}")
    match condition.state:
        case State.WELL:
            return exits.OK
        case State.HINDERED:
            return exits.OURS
        case State.SILENT:
            return exits.UNFIT


def _read_sign(settings: Settings, part: Part, name: str | None) -> Condition:
    from gsd_tasks.service import sign

    names = {Part.WORKER: sign.WORKER, Part.MAINTENANCE: sign.MAINTENANCE, Part.BEAT: sign.BEAT}
    interval_s = settings.heartbeat_s if part is Part.WORKER else settings.republish_s
    node = f"{name or names[part]}@{socket.gethostname()}"
    return sign.Sign(settings.state_dir, node).read(interval_s=interval_s)


def _ask_api(settings: Settings) -> Condition:
    return _ask(settings.api_host, settings.api_port, "/readyz", HTTPStatus.OK)


def _ask_flower(settings: Settings) -> Condition:
    """That it asks for the password is a sign of health: whoever checks it need not know that."""
    return _ask(settings.flower_host, settings.flower_port, "/healthcheck", HTTPStatus.UNAUTHORIZED)


def _ask(host: str, port: int, path: str, well: HTTPStatus) -> Condition:
    """Whether a part of this host answers as it does when it is well; and what it says."""
    import http.client

    from gsd_tasks.domain.hosts import reached_at
    from gsd_tasks.service.sign import Condition, State

    host = reached_at(host)
    connection = http.client.HTTPConnection(host, port, timeout=10)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        said = answer.read(1000).decode(errors="replace").strip()
    except (OSError, http.client.HTTPException) as error:
        return Condition(State.SILENT, f"nothing answers at {host} port {port}: {error}")
    finally:
        connection.close()
    return Condition(State.WELL if answer.status == well else State.HINDERED, said)
