"""`doctor`: whether a worker could run here."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from gsd_tasks.cli import exits
from gsd_tasks.cli.reading import Json
from gsd_tasks.domain.errors import ConfigurationError
from gsd_tasks.domain.sanitize import one_line

if TYPE_CHECKING:
    from gsd_tasks.service.findings import Finding


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.command("doctor")(doctor)


def doctor(*, json: Json = False) -> int:
    """Say whether a worker could run here, as this user and with these settings, and what it would miss.

    Where GSD_API_URL is all that is set, say instead whether that API answers and lets us in. Nothing is changed. Exits
    with 1 if there is a problem.
    """
    from gsd_tasks.service.doctor import can_run

    findings = _examine()
    fit = can_run(findings)
    if json:
        from gsd_tasks.cli.shapes import print_json

        print_json({"can_run": fit, "findings": findings})
    else:
        from gsd_tasks.cli.tables import print_table

        print_table(("CHECK", "STATE", "FOUND"), [(f.check, str(f.state), f.found) for f in findings])
        # Not in the table: a sentence that a narrow terminal cuts in the middle tells nobody what to do.
        print("".join(f"\n{f.check} ({f.state}): {one_line(f.detail)}" for f in findings if f.detail))
    return exits.OK if fit else exits.UNFIT


def _examine() -> list[Finding]:
    from gsd_tasks.local.addresses import running_cluster
    from gsd_tasks.service.doctor import Finding, State, examine
    from gsd_tasks.settings import read_settings

    try:
        settings = read_settings()
    except ConfigurationError as error:
        return [Finding("settings", State.PROBLEM, "cannot be used", str(error))]
    if settings.api_url and not settings.database_url:
        from gsd_tasks.client.checkup import examine_api

        return examine_api(settings)
    from gsd_tasks.local import checks

    running = running_cluster(settings.state_dir)
    database, redis = (url and url.get_secret_value() for url in (settings.database_url, settings.redis_url))
    found = examine(
        settings,
        database_url=database or (running.database_url if running else None),
        redis_url=redis or (running.redis_url if running else None),
    )
    return [*found, checks.secret_files(settings.state_dir.absolute()), *checks.ports(settings)]
