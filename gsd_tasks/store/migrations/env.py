"""Alembic's entry: runs on the connection that `store.schema` hands in, inside its transaction."""

from collections.abc import Collection, Mapping
from typing import Any

from alembic import context
from alembic.runtime.migration import MigrationContext, MigrationInfo
from sqlalchemy import text

from gsd_tasks.store.tables import metadata

NOTE = text("INSERT INTO migrations (revision, oldest_code) VALUES (:revision, :oldest_code)")


def _note(
    ctx: MigrationContext,
    step: MigrationInfo,
    heads: Collection[Any],  # noqa: ARG001  (Alembic calls it by these names)
    run_args: Mapping[str, Any],  # noqa: ARG001
) -> None:
    """What the migration says of itself, for code that does not have it."""
    made = step.up_revision
    if made is None or ctx.connection is None:
        return  # there is no way back, nor a run that only prints
    oldest_code = getattr(getattr(made, "module", None), "oldest_code", None)
    if oldest_code is not None:  # the first four say nothing, and there was no such table
        ctx.connection.execute(NOTE, {"revision": made.revision, "oldest_code": oldest_code})


context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    transactional_ddl=False,
    on_version_apply=_note,
)
context.run_migrations()
