"""`snapshots`, `snapshot`, `restore` and `verify`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from gsd_tasks.cli import connection, exits
from gsd_tasks.cli.reading import Id, Json
from gsd_tasks.cli.shapes import print_json
from gsd_tasks.domain.sanitize import one_line
from gsd_tasks.domain.units import print_time

if TYPE_CHECKING:
    from gsd_tasks.domain.snapshot import Snapshot
    from gsd_tasks.domain.verification import Verified


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.command("snapshots")(snapshots)
    app.command("snapshot")(snapshot)
    app.command("restore")(restore)
    app.command("verify")(verify)


def snapshots(id_: Id, *, json: Json = False) -> None:
    """List the points to which a Claude session's conversation can be restored, the newest first."""
    with connection.connect() as client:
        found = client.snapshots(id_)
    if json:
        print_json(found)
    else:
        from gsd_tasks.cli.tables import print_table

        headings = ("SNAPSHOT", "AT", "REASON", "ATTEMPT", "ROWS", "ENTRIES", "SIZE", "NAME")
        print_table(headings, [_row(one) for one in found])


def snapshot(
    id_: Id,
    *,
    name: Annotated[str | None, typer.Option("--name", help="What to call it.", show_default="none")] = None,
    json: Json = False,
) -> None:
    """Take a snapshot of a conversation as it stands, whether it runs or not. It stays until the session is deleted."""
    with connection.connect() as client:
        taken = client.snapshot(id_, name=name)
    if json:
        print_json(taken)
    else:
        print(taken.id)


def restore(
    id_: Id,
    snapshot: Annotated[
        str, typer.Argument(metavar="SNAPSHOT", help="The snapshot's id, an unambiguous start of it, or its name.")
    ],
    *,
    json: Json = False,
) -> None:
    """Set a session's conversation and context back to a snapshot; `resume` goes on from there.

    The session has ended, or is paused. Its output stays, and so do the files that it has changed. How its conversation
    stood is kept as a snapshot, so that this can be undone.
    """
    with connection.connect() as client:
        restored = client.restore(id_, snapshot)
    if json:
        print_json(restored)
        return
    print(f"{restored.session_id} stands where it did at {print_time(restored.snapshot.at)}")
    if restored.before is not None:
        print(f"to undo this: gsd-tasks restore {restored.session_id} {restored.before.id}")


def verify(
    id_: Id,
    *,
    repair: Annotated[
        bool, typer.Option("--repair", help="Mend what can be mended, in one transaction; not while it runs.")
    ] = False,
    json: Json = False,
) -> int:
    """Look for what is wrong with a session's output, conversation, snapshots and history in Postgres.

    One line for each thing that is wrong. Exits with 1 if there is any; after a repair, if any remains.
    """
    with connection.connect() as client:
        verified = client.verify(id_, repair=repair)
    if json:
        print_json(verified)
    else:
        _print_verified(verified, repaired=repair)
    return exits.UNFIT if verified.remaining else exits.OK


def _row(one: Snapshot) -> tuple[str, ...]:
    entries = sum(last - first + 1 for first, last in one.entries)
    size = f"{one.size_bytes / 1024:.1f}KiB"
    counts = (str(one.attempt), str(one.last_seq), str(entries), size)
    return (str(one.id), print_time(one.at), str(one.reason), *counts, one.name or "")


def _print_verified(verified: Verified, *, repaired: bool) -> None:
    if not verified.findings:
        counts = f"{verified.rows} output rows, {verified.entries} entries, {verified.snapshots} snapshots"
        print(f"{verified.session_id} is sound: {counts}")
        return
    for finding in verified.findings:
        print(one_line(f"{finding.damage}: {finding.what}"))
    for done in verified.repairs:
        print(one_line(f"repaired: {done}"))
    if repaired:
        for finding in verified.remaining:
            print(one_line(f"remains: {finding.damage}: {finding.what}"))
