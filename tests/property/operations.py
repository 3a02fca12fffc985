"""What is done to sessions, as values, each with two meanings.

`run` carries it out by the store's own function on a connection; `apply` says in a few lines what that is to do, on a
model. Both return what came of it, and both must be the same. Ids are chosen beforehand, so that both write the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Final, Protocol, Self
from uuid import UUID

from psycopg.errors import UniqueViolation
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from gsd_tasks.domain.errors import NoSuchSession
from gsd_tasks.domain.policy import Verdict
from gsd_tasks.domain.session import Holder, Kind, OnLost, SessionId, Stream, Submission, WorkerId
from gsd_tasks.domain.state import FINAL, Reason, Status, Wanted
from gsd_tasks.store import Claim, Connection, adoption, dependencies, leases, outputs, sessions, transitions
from gsd_tasks.store.holding import Held
from gsd_tasks.store.leases import Progress
from gsd_tasks.store.transitions import New
from tests.property.model import Attempt, Lease, Model, Modelled

LEASE_S: Final = 30
#: A slot holds one session: a unique constraint says so. Nothing is written then.
TAKEN: Final = "the slot is taken"
#: What is to be followed is not there. Nothing is written then.
NOBODY: Final = "nobody to follow"
NOW: Final = datetime.now(UTC)


class Operation(Protocol):
    """Something that somebody does. Where it is about one session, that is its `session_id`."""

    @property
    def session_id(self) -> SessionId | None: ...

    def run(self, connection: Connection) -> Any: ...

    def apply(self, model: Model) -> Any: ...

    def past_locks(self, locked: frozenset[UUID]) -> Self | None:
        """What is left of it where it passes over what somebody else has locked. None: it waits for that."""


@dataclass(frozen=True)
class Waits:
    """An operation that waits for whoever has locked what it needs."""

    session_id: SessionId

    def past_locks(self, locked: frozenset[UUID]) -> Self | None:
        return None


@dataclass(frozen=True)
class ByHolder:
    """What somebody does who believes to hold a session."""

    claim: Claim = field(repr=False)

    @property
    def session_id(self) -> SessionId:
        return self.claim.session.id

    def __str__(self) -> str:
        return f"{self!r} in attempt {self.claim.attempt} by {self.claim.holder}"

    def past_locks(self, locked: frozenset[UUID]) -> Self | None:
        return None


@dataclass(frozen=True)
class OfAll:
    """What is about no session in particular."""

    @property
    def session_id(self) -> SessionId | None:
        return None

    def past_locks(self, locked: frozenset[UUID]) -> Self | None:
        return None


@dataclass(frozen=True)
class Enqueue(Waits):
    request: Submission
    expires: str | None
    is_later: bool

    def run(self, connection: Connection) -> Any:
        try:
            return transitions.enqueue(connection, self.session_id, self.request, b"") is not None
        except NoSuchSession:
            return NOBODY

    def apply(self, model: Model) -> Any:
        key = self.request.key
        if key is not None and any(each.key == key for each in model.sessions.values()):
            return False
        befores: dict[UUID, str] = {
            **dict.fromkeys(self.request.after, "completed"),
            **dict.fromkeys(self.request.after_any, "ended"),
        }
        if not befores.keys() <= model.sessions.keys():
            return NOBODY
        session = Modelled(
            on_lost=self.request.on_lost or OnLost.FAIL,
            max_tries=self.request.max_tries,
            max_recoveries=self.request.max_recoveries,
            key=key,
            befores=befores,
            waits=bool(befores),
            expires=self.expires,
            is_later=self.is_later,
            is_claude=self.request.kind is Kind.CLAUDE,
        )
        session.move(Status.QUEUED, Reason.ENQUEUED)
        model.sessions[self.session_id] = session
        return True


@dataclass(frozen=True)
class EnqueueMany(Enqueue):
    """By the statement for many: one that follows nobody."""

    def run(self, connection: Connection) -> bool:
        return bool(transitions.enqueue_many(connection, [New(self.session_id, b"", self.request)]))


@dataclass(frozen=True)
class Take(Waits):
    """A claim."""

    holder: Holder
    worker: WorkerId
    slot: int

    def run(self, connection: Connection) -> Any:
        def claim() -> Claim | None:
            return transitions.claim(
                connection,
                self.session_id,
                holder=self.holder,
                worker_id=self.worker,
                slot=self.slot,
                lease_s=LEASE_S,
            )

        claimed = _unless_taken(claim)
        if not isinstance(claimed, Claim):
            return claimed
        session = claimed.session
        return claimed.attempt, session.seq, session.tries, session.recoveries, session.messages

    def apply(self, model: Model) -> Any:
        session = model.sessions.get(self.session_id)
        if session is None or not session.is_claimable:
            return None
        if model.sharing_a_place(self.session_id, self.worker, self.slot):
            return TAKEN
        session.attempts.append(Attempt(self.holder, self.worker, self.slot, session.last_seq + 1))
        session.lease = Lease(
            session.attempt, self.holder, self.worker, self.slot, session.last_seq, last_entry=len(session.entries)
        )
        session.move(Status.RUNNING, Reason.CLAIMED)
        return session.attempt, session.last_seq, session.tries, session.recoveries, len(session.messages)

    def past_locks(self, locked: frozenset[UUID]) -> Self | None:
        return replace(self, session_id=SessionId(UUID(int=0))) if self.session_id in locked else None


@dataclass(frozen=True)
class Adopt(Waits):
    attempt: int
    holder: Holder
    worker: WorkerId
    slot: int

    def run(self, connection: Connection) -> Any:
        def adopt() -> adoption.Adopted | None:
            return adoption.adopt(
                connection,
                self.session_id,
                self.attempt,
                holder=self.holder,
                worker_id=self.worker,
                slot=self.slot,
                lease_s=LEASE_S,
            )

        adopted = _unless_taken(adopt)
        if not isinstance(adopted, adoption.Adopted):
            return adopted
        return adopted.claim.attempt, adopted.first_seq, adopted.progress, adopted.transcript_bytes

    def apply(self, model: Model) -> Any:
        session = model.sessions.get(self.session_id)
        if session is None or session.lease is None:
            return None
        lease = session.lease
        if lease.attempt == self.attempt and lease.holder != self.holder:
            if model.sharing_a_place(self.session_id, self.worker, self.slot):
                return TAKEN
            lease.renewals += 1
            for each in (lease, session.attempts[-1]):
                each.holder, each.worker, each.slot = self.holder, self.worker, self.slot
            session.move(Status.RUNNING, Reason.ADOPTED)
        if lease.holder != self.holder:
            return None
        progress = Progress(lease.last_seq, lease.stdout_bytes)
        return lease.attempt, session.attempts[-1].first_seq, progress, lease.transcript_bytes


@dataclass(frozen=True)
class Renew(ByHolder):
    def run(self, connection: Connection) -> Any:
        return leases.renew(connection, self.claim, lease_s=LEASE_S)

    def apply(self, model: Model) -> Any:
        session, lease = held_in(model, self.claim)
        if lease is None:
            return None
        lease.renewals += 1
        return leases.Renewed(session.wanted, len(session.messages))


@dataclass(frozen=True)
class MarkLaunching(ByHolder):
    def run(self, connection: Connection) -> bool:
        return leases.mark_launching(connection, self.claim)

    def apply(self, model: Model) -> bool:
        session, lease = held_in(model, self.claim)
        if lease is not None:
            session.attempts[-1].has_launched = True
        return lease is not None


@dataclass(frozen=True)
class Append(ByHolder):
    """Lines of one stream, after `before`."""

    before: Progress
    lines: tuple[str, ...]

    @property
    def after(self) -> Progress:
        size = sum(len(line) + 1 for line in self.lines)
        return Progress(self.before.last_seq + len(self.lines), self.before.stdout_bytes + size)

    def run(self, connection: Connection) -> bool:
        batch = outputs.Batch()
        for line in self.lines:
            batch.add(Stream.STDOUT, NOW, line.encode(), eol=True)
        return outputs.append(connection, self.claim, batch, self.before, self.after)

    def apply(self, model: Model) -> bool:
        session, lease = held_in(model, self.claim)
        if lease is None or lease.last_seq != self.before.last_seq:
            return False
        session.rows += [(lease.attempt, line) for line in self.lines]
        lease.last_seq, lease.stdout_bytes = self.after.last_seq, self.after.stdout_bytes
        return True


@dataclass(frozen=True)
class Settle(ByHolder):
    """By a verdict for which so many messages were `heard`."""

    verdict: Verdict
    heard: int = 0

    def run(self, connection: Connection) -> bool:
        return transitions.settle(connection, self.claim, self.verdict, heard=self.heard)

    def apply(self, model: Model) -> bool:
        session, lease = held_in(model, self.claim)
        verdict = self.verdict
        if lease is None:
            return False
        says_all = verdict.status is Status.COMPLETED or verdict.reason is Reason.INTERRUPTED
        if says_all and len(session.messages) > self.heard:
            return False
        if verdict.status in {Status.QUEUED, Status.FAILED} and session.wanted is not None:
            return False
        if verdict.status is Status.PAUSED and session.wanted is not Wanted.PAUSE:
            return False
        session.tries, session.recoveries = verdict.tries, verdict.recoveries
        session.is_later = verdict.delay_s > 0
        session.leave(lease, verdict.status, verdict.reason, verdict.reason)
        return True


@dataclass(frozen=True)
class Recover(OfAll):
    """By what somebody saw some time ago."""

    seen: tuple[Held, ...]

    def run(self, connection: Connection) -> Any:
        recovered = transitions.recover(connection, self.seen)
        names = ("requeued", "failed", "cancelled", "paused")
        return {name: set(getattr(recovered, name)) for name in names if getattr(recovered, name)}

    def apply(self, model: Model) -> Any:
        found: dict[str, set[UUID]] = {}
        for held in self.seen:
            session = model.sessions.get(held.session_id)
            lease = session.lease if session else None
            if session and lease and (lease.holder, lease.renewals) == (held.holder, held.renewals):
                name = self._recover(session, lease)
                found.setdefault(name, set()).add(held.session_id)
        if found:
            model.recoveries.append(found)
        return found

    @staticmethod
    def _recover(session: Modelled, lease: Lease) -> str:
        has_launched = session.attempts[-1].has_launched
        if session.wanted is Wanted.CANCEL:
            name, status, reason = "cancelled", Status.CANCELLED, Reason.CANCELLED
        elif session.wanted is Wanted.PAUSE:
            name, status, reason = "paused", Status.PAUSED, Reason.PAUSED
        elif not has_launched:
            name, status, reason = "requeued", Status.QUEUED, Reason.LEASE_LOST
        elif session.on_lost is OnLost.REQUEUE and session.recoveries < session.max_recoveries:
            name, status, reason = "requeued", Status.QUEUED, Reason.LEASE_LOST
            session.recoveries += 1
        else:
            name, status, reason = "failed", Status.FAILED, Reason.LEASE_LOST
        session.leave(lease, status, reason, Reason.LEASE_LOST)
        return name

    def past_locks(self, locked: frozenset[UUID]) -> Self | None:
        return replace(self, seen=tuple(held for held in self.seen if held.session_id not in locked))


@dataclass(frozen=True)
class Idle(Waits):
    """What people do to a session by its id alone."""

    what: str

    def run(self, connection: Connection) -> bool:
        return _RUN[self.what](connection, self.session_id)

    def apply(self, model: Model) -> bool:
        session = model.sessions.get(self.session_id)
        return session is not None and _APPLY[self.what](model, self.session_id, session)


@dataclass(frozen=True)
class LetGo(OfAll):
    """Those of these that need to wait no longer."""

    these: tuple[SessionId, ...]

    def run(self, connection: Connection) -> set[UUID]:
        return {session.id for session in dependencies.let_go(connection, self.these)}

    def apply(self, model: Model) -> set[UUID]:
        found: set[UUID] = {
            session_id
            for session_id, session in _waiting(model, self.these)
            if all(model.is_met(before, kind) for before, kind in session.befores.items())
        }
        for session_id in found:
            model.sessions[session_id].waits = False
        return found

    def past_locks(self, locked: frozenset[UUID]) -> Self | None:
        return replace(self, these=tuple(each for each in self.these if each not in locked))


@dataclass(frozen=True)
class GiveUp(OfAll):
    """Those of these that wait in vain."""

    these: tuple[SessionId, ...]

    def run(self, connection: Connection) -> set[UUID]:
        return set(transitions.give_up(connection, self.these))

    def apply(self, model: Model) -> set[UUID]:
        found: dict[UUID, Status] = {}
        for session_id, session in _waiting(model, self.these):
            for before, kind in session.befores.items():
                end = model.sessions[before].status
                if kind == "completed" and end in {Status.FAILED, Status.CANCELLED}:
                    found[session_id] = end
        for given_up, end in found.items():
            reason = Reason.CANCELLED if end is Status.CANCELLED else Reason.DEPENDENCY
            model.sessions[given_up].move(end, reason)
        return set(found)

    def past_locks(self, locked: frozenset[UUID]) -> Self | None:
        return replace(self, these=tuple(each for each in self.these if each not in locked))


def _waiting(model: Model, these: Sequence[SessionId]) -> list[tuple[SessionId, Modelled]]:
    there_are = [(each, model.sessions[each]) for each in these if each in model.sessions]
    return [(each, session) for each, session in there_are if session.status is Status.QUEUED and session.waits]


@dataclass(frozen=True)
class Expire(OfAll):
    def run(self, connection: Connection) -> set[UUID]:
        return set(transitions.expire(connection))

    def apply(self, model: Model) -> set[UUID]:
        found: set[UUID] = set()
        for session_id, session in model.sessions.items():
            if session.status is Status.QUEUED and session.expires == "past" and session.attempt == 0:
                session.move(Status.FAILED, Reason.EXPIRED)
                found.add(session_id)
        return found


@dataclass(frozen=True)
class Sweep(OfAll):
    """What the re-publisher reads: how many could be claimed, and which."""

    def run(self, connection: Connection) -> Any:
        return set(sessions.claimable(connection, "sessions", limit=100))

    def apply(self, model: Model) -> Any:
        return {(session_id, 5) for session_id, session in model.sessions.items() if session.is_claimable}


@dataclass(frozen=True)
class Look(OfAll):
    """What the reaper reads."""

    def run(self, connection: Connection) -> Any:
        return {(held.session_id, held.holder, held.renewals) for held in leases.all_held(connection)}

    def apply(self, model: Model) -> Any:
        found = [(session_id, session.lease) for session_id, session in model.sessions.items()]
        return {(session_id, lease.holder, lease.renewals) for session_id, lease in found if lease}


@dataclass(frozen=True)
class ComeDue(OfAll):
    """Time passes: whatever was put off is due now."""

    def run(self, connection: Connection) -> None:
        connection.execute(text("UPDATE sessions SET run_at = now() WHERE run_at > now()"))

    def apply(self, model: Model) -> None:
        for session in model.sessions.values():
            session.is_later = False


def function_of(operation: Operation) -> str:
    """Which function of the store it is."""
    if isinstance(operation, Idle):
        return operation.what
    name = type(operation).__name__
    names = {
        "Take": "claim",
        "FollowUp": "follow_up",
        "Fork": "enqueue",
        "EnqueueMany": "enqueue_many",
        "GiveUp": "give_up",
    }
    return names.get(name, name.lower())


def _unless_taken(attempt: Callable[[], Any]) -> Any:
    try:
        return attempt()
    except IntegrityError as error:
        if isinstance(error.orig, UniqueViolation) and "uq_leases_worker_id_slot" in str(error.orig):
            return TAKEN
        raise


def held_in(model: Model, claim: Claim) -> tuple[Modelled, Lease | None]:
    session = model.sessions.get(claim.session.id)
    if session is None:
        return Modelled(OnLost.FAIL, 1, 0), None
    return session, session.held_by(claim.attempt, claim.holder)


def _cancel(_model: Model, _session_id: UUID, session: Modelled) -> bool:
    if session.status not in {Status.QUEUED, Status.WAITING_CHECKPOINT, Status.PAUSED}:
        return False
    session.move(Status.CANCELLED, Reason.CANCELLED)
    return True


def _pause(_model: Model, _session_id: UUID, session: Modelled) -> bool:
    if session.status is not Status.QUEUED:
        return False
    session.move(Status.PAUSED, Reason.PAUSED)
    return True


def _resume(_model: Model, _session_id: UUID, session: Modelled) -> bool:
    if session.status is not Status.PAUSED:
        return False
    session.move(Status.QUEUED, Reason.RESUMED)
    return True


def _retry(_model: Model, _session_id: UUID, session: Modelled) -> bool:
    if session.status not in {Status.FAILED, Status.CANCELLED}:
        return False
    session.begin_anew(Reason.RETRIED)
    return True


def _wish(wanted: Wanted | None, may_replace: Sequence[Wanted | None]) -> Callable[[Model, UUID, Modelled], bool]:
    def wish(_model: Model, _session_id: UUID, session: Modelled) -> bool:
        if session.status is not Status.RUNNING or session.wanted not in may_replace:
            return False
        session.wanted = wanted
        return True

    return wish


def _delete(model: Model, session_id: UUID, session: Modelled) -> bool:
    if session.status not in FINAL:
        return False
    following = [each for each in model.sessions.values() if session_id in each.befores]
    if any(each.waits and not model.is_met(session_id, each.befores[session_id]) for each in following):
        return False
    for each in following:
        del each.befores[session_id]
    del model.sessions[session_id]
    return True


_RUN: Final[dict[str, Callable[[Connection, SessionId], bool]]] = {
    "cancel_idle": transitions.cancel_idle,
    "pause_idle": transitions.pause_idle,
    "resume": transitions.resume,
    "retry": transitions.retry,
    "want cancel": lambda connection, session_id: sessions.want(connection, session_id, Wanted.CANCEL),
    "want pause": lambda connection, session_id: sessions.want(connection, session_id, Wanted.PAUSE),
    "take_back_pause": sessions.take_back_pause,
    "delete": sessions.delete_ended,
}
_APPLY: Final[dict[str, Callable[[Model, UUID, Modelled], bool]]] = {
    "cancel_idle": _cancel,
    "pause_idle": _pause,
    "resume": _resume,
    "retry": _retry,
    "want cancel": _wish(Wanted.CANCEL, (None, Wanted.PAUSE)),
    "want pause": _wish(Wanted.PAUSE, (None, Wanted.PAUSE)),
    "take_back_pause": _wish(None, (Wanted.PAUSE,)),
    "delete": _delete,
}
IDLE: Final = tuple(_RUN)
