"""(new) -> queued."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from sqlalchemy import Text, bindparam, cast, column, func, insert, literal, select
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.dialects.postgresql import insert as upsert

from gsd_tasks.domain.session import Session, SessionId, Submission
from gsd_tasks.domain.state import Reason, Status
from gsd_tasks.store import dependencies, transcript
from gsd_tasks.store.rows import from_submission, to_new_session
from gsd_tasks.store.tables import session_history, sessions
from gsd_tasks.store.written import Written

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from sqlalchemy import CTE, Connection, Select
    from sqlalchemy.dialects.postgresql import Insert


#: What one statement writes.
PAGE_SESSIONS: Final = 1000
PAGE_BYTES: Final = 8 * 1024 * 1024
_ENCODER: Final = json.JSONEncoder(default=str)
_QUEUED: Final = literal(Status.QUEUED.value)
_ENQUEUED: Final = literal(Reason.ENQUEUED.value)
#: The columns that are filled when it is enqueued.
_NAMES: Final = ("id", "digest", "waits", "traceparent", *from_submission(Submission(prompt="", working_dir="")))


class New(NamedTuple):
    """A session to be."""

    id: SessionId
    digest: bytes
    request: Submission
    traceparent: str | None = None


def enqueue(
    connection: Connection,
    session_id: SessionId,
    request: Submission,
    digest: bytes,
    *,
    forked_from: SessionId | None = None,
    traceparent: str | None = None,
) -> Session | None:
    """(new) -> queued, as it is written. None, and nothing written, when the idempotency key has a session already.

    With `forked_from` it begins with that session's conversation, as it stands. What is to follow others waits, until
    `dependencies.let_go` finds that it need not.

    Raises:
        NoSuchSession: the parent, or one that it is to follow, is not there, or not any more.
    """
    columns = from_submission(request)
    own = {"id": session_id, "digest": digest, "waits": request.waits, "traceparent": traceparent}
    with dependencies.naming_missing():
        if forked_from is None and not request.waits:
            written = _ENQUEUE.execute(connection, own | columns).one_or_none()
        else:
            statement = _enqueueing_more(request, forked_from)
            written = connection.execute(statement, own | columns).one_or_none()
    if written is None:
        return None
    return to_new_session(columns, request, id_=session_id, created_at=written.created_at, forked_from=forked_from)


def enqueue_many(connection: Connection, several: Iterable[New]) -> list[Session]:
    """(new) -> queued, for all of these, as they are written. Left out are those whose idempotency key has a session.

    For a transaction that writes all or nothing. What they are to follow is not written: `dependencies.add` does that
    after it, when all of them are there. A parent stands before its children.

    Raises:
        NoSuchSession: a parent is not there, or not any more.
    """
    with dependencies.naming_missing():
        return [session for page in _pages(several) for session in _enqueue_page(connection, page)]


class _Row(NamedTuple):
    """A session to be, as its columns have it, and as JSON."""

    new: New
    columns: dict[str, Any]
    text: str


def _pages(several: Iterable[New]) -> Iterator[list[_Row]]:
    """So many at a time as one statement takes."""
    page: list[_Row] = []
    size = 0
    for new in several:
        row = _to_row(new)
        if page and (len(page) >= PAGE_SESSIONS or size + len(row.text) > PAGE_BYTES):
            yield page
            page, size = [], 0
        page.append(row)
        size += len(row.text)
    if page:
        yield page


def _to_row(new: New) -> _Row:
    columns = from_submission(new.request)
    own = {"id": new.id, "digest": f"\\x{new.digest.hex()}", "waits": new.request.waits, "traceparent": new.traceparent}
    return _Row(new, columns, _ENCODER.encode(own | columns))


def _enqueue_page(connection: Connection, page: Sequence[_Row]) -> Iterator[Session]:
    rows = {row.new.id: row for row in page}
    for written in _ENQUEUE_PAGE.execute(connection, {"rows": f"[{','.join(row.text for row in page)}]"}):
        new, columns, _ = rows[written.id]
        yield to_new_session(columns, new.request, id_=new.id, created_at=written.created_at)


def _born(values: Insert) -> CTE:
    unless_known = values.on_conflict_do_nothing(index_elements=[sessions.c.key])
    return unless_known.returning(sessions.c.id, sessions.c.created_at).cte("born")


def _noted(born: CTE) -> Select[Any]:
    """What was written, and where its history begins."""
    begins = select(born.c.id, _QUEUED, literal(0), _ENQUEUED)
    history = insert(session_history).from_select(["session_id", "to_status", "attempt", "reason"], begins)
    return select(born).add_cte(history.cte("history"))


def _one(**more: Any) -> CTE:
    given = {name: bindparam(name, type_=sessions.c[name].type) for name in _NAMES}
    return _born(upsert(sessions).values(status=_QUEUED, reason=_ENQUEUED, **given, **more))


def _enqueueing_more(request: Submission, forked_from: SessionId | None) -> Select[Any]:
    born = _one(forked_from=forked_from)
    statement = _noted(born)
    if forked_from is not None:
        statement = statement.add_cte(transcript.copied(born, forked_from))
    if request.waits:
        statement = statement.add_cte(dependencies.adding(born, request).cte("edges"))
    return statement


def _page() -> CTE:
    given = (
        func.jsonb_to_recordset(cast(bindparam("rows", type_=Text), JSONB))
        .table_valued(*(column(name, sessions.c[name].type) for name in _NAMES))
        .render_derived(name="given", with_types=True)
    )
    return _born(upsert(sessions).from_select(["status", "reason", *_NAMES], select(_QUEUED, _ENQUEUED, *given.c)))


_ENQUEUE: Final = Written(_noted(_one()))
_ENQUEUE_PAGE: Final = Written(_noted(_page()))
