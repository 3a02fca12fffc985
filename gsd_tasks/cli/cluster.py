"""`up` and `migrate`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gsd_tasks.cli import exits
from gsd_tasks.cli.connection import part_settings
from gsd_tasks.domain.errors import ConfigurationError, GsdError
from gsd_tasks.domain.session import WorkerStatus

if TYPE_CHECKING:
    from gsd_tasks.local.addresses import Addresses


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.command("up")(up)
    app.command("migrate")(migrate)


def up(
    *,
    state_dir: Annotated[
        Path | None,
        typer.Option("--state-dir", metavar="DIR", help="Where it keeps its data.", show_default="GSD_STATE_DIR"),
    ] = None,
    workers: Annotated[int, typer.Option("--workers", min=1, max=32, help="Worker nodes, of three slots each.")] = 1,
) -> int:
    """Start a whole cluster on this machine and keep it up until Ctrl-C; Postgres and Redis too, if none is named."""
    from gsd_tasks import store
    from gsd_tasks.local.up import run_up

    settings = part_settings("up")
    if state_dir is not None:
        settings = settings.model_copy(update={"state_dir": state_dir})
    return run_up(settings, migrate=store.migrate, worker_is_up=_worker_is_up, workers=workers)


def migrate() -> int:
    """Bring the database of GSD_DATABASE_URL to this version's schema. Safe to run from many machines at once."""
    from gsd_tasks import store

    settings = part_settings("migrate")
    url = settings.database_url
    if url is None:
        instead = ", and no API does this: " if settings.api_url else ": "
        raise ConfigurationError(f"GSD_DATABASE_URL is not set{instead}name the database to bring up to date")
    store.migrate(url.get_secret_value())
    print("the database is up to date")
    return exits.OK


def _worker_is_up(addresses: Addresses, pid: int) -> bool:
    from pydantic import SecretStr

    from gsd_tasks.client.database import DatabaseClient  # whatever GSD_API_URL says
    from gsd_tasks.settings import read_settings

    urls = {"database_url": SecretStr(addresses.database_url), "redis_url": SecretStr(addresses.redis_url)}
    try:
        with DatabaseClient(settings=read_settings().model_copy(update=urls)) as client:
            return any(worker.pid == pid and worker.status is WorkerStatus.ALIVE for worker in client.workers())
    except GsdError:
        return False  # Not yet.
