"""What `top` shows: one look at a cluster, and how fast its sessions have written since the look before."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from gsd_tasks.cli.reading import summary
from gsd_tasks.domain.session import Session, SessionId, Worker, WorkerStatus
from gsd_tasks.domain.state import Status

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gsd_tasks.client import Client

#: So many sessions of a kind are asked for: a look has three questions, and each a bound, however much there is.
MOST: Final = 300


@dataclass(frozen=True, slots=True)
class Seen:
    """What the cluster said, and when by a clock that nobody sets."""

    at_s: float
    workers: Sequence[Worker]
    running: Sequence[Session]
    queued: Sequence[Session]


@dataclass(frozen=True, slots=True, kw_only=True)
class Working:
    """A session that runs. `lines_per_s` is None as long as it was seen once alone."""

    id: SessionId
    worker: str | None
    slot: int | None
    queue: str
    started_at: datetime | None
    lines: int
    lines_per_s: float | None
    what: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Queue:
    """Sessions of one queue: that run, that the next free slot may take, and that wait for others to end."""

    name: str
    running: int
    queued: int
    waiting: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Glance:
    """All of it. `is_cut`: there are more sessions than were asked for, so that the numbers of queues are the least.

    `lines_per_s` is of the sessions that run: what one wrote last, before it ended, is in no look any more.
    """

    at: datetime
    slots: int
    busy: int
    lines_per_s: float | None
    is_cut: bool
    workers: Sequence[Worker]
    queues: Sequence[Queue]
    sessions: Sequence[Working]


def look(client: Client) -> Seen:
    """Three questions."""
    workers = client.workers()
    queued = client.list(status=[Status.QUEUED], limit=MOST)
    running = client.list(status=[Status.RUNNING], limit=MOST)
    return Seen(time.monotonic(), workers, running, queued)


def compare(seen: Seen, before: Seen | None) -> Glance:
    """What to show of `seen`; the sessions that write the most come first."""
    # A worker that is gone matters as long as something is still in its slots.
    workers = [worker for worker in seen.workers if _is_there(worker) or (worker.busy and not _has_stopped(worker))]
    there = [worker for worker in workers if _is_there(worker)]
    sessions = [_working(session, _lines_per_s(session, seen, before)) for session in seen.running]
    return Glance(
        at=datetime.now(UTC),
        slots=sum(worker.slots for worker in there),
        busy=sum(len(worker.busy) for worker in there),
        lines_per_s=None if before is None else sum(one.lines_per_s or 0.0 for one in sessions),
        is_cut=_is_cut(seen.running) or _is_cut(seen.queued),
        workers=sorted(workers, key=lambda worker: worker.name),
        queues=_queues(seen, there),
        sessions=sorted(sessions, key=lambda one: -(one.lines_per_s or 0.0)),
    )


def _lines_per_s(session: Session, seen: Seen, before: Seen | None) -> float | None:
    if before is None or seen.at_s <= before.at_s:
        return None
    former: Mapping[SessionId, int] = {one.id: one.seq for one in before.running}
    # What was not among them has begun since, unless there were more than were asked for.
    is_new = session.attempt == 1 and not _is_cut(before.running)
    seq = former.get(session.id, 0 if is_new else None)
    return None if seq is None else max(0, session.seq - seq) / (seen.at_s - before.at_s)


def _working(session: Session, lines_per_s: float | None) -> Working:
    return Working(
        id=session.id,
        worker=session.worker,
        slot=session.slot,
        queue=session.queue,
        started_at=session.started_at,
        lines=session.seq,
        lines_per_s=lines_per_s,
        what=summary(session),
    )


def _queues(seen: Seen, workers: Sequence[Worker]) -> list[Queue]:
    running = Counter(session.queue for session in seen.running)
    queued = Counter(session.queue for session in seen.queued if not session.waits)
    waiting = Counter(session.queue for session in seen.queued if session.waits)
    names = {name for worker in workers for name in worker.queues} | {*running, *queued, *waiting}
    return [
        Queue(name=name, running=running[name], queued=queued[name], waiting=waiting[name]) for name in sorted(names)
    ]


def _is_there(worker: Worker) -> bool:
    return worker.status in {WorkerStatus.ALIVE, WorkerStatus.STOPPING}


def _has_stopped(worker: Worker) -> bool:
    return worker.status is WorkerStatus.STOPPED


def _is_cut(sessions: Sequence[Session]) -> bool:
    return len(sessions) >= MOST
