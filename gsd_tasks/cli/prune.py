"""`prune`: remove ended sessions that are kept no longer, as the maintenance process does by itself every hour."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gsd_tasks.cli import asked
from gsd_tasks.cli.connection import opened
from gsd_tasks.cli.reading import Json
from gsd_tasks.cli.shapes import print_json
from gsd_tasks.domain.errors import UsageError
from gsd_tasks.domain.units import parse_duration

if TYPE_CHECKING:
    from gsd_tasks.domain.retention import Prunable, Pruned, Rule
    from gsd_tasks.service.retention import Prune
    from gsd_tasks.settings import Settings
    from gsd_tasks.store import Database


def register(app: typer.Typer) -> None:
    """Add the command of this file."""
    app.command("prune")(prune)


def prune(
    *,
    older_than: Annotated[
        str | None,
        typer.Option(
            "--older-than",
            metavar="DURATION",
            help="Those that ended so long ago: 30d.",
            show_default="GSD_RETENTION_S",
        ),
    ] = None,
    keep: Annotated[
        int | None,
        typer.Option("--keep", metavar="N", min=0, help="Not the newest N.", show_default="GSD_RETENTION_COUNT"),
    ] = None,
    status: Annotated[
        list[str] | None,
        typer.Option(
            "--status",
            help="Only those that completed, failed, or cancelled; may be repeated.",
            show_default="GSD_RETENTION_STATUS",
        ),
    ] = None,
    archive: Annotated[
        Path | None,
        typer.Option("--archive", metavar="DIR", help="Archive them in it before.", show_default="GSD_ARCHIVE_DIR"),
    ] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", metavar="N", min=1, help="At most N sessions.", show_default="all")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say how many would go.")] = False,
    json: Json = False,
) -> None:
    """Remove ended sessions with their output, oldest first; never one that another one waits for.

    With --older-than and --keep, those go that are old enough and not among the newest. Interrupted, it leaves each
    session whole or gone; run it again to go on. Also removed is what is of no use after 30 days: workers that are
    gone, recoveries, tokens that have expired or were revoked.
    """
    from gsd_tasks.settings import read_settings
    from gsd_tasks.telemetry import configure_logs

    settings = read_settings()
    configure_logs(settings)
    rule = _rule(settings, older_than, keep, status)
    with opened(settings, "prune") as (database, _):
        _check(database)
        if dry_run:
            _print_prunable(_foresee(database, rule), limit, json=json)
        else:
            _print_pruned(_run(_begin(database, settings, rule, archive, limit)), json=json)


def _rule(settings: Settings, older_than: str | None, keep: int | None, status: list[str] | None) -> Rule:
    """What is asked for here takes the place of what the settings say, age and number together."""
    from gsd_tasks.domain.retention import Rule, read_statuses
    from gsd_tasks.service.retention import rule_of

    rule = rule_of(settings)
    older_than_s = asked.read("--older-than", parse_duration, older_than)
    if older_than_s is not None or keep is not None:
        rule = Rule(older_than_s=older_than_s, keep=keep, statuses=rule.statuses)
    if rule.keeps_all:
        raise UsageError("say what may go: --older-than 30d, --keep 1000, or both; or set GSD_RETENTION_S")
    return replace(rule, statuses=read_statuses(status)) if status else rule


def _check(database: Database) -> None:
    from gsd_tasks.store import schema

    with database.connection() as connection:
        schema.check(connection)


def _foresee(database: Database, rule: Rule) -> Prunable:
    from gsd_tasks.service.retention import foresee

    return foresee(database, rule)


def _begin(database: Database, settings: Settings, rule: Rule, folder: Path | None, limit: int | None) -> Prune:
    from gsd_tasks.service.archive import Archive
    from gsd_tasks.service.retention import Prune, archive_of

    archive = archive_of(settings) if folder is None else Archive(asked.absolute(str(folder), "--archive"))
    return Prune(database, rule, archive=archive, limit=limit)


def _run(begun: Prune) -> Pruned:
    try:
        return begun.run()
    except BaseException:
        # What was done is done, whatever ends it.
        if begun.pruned:
            print(f"gsd-tasks: cut off: {_words(begun.pruned)}; run it again to go on", file=sys.stderr, flush=True)
        raise


def _print_prunable(prunable: Prunable, limit: int | None, *, json: bool) -> None:
    if json:
        print_json(prunable)
        return
    at_most = "" if limit is None else f", {limit} of them at a time"
    print(f"{prunable.sessions:,} sessions with {prunable.rows:,} output rows would be removed{at_most}")
    if prunable.needed:
        print(f"{prunable.needed:,} as old would be kept: others wait for them, or their children go on")


def _print_pruned(pruned: Pruned, *, json: bool) -> None:
    if json:
        print_json(pruned)
        return
    print(_words(pruned))
    if pruned.needed:
        print(f"{pruned.needed:,} sessions as old were kept: others wait for them, or their children go on")
    if pruned.damaged:
        print(f"{pruned.damaged:,} sessions were kept: they have not all of their output, and cannot be archived")


def _words(pruned: Pruned) -> str:
    archived = f", {pruned.archived:,} of them archived" if pruned.archived else ""
    others = {
        "output rows of sessions that had gone before": pruned.leftover_rows,
        "workers": pruned.workers,
        "recoveries": pruned.recoveries,
        "tokens": pruned.tokens,
    }
    more = "".join(f"; {count:,} {what}" for what, count in others.items() if count)
    return f"removed {pruned.sessions:,} sessions with {pruned.rows:,} output rows{archived}{more}"
