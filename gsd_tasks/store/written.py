"""Statements that are written once, when their module is loaded.

Where one is executed thousands of times a second, SQLAlchemy takes longer to see that it knows it, four times as long
as Postgres takes to do it. So it only writes it, and the driver takes the values as they are.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, cast

from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.types import JSON

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import ClauseElement, Connection, CursorResult
    from sqlalchemy.sql.compiler import SQLCompiler


class Written:
    """A statement whose values, its `bindparam`s, are given by their names."""

    def __init__(self, statement: ClauseElement) -> None:
        compiled = cast("SQLCompiler", statement.compile(dialect=PGDialect_psycopg()))  # type: ignore[no-untyped-call]
        self._text = compiled.string
        names = compiled.bind_names.items()
        self._fixed = {name: bind.value for bind, name in names if not bind.required}
        self._documents = [name for bind, name in names if bind.required and isinstance(bind.type, JSON)]

    def execute(self, connection: Connection, values: Mapping[str, Any]) -> CursorResult[Any]:
        """Execute it, as `connection.execute` does."""
        documents = {name: json.dumps(values[name]) for name in self._documents}
        return connection.exec_driver_sql(self._text, {**self._fixed, **values, **documents})
