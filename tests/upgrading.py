"""The versions to come: today's migrations, and further ones on top of them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

import pytest

from gsd_tasks.store import migrate, schema
from gsd_tasks.store.tables import metadata

#: The next two revisions: one that adds, beside which today's code goes on, and one that takes away.
ADDS: Final = f"{int(schema.HEAD) + 1:04}"
TAKES_AWAY: Final = f"{int(schema.HEAD) + 2:04}"

_FILE: Final = """
from alembic import op

revision, down_revision, branch_labels, depends_on = {revision!r}, {before!r}, None, None
oldest_code = {oldest_code!r}

def upgrade() -> None:
    for statement in {statements!r}:
        op.execute(statement)
"""
#: Whatever the rule allows, to every table that there is.
_ADDING: Final = [
    *(f"ALTER TABLE {name} ADD COLUMN since_then text" for name in sorted(metadata.tables)),
    *(f"ALTER TABLE {name} ADD COLUMN times int NOT NULL DEFAULT 7" for name in sorted(metadata.tables)),
    "CREATE TABLE newcomers (session_id uuid PRIMARY KEY REFERENCES sessions (id) ON DELETE CASCADE, at timestamptz)",
    "CREATE INDEX ix_sessions_times ON sessions (times, id)",
    "CREATE INDEX ix_session_outputs_times ON session_outputs (session_id, times, seq)",
]
_TAKING: Final = ["ALTER TABLE attempts RENAME COLUMN launching_at TO launched_at"]


class Later:
    """The code of later versions, as far as it is about the schema."""

    def __init__(self, folder: Path) -> None:
        self._migrations = folder / "migrations"
        shutil.copytree(schema.MIGRATIONS, self._migrations, ignore=shutil.ignore_patterns("__pycache__"))
        self._write(ADDS, schema.HEAD, oldest_code=schema.HEAD, statements=_ADDING)
        self._write(TAKES_AWAY, ADDS, oldest_code=ADDS, statements=_TAKING)

    def migrate(self, database_url: str, head: str) -> None:
        """What `gsd-tasks migrate` of that version does."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(schema, "MIGRATIONS", self._migrations)
            patch.setattr(schema, "HEAD", head)
            migrate(database_url)

    def _write(self, revision: str, before: str, *, oldest_code: str, statements: list[str]) -> None:
        text = _FILE.format(revision=revision, before=before, oldest_code=oldest_code, statements=statements)
        (self._migrations / "versions" / f"{revision}_later.py").write_text(text)
