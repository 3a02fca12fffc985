"""Enqueueing many sessions at once, which may refer to each other: all of them, or none."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final, NamedTuple

import uuid_utils.compat as uuid_utils

from gsd_tasks.domain.errors import DatabaseUnavailable, KeyReused
from gsd_tasks.domain.graph import Item, check_graph, fill_in, mark, parents_first
from gsd_tasks.domain.session import SessionId
from gsd_tasks.domain.submission import UNASKED, check_order
from gsd_tasks.service.announcing import announce
from gsd_tasks.service.dependencies import resolve_these
from gsd_tasks.store import dependencies, sessions, transitions
from gsd_tasks.store.transitions import New
from gsd_tasks.telemetry import get_log
from gsd_tasks.telemetry.caller import caller

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from gsd_tasks.domain.session import Session, Submission
    from gsd_tasks.service.announcing import Publish
    from gsd_tasks.store import Connection, Database

#: Workers take no more until the next sweep, and ten thousand of them are 10 MB.
MOST_MESSAGES: Final = 1000
#: Read back at once.
PAGE_SESSIONS: Final = 1000


class _Raced(Exception):
    """A key was used meanwhile, or is free again: nothing is written, and it has to be begun anew."""


def submit_many(
    database: Database,
    publish: Publish,
    items: Sequence[Item],
    *,
    check: Callable[[list[Submission]], None] | None = None,
) -> list[Session]:
    """Write all of them in one transaction, publish; the sessions in the order of the items.

    An item whose key was used for the very same request stands for that session, also for the others. `check` may
    refuse what is valid, before anything is written.

    Raises:
        InvalidValue, KeyReused, NoSuchSession: nothing was written.
        DatabaseUnavailable: whether all of it was written is unknown; with keys, submitting again is safe.
    """
    check_graph(items)
    if check is not None:
        check([item.request for item in items])
    while True:
        try:
            with database.transaction("READ COMMITTED") as connection:
                written = _write(connection, items)
        except _Raced:
            continue
        return _begin(database, publish, written)


class _Written(NamedTuple):
    """The id of each item's session; those that were written, and those that were there already."""

    ids: list[SessionId]
    new: dict[SessionId, Session]
    old: dict[SessionId, Session]


def _write(connection: Connection, items: Sequence[Item]) -> _Written:
    marks = [UNASKED if item.request.key is None else mark(item) for item in items]
    there_are = _find(connection, items, marks)
    # Now, as one that is gone afterwards could be told only by an error, as if nothing had been written.
    old = _read(connection, list(there_are.values()))
    if len(old) < len(there_are):
        raise _Raced
    ids = [there_are.get(position) or SessionId(uuid_utils.uuid7()) for position in range(len(items))]
    by_ref = {item.ref: id_ for item, id_ in zip(items, ids, strict=True) if item.ref is not None}
    trace = caller()
    new = [
        New(ids[position], marks[position], _fill_in(items[position], by_ref), trace)
        for position in parents_first(items)
        if position not in there_are
    ]
    written = {session.id: session for session in transitions.enqueue_many(connection, new)}
    if len(written) < len(new):
        raise _Raced
    dependencies.add(connection, ((one.id, one.request) for one in new))
    return _Written(ids, written, old)


def _find(connection: Connection, items: Sequence[Item], marks: Sequence[bytes]) -> dict[int, SessionId]:
    """By its position, the session of each item whose key has one."""
    keys = [item.request.key for item in items if item.request.key is not None]
    if not keys:
        return {}
    sessions.lock_keys(connection)
    known = sessions.by_keys(connection, keys)
    found: dict[int, SessionId] = {}
    for position, item in enumerate(items):
        key = item.request.key
        if key is not None and key in known:
            session_id, written = known[key]
            if written != marks[position]:
                raise KeyReused(key, str(session_id))
            found[position] = session_id
    return found


def _fill_in(item: Item, ids: dict[str, SessionId]) -> Submission:
    request = fill_in(item, ids)
    # By its name the one, by its id the other: only now they are seen to be the same.
    check_order(request.after, request.after_any)
    return request


def _begin(database: Database, publish: Publish, written: _Written) -> list[Session]:
    """Messages for what may be claimed. What is to follow new ones alone is to wait, whatever happens meanwhile."""
    new = written.new
    looked_at = {one.id for one in new.values() if not {*one.after, *one.after_any} <= new.keys()}
    stand = written.old | new
    announce(publish, _first([one for one in new.values() if not one.waits]))
    if looked_at:
        try:
            resolve_these(database, publish, looked_at)
            with database.connection() as connection:
                stand |= _read(connection, list(looked_at))
        except DatabaseUnavailable as error:
            get_log("graph").warning("what waits is left to the next sweep", why=str(error))
    return [stand[session_id] for session_id in written.ids]


def _first(sessions: Sequence[Session]) -> Iterator[Session]:
    """As many of each queue as workers can take until the next sweep, which sends the other messages."""
    number: Counter[str] = Counter()
    for session in sorted(sessions, key=lambda session: (session.priority, session.id)):
        number[session.queue] += 1
        if number[session.queue] <= MOST_MESSAGES:
            yield session


def _read(connection: Connection, ids: Sequence[SessionId]) -> dict[SessionId, Session]:
    found: dict[SessionId, Session] = {}
    for start in range(0, len(ids), PAGE_SESSIONS):
        found |= sessions.several(connection, ids[start : start + PAGE_SESSIONS])
    return found
