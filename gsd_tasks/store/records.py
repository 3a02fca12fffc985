"""Reading many ended sessions at once, with all that is archived of them: a statement for each table."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

from sqlalchemy import ColumnElement, select

from gsd_tasks.domain.retention import Record
from gsd_tasks.domain.session import OutputRow, SessionId
from gsd_tasks.store import sessions
from gsd_tasks.store.attempts import to_attempt
from gsd_tasks.store.ids import any_id
from gsd_tasks.store.rows import to_history, to_output
from gsd_tasks.store.tables import attempts, session_history, session_outputs, turns, workers
from gsd_tasks.store.turns import to_turn

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sqlalchemy import Connection, RowMapping, Select, Table


def of_several(connection: Connection, ids: Sequence[SessionId]) -> list[Record]:
    """Those of these that there are and that have ended; but for their output."""
    found = [session for session in sessions.several(connection, ids).values() if session.status.is_final]
    attempts_of = _of_each(connection, _with_worker(attempts, ids).order_by(attempts.c.attempt), to_attempt)
    history_of = _of_each(connection, _with_worker(session_history, ids).order_by(session_history.c.id), to_history)
    turns_of = _of_each(connection, select(turns).where(_these(turns, ids)).order_by(turns.c.seq), to_turn)
    return [
        Record(
            session=session,
            attempts=tuple(attempts_of[session.id]),
            history=tuple(history_of[session.id]),
            turns=tuple(turns_of[session.id]),
        )
        for session in found
    ]


def rows_of_several(connection: Connection, ids: Sequence[SessionId]) -> dict[SessionId, list[OutputRow]]:
    """All of their output, for those that have little."""
    rows: dict[SessionId, list[OutputRow]] = defaultdict(list)
    every = select(session_outputs).where(_these(session_outputs, ids))
    for row in connection.execute(every.order_by(session_outputs.c.session_id, session_outputs.c.seq)):
        rows[SessionId(row.session_id)].append(to_output(row))
    return rows


def _of_each(
    connection: Connection, query: Select[Any], to_value: Callable[[RowMapping], Any]
) -> dict[SessionId, list[Any]]:
    values: dict[SessionId, list[Any]] = defaultdict(list)
    for row in connection.execute(query).mappings():
        values[SessionId(row["session_id"])].append(to_value(row))
    return values


def _with_worker(table: Table, ids: Sequence[SessionId]) -> Select[Any]:
    named = select(table, workers.c.name.label("worker"))
    return named.join_from(table, workers, workers.c.id == table.c.worker_id, isouter=True).where(_these(table, ids))


def _these(table: Table, ids: Sequence[SessionId]) -> ColumnElement[bool]:
    return table.c.session_id == any_id(ids)
