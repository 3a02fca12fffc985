"""What the statements of the store are to leave behind, as plain values: sessions with all that belongs to them."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from uuid import UUID

from gsd_tasks.domain.session import Awaited, OnLost
from gsd_tasks.domain.state import FINAL, Reason, Status, Wanted
from tests.property.evidence import Evidence


class Entry(NamedTuple):
    """Of a transcript: the line of an attempt's file that begins there."""

    attempt: int
    position: int
    kind: str
    uuid: str | None
    text: str


@dataclass
class Lease:
    attempt: int
    holder: UUID
    worker: UUID
    slot: int
    last_seq: int
    stdout_bytes: int = 0
    renewals: int = 0
    last_entry: int = 0
    transcript_bytes: int = 0


@dataclass
class Attempt:
    holder: UUID
    worker: UUID
    slot: int
    first_seq: int
    has_launched: bool = False
    reason: str | None = None
    last_seq: int | None = None


@dataclass
class Modelled:
    """A session."""

    on_lost: OnLost
    max_tries: int
    max_recoveries: int
    key: str | None = None
    #: What it is to follow, and how that is to end; while it `waits`, not all of that has come about.
    befores: dict[UUID, str] = field(default_factory=dict)
    waits: bool = False
    expires: str | None = None  # past or future
    is_later: bool = False
    is_claude: bool = False
    status: Status = Status.QUEUED
    reason: Reason = Reason.ENQUEUED
    wanted: Wanted | None = None
    tries: int = 0
    recoveries: int = 0
    last_seq: int = 0
    lease: Lease | None = None
    attempts: list[Attempt] = field(default_factory=list)
    history: list[tuple[str | None, str, int, UUID | None, str]] = field(default_factory=list)
    rows: list[tuple[int, str]] = field(default_factory=list)
    #: What was said to it, number 1 first; an interrupt has no words.
    messages: list[str | None] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)
    #: Which messages stand in the transcript; 0 is the first prompt. As a prompt, one stands for all before it.
    delivered: set[int] = field(default_factory=set)
    prompted: set[int] = field(default_factory=set)

    @property
    def waiting(self) -> tuple[int, ...]:
        """What was said, and is not in the conversation."""
        texts = [0, *(number for number, words in enumerate(self.messages, 1) if words is not None)]
        through = max(self.prompted, default=-1)
        return tuple(each for each in texts if self.is_claude and each > through and each not in self.delivered)

    @property
    def attempt(self) -> int:
        return len(self.attempts)

    @property
    def is_claimable(self) -> bool:
        is_expired = self.expires == "past" and self.attempt == 0
        return self.status is Status.QUEUED and not self.waits and not self.is_later and not is_expired

    def held_by(self, attempt: int, holder: UUID) -> Lease | None:
        """The lease, if it is this holder's in this attempt."""
        lease = self.lease
        return lease if lease and (lease.attempt, lease.holder) == (attempt, holder) else None

    def begin_anew(self, reason: Reason) -> None:
        """As if nothing had been tried."""
        self.tries = self.recoveries = 0
        self.is_later, self.expires = False, None
        self.move(Status.QUEUED, reason)

    def move(self, status: Status, reason: Reason) -> None:
        """A transition, with its entry."""
        worker = self.attempts[-1].worker if self.attempts else None
        self.history.append((self.history[-1][1] if self.history else None, status, self.attempt, worker, reason))
        self.status, self.reason = status, reason

    def leave(self, lease: Lease, status: Status, reason: Reason, why_ended: Reason) -> None:
        """Out of running."""
        self.attempts[-1].reason, self.attempts[-1].last_seq = why_ended, lease.last_seq
        self.last_seq, self.lease, self.wanted = lease.last_seq, None, None
        self.move(status, reason)


@dataclass
class Model:
    """All of them."""

    sessions: dict[UUID, Modelled] = field(default_factory=dict)
    #: What each recovery took, by its outcome.
    recoveries: list[dict[str, set[UUID]]] = field(default_factory=list)

    def is_met(self, before: UUID, kind: str) -> bool:
        """Whether that one has ended as it is to."""
        status = self.sessions[before].status
        return status is Status.COMPLETED or (kind == Awaited.ENDED and status in FINAL)

    def sharing_a_place(self, session_id: UUID, worker: UUID, slot: int) -> bool:
        """Whether another session is in this slot."""
        leases = [each.lease for other, each in self.sessions.items() if other != session_id and each.lease]
        return any((lease.worker, lease.slot) == (worker, slot) for lease in leases)

    def as_evidence(self) -> dict[str, Any]:
        """In the form of `told`."""
        return {
            "recoveries": [{name: {str(each) for each in ids} for name, ids in one.items()} for one in self.recoveries],
            **{str(session_id): _as_told(each) for session_id, each in self.sessions.items()},
        }


def _as_told(session: Modelled) -> dict[str, Any]:
    lease = session.lease
    return {
        "session": (
            session.status,
            session.reason,
            session.wanted,
            session.attempt,
            session.tries,
            session.recoveries,
            session.last_seq,
            session.is_later,
            session.status in FINAL,
            len(session.messages),
            session.waits,
        ),
        "lease": lease
        and (
            lease.attempt,
            str(lease.holder),
            str(lease.worker),
            lease.slot,
            lease.last_seq,
            lease.stdout_bytes,
            lease.renewals,
            lease.last_entry,
            lease.transcript_bytes,
        ),
        "attempts": [
            (
                str(each.holder),
                str(each.worker),
                each.slot,
                each.first_seq,
                each.has_launched,
                each.reason,
                each.last_seq,
            )
            for each in session.attempts
        ],
        "history": [(*entry[:3], entry[3] and str(entry[3]), entry[4]) for entry in session.history],
        "rows": session.rows,
        "messages": session.messages,
        "entries": session.entries,
        "befores": {str(before): kind for before, kind in session.befores.items()},
    }


def told(evidence: Evidence) -> dict[str, Any]:
    """The same of a database."""
    found: dict[str, Any] = defaultdict(dict)
    names = ("requeued", "failed", "cancelled", "paused")
    found["recoveries"] = [{name: set(one[name]) for name in names if one[name]} for one in evidence.recoveries]
    for session_id, row in evidence.sessions.items():
        columns = ("status", "reason", "wanted", "attempt", "tries", "recoveries", "last_seq", "later")
        (lease,) = evidence.leases[session_id] or (None,)
        of_lease = ("attempt", "holder", "worker_id", "slot", "last_seq", "stdout_bytes", "renewals", "last_entry")
        found[session_id] = {
            "session": (
                *(row[name] for name in columns),
                row["ended_at"] is not None,
                row["last_message"],
                row["waits"],
            ),
            "lease": lease and tuple(lease[name] for name in (*of_lease, "transcript_bytes")),
            "attempts": [
                (
                    each["holder"],
                    each["worker_id"],
                    each["slot"],
                    each["first_seq"],
                    each["launching_at"] is not None,
                    each["reason"],
                    each["last_seq"],
                )
                for each in evidence.attempts[session_id]
            ],
            "history": [
                tuple(each[name] for name in ("from_status", "to_status", "attempt", "worker_id", "reason"))
                for each in evidence.history[session_id]
            ],
            "rows": [(each["attempt"], each["data"]) for each in evidence.rows[session_id]],
            "befores": {each["before_id"]: each["kind"] for each in evidence.edges[session_id]},
            "messages": [each["body"] for each in evidence.messages[session_id]],
            "entries": [
                Entry(*(each[name] for name in ("attempt", "position", "kind", "uuid", "entry")))
                for each in evidence.entries[session_id]
            ],
        }
    return dict(found)
