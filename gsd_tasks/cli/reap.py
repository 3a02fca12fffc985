"""`reap`: what the maintenance process does by itself, once and by hand."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from gsd_tasks.cli.connection import opened
from gsd_tasks.cli.reading import Json
from gsd_tasks.cli.shapes import print_json
from gsd_tasks.domain.units import print_age, print_duration

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gsd_tasks.domain.session import SessionId
    from gsd_tasks.service.reap_by_hand import Outcome
    from gsd_tasks.store import Database
    from gsd_tasks.store.expiry import Expired


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.command("reap")(reap)


def reap(
    *,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only list the leases that have expired, and what would become of each.")
    ] = False,
    json: Json = False,
) -> None:
    """Recover the sessions of workers that have fallen silent, as the maintenance process does by itself.

    It watches the leases that have expired for the time of one, as they may still be renewed.
    """
    from gsd_tasks.settings import read_settings
    from gsd_tasks.telemetry import configure_logs

    settings = read_settings()
    configure_logs(settings)
    with opened(settings, "reap") as (database, addresses):
        found = _expired(database)
        if dry_run:
            _print_expired(found, json=json)
            return
        _print_outcome(_recover(database, found, settings.lease_s), json=json)
        if found:
            _publish(database, addresses.redis_url)


def _expired(database: Database) -> Sequence[Expired]:
    from gsd_tasks.store import expiry, schema

    with database.connection() as connection:
        schema.check(connection)
        return expiry.expired(connection)


def _recover(database: Database, found: Sequence[Expired], lease_s: float) -> Outcome:
    from gsd_tasks.service.reap_by_hand import Outcome, recover_expired

    if not found:
        return Outcome()
    are, them, they = ("lease has", "it", "it") if len(found) == 1 else ("leases have", "them", "they")
    _say(f"{len(found)} {are} expired; watching {them} for {print_duration(lease_s)} before {they} may be recovered")
    return recover_expired(database, found, lease_s=lease_s)


def _publish(database: Database, redis_url: str) -> None:
    """What was queued again should not have to wait for a maintenance process, which may be what is missing.

    Nor what waits for those that have ended.
    """
    from gsd_tasks.celery_app import make_publish
    from gsd_tasks.service.dependencies import resolve
    from gsd_tasks.service.messages import QueuedMessages
    from gsd_tasks.service.republish import republish

    publish = make_publish(redis_url)
    resolve(database, publish)
    if not republish(database, QueuedMessages(redis_url), publish).redis_answers:
        _say("Redis does not answer: what is queued again starts when it does")


def _print_expired(found: Sequence[Expired], *, json: bool) -> None:
    if json:
        print_json([_shape(one) for one in found])
    elif not found:
        print("no lease has expired")
    else:
        from gsd_tasks.cli.tables import print_table

        now = datetime.now(UTC)
        headings = ("ID", "WORKER", "SLOT", "EXPIRED", "BECOMES", "BECAUSE")
        print_table(headings, [_row(one, now) for one in found])


def _shape(one: Expired) -> dict[str, object]:
    names = ("session_id", "worker", "slot", "expired_at", "becomes", "because")
    return {name: getattr(one, name) for name in names}


def _row(one: Expired, now: datetime) -> tuple[str, ...]:
    since = f"{print_age((now - one.expired_at).total_seconds())} ago"
    return str(one.session_id), one.worker or "-", str(one.slot), since, str(one.becomes), one.because


def _print_outcome(outcome: Outcome, *, json: bool) -> None:
    if json:
        print_json(outcome)
        return
    ways: dict[str, Sequence[SessionId]] = {
        "queued again": outcome.requeued,
        "failed": outcome.failed,
        "cancelled": outcome.cancelled,
        "paused": outcome.paused,
        "goes on: its worker is back": outcome.came_back,
        "is locked by somebody else": outcome.locked,
    }
    lines = [f"{session_id} {way}" for way, ids in ways.items() for session_id in ids]
    print("\n".join(lines) if lines else "no lease has expired: there is nothing to recover")


def _say(words: str) -> None:
    print(f"gsd-tasks: {words}", file=sys.stderr, flush=True)
