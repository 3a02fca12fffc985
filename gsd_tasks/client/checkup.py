"""Whether the API of `GSD_API_URL` can be worked with from here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gsd_tasks import __version__
from gsd_tasks.client.http import HttpClient
from gsd_tasks.domain.errors import AccessDenied, ConfigurationError, GsdError
from gsd_tasks.domain.session import WorkerStatus
from gsd_tasks.service.findings import Finding, State

if TYPE_CHECKING:
    from gsd_tasks.settings import Settings

_API = "API"
_TOKEN = "API token"  # noqa: S105  (what is looked at, not a token)


def examine_api(settings: Settings) -> list[Finding]:
    """One finding for each thing that matters; nothing is changed."""
    try:
        with HttpClient(settings=settings) as client:
            return _examine(client)
    except ConfigurationError as error:
        return [Finding(_API, State.PROBLEM, "cannot be asked", str(error))]


def _examine(client: HttpClient) -> list[Finding]:
    try:
        alive = sum(worker.status is WorkerStatus.ALIVE for worker in client.workers())
        version = client.version()
    except AccessDenied as error:
        return [Finding(_API, State.OK, "answers"), Finding(_TOKEN, State.PROBLEM, "not let in", str(error))]
    except GsdError as error:
        return [Finding(_API, State.PROBLEM, "does not work", str(error))]
    return [_version(version), Finding(_TOKEN, State.OK, "good, at least to read"), _workers(alive)]


def _version(version: str) -> Finding:
    if version == __version__:
        return Finding(_API, State.OK, f"answers, version {version}")
    detail = f"this is gsd-tasks {__version__}: what only one of the two knows does not work"
    return Finding(_API, State.NOTE, f"answers, version {version}", detail)


def _workers(alive: int) -> Finding:
    if alive:
        return Finding("workers", State.OK, f"{alive} alive")
    return Finding("workers", State.NOTE, "none alive", "what is enqueued waits until there is one")
