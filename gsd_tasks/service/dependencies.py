"""What follows the end of a session for those that wait for it: they are let go, or given up.

Whoever ends sessions resolves what waits for them right after it. Whoever dies in between, or meets a lock, leaves that
to the next sweep, which looks at all that waits. Both may be done by anybody at any time: what a session waits for is
read in the very statement that lets it go, or gives it up.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final, TypeAlias

from gsd_tasks.domain.errors import DatabaseUnavailable
from gsd_tasks.service.announcing import announce
from gsd_tasks.store import dependencies, sessions, transitions
from gsd_tasks.telemetry import get_log

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from gsd_tasks.domain.session import Session, SessionId
    from gsd_tasks.service.announcing import Publish
    from gsd_tasks.store import Connection, Database

#: Some that wait, after this one and at most so many, in the order of their ids.
_Find: TypeAlias = "Callable[[Connection, SessionId, int], list[SessionId]]"
#: So many are looked at by one statement.
PAGE_SESSIONS: Final = 1000
#: What is given up gives up what waits for it in turn. A longer chain than this is left to the next sweep.
MOST_LEVELS: Final = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolved:
    """What waits no longer: it may be claimed, or has ended."""

    let_go: tuple[SessionId, ...] = ()
    given_up: tuple[SessionId, ...] = ()

    def __len__(self) -> int:
        return len(self.let_go) + len(self.given_up)

    def __iter__(self) -> Iterator[SessionId]:
        yield from self.let_go
        yield from self.given_up


def resolve(database: Database, publish: Publish, ended: Iterable[SessionId] | None = None) -> Resolved:
    """Let go, or give up, what waits for these, and in turn what waits for what is given up; None: all that waits.

    Raises:
        DatabaseUnavailable: the next sweep does what is left.
    """
    if ended is None:
        return _resolve(database, publish, dependencies.ripe)
    return _resolve(database, publish, partial(dependencies.waiting_for, list(ended)))


def resolve_these(database: Database, publish: Publish, ids: Iterable[SessionId]) -> Resolved:
    """The same for these that wait themselves: what they are to follow may have ended long ago."""
    return _resolve(database, publish, partial(dependencies.waiting_of, list(ids)))


def begin(database: Database, publish: Publish, session: Session) -> Session:
    """Send the message of a session that was queued just now; or, where it waits, see whether it needs to any longer.

    The session as it stands then. That it is queued is written already: where the database is away, a sweep does this.
    """
    if not session.waits:
        announce(publish, [session])
        return session
    try:
        resolve_these(database, publish, [session.id])
        with database.connection() as connection:
            return sessions.get(connection, session.id) or session
    except DatabaseUnavailable as error:
        get_log("dependencies").warning("it waits until the next sweep", session=str(session.id), why=str(error))
        return session


def _resolve(database: Database, publish: Publish, find: _Find) -> Resolved:
    let_go: list[SessionId] = []
    given_up: list[SessionId] = []
    for _ in range(MOST_LEVELS):
        ended: list[SessionId] = []
        for page in _pages(database, find):
            with database.connection() as connection:
                free = dependencies.let_go(connection, page)
                ended += transitions.give_up(connection, page)
            announce(publish, free)
            let_go += (session.id for session in free)
        given_up += ended
        if not ended:
            break
        find = partial(dependencies.waiting_for, ended)
    return Resolved(let_go=tuple(let_go), given_up=tuple(given_up))


def _pages(database: Database, find: _Find) -> Iterator[list[SessionId]]:
    last = dependencies.FIRST
    while True:
        with database.connection() as connection:
            page = find(connection, last, PAGE_SESSIONS)
        if page:
            yield page
        if len(page) < PAGE_SESSIONS:
            return
        last = page[-1]
