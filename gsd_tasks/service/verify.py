"""Looking for what is wrong with what Postgres has of a session, and mending what can be mended."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

from gsd_tasks.domain.errors import NoSuchSession, NotAllowed
from gsd_tasks.domain.session import SessionId
from gsd_tasks.domain.spans import in_words
from gsd_tasks.domain.verification import Cut, Facts, Verified, count_rows, examine, find_cut, orphaned
from gsd_tasks.service import control
from gsd_tasks.store import repairs, verification

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gsd_tasks.store import Connection, Database


def verify(database: Database, wanted: str | UUID) -> Verified:
    """Everything that is wrong, at one instant. Changes nothing, and waits for nobody.

    The whole id of a session that there is not is answered where it has left rows behind.

    Raises:
        NoSuchSession, AmbiguousId
    """
    with database.transaction("REPEATABLE READ") as connection:
        return _look(connection, _resolve(connection, wanted))


def repair(database: Database, wanted: str | UUID) -> Verified:
    """Mend what can be mended, all of it in one transaction, and look again.

    Raises:
        NotAllowed: the session runs.
        NoSuchSession, AmbiguousId
    """
    with database.transaction("READ COMMITTED") as connection:
        session_id = _resolve(connection, wanted)
        # From here on it stands still: what is looked at stays as it was seen.
        is_idle = repairs.lock(connection, session_id)
        before = verification.facts(connection, session_id)
        if before is None:
            return _without_orphans(connection, session_id)
        if not is_idle:
            raise NotAllowed(str(session_id), "is running: wait for its end, pause or cancel it; then repair it")
        done = tuple(_mend(connection, before))
        after = verification.facts(connection, session_id) if done else before
        return _verified(before, repairs=done, now=after)


def _look(connection: Connection, session_id: SessionId) -> Verified:
    facts = verification.facts(connection, session_id)
    if facts is None:
        rows = verification.orphaned_rows(connection, session_id)
        findings = (orphaned(rows),) if rows else ()
        return Verified(session_id=session_id, rows=rows, entries=0, snapshots=0, findings=findings, remaining=findings)
    return _verified(facts)


def _mend(connection: Connection, facts: Facts) -> Iterator[str]:
    """One sentence for each repair, when it is made."""
    yield from _cut(connection, facts)
    if broken := [judged.snapshot for judged in facts.snapshots if judged.broken is not None]:
        repairs.remove_snapshots(connection, [snapshot.id for snapshot in broken])
        yield f"removed what cannot be restored: {', '.join(f'snapshot {snapshot.id}' for snapshot in broken)}"
    if facts.uncounted is not None:
        repairs.count_rows(connection, facts.session_id, facts.uncounted[1])
        yield f"counted {facts.uncounted[1]} output rows instead of {facts.last_seq}"
    for attempt in facts.open_attempts:
        repairs.close_attempt(connection, facts.session_id, attempt)
        yield f"closed attempt {attempt}"


def _cut(connection: Connection, facts: Facts) -> Iterator[str]:
    cut = find_cut(facts)
    if cut is None:
        return
    repairs.cut(connection, facts.session_id, cut.last_entry)
    left_out = [(max(first, cut.last_entry + 1), last) for first, last in facts.live if last > cut.last_entry]
    yield f"cut the conversation back to {_point(cut)}: {in_words('entry', left_out)} left out"


def _point(cut: Cut) -> str:
    if cut.snapshot is not None:
        return f"snapshot {cut.snapshot.id}, the newest sound one before the damage"
    where = f"entry {cut.last_entry}" if cut.last_entry else "its beginning"
    return f"{where}, as no snapshot before the damage is sound"


def _without_orphans(connection: Connection, session_id: SessionId) -> Verified:
    looked = _look(connection, session_id)
    removed = repairs.remove_orphans(connection, session_id)
    return Verified(
        session_id=session_id,
        rows=looked.rows,
        entries=0,
        snapshots=0,
        findings=looked.findings,
        repairs=(f"removed {count_rows(removed)} of no session",) if removed else (),
        remaining=_look(connection, session_id).findings,
    )


def _verified(facts: Facts, *, repairs: tuple[str, ...] = (), now: Facts | None = None) -> Verified:
    findings = examine(facts)
    return Verified(
        session_id=facts.session_id,
        rows=facts.last_seq,
        entries=len(facts.entries),
        snapshots=len(facts.snapshots),
        findings=findings,
        repairs=repairs,
        remaining=findings if now is None else examine(now),
    )


def _resolve(connection: Connection, wanted: str | UUID) -> SessionId:
    try:
        return control.find(connection, wanted).id
    except NoSuchSession:
        try:
            gone = SessionId(wanted if isinstance(wanted, UUID) else UUID(wanted))
        except ValueError:
            gone = None
        if gone is None or not verification.orphaned_rows(connection, gone):
            raise
        return gone
