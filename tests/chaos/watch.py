"""One thread that looks at the database a few times a second, and remembers what it saw change."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import psycopg

from gsd_tasks.domain.state import FINAL, Status
from tests.chaos.clock import S, boot_minus_wall_ns, boot_ns
from tests.chaos.evidence import Grant
from tests.waiting import BOUND_S

LOOK_S: Final = 0.1
CONNECT_S: Final = 2
#: A look that was kept waiting, by a server that stood still, counts no more than this.
LONGEST_GAP_NS: Final = S // 2

LEASES: Final = """
SELECT l.session_id::text, l.attempt, l.holder::text, l.worker_id::text, l.last_seq, l.renewals,
       (extract(epoch FROM l.expires_at) * 1000000)::bigint, w.pid
  FROM leases l JOIN workers w ON w.id = l.worker_id"""
RECENT: Final = """
SELECT id::text, status FROM sessions
 WHERE ended_at IS NULL OR ended_at > clock_timestamp() - interval '10 seconds' ORDER BY id"""
# What has written, or has locked a row, has a transaction id: it is what others may wait for.
LOCKS: Final = """
SELECT pid, xact_start::text, application_name, state, left(query, 120)
  FROM pg_stat_activity
 WHERE datname = current_database() AND backend_xid IS NOT NULL AND pid <> pg_backend_pid()"""


class Step(NamedTuple):
    """So many rows of a session were there at a look that began at `at_ns`."""

    at_ns: int
    attempt: int
    last_seq: int


class Holding(NamedTuple):
    """A running session, and the pid of the worker that holds it."""

    session: str
    attempt: int
    pid: int


@dataclass(slots=True)
class Seen:
    """All that was seen. `open`, `failed` (or cancelled, lately) and `held` are as at the last look."""

    open: dict[str, str] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)
    held: tuple[Holding, ...] = ()
    looks_ns: list[int] = field(default_factory=list)
    steps: dict[str, list[Step]] = field(default_factory=lambda: defaultdict(list))
    grants: dict[tuple[str, int, str, int], Grant] = field(default_factory=dict)
    locks: dict[tuple[int, str], int] = field(default_factory=dict)
    long_locks: dict[tuple[int, str], str] = field(default_factory=dict)

    def is_empty_since(self, at_ns: int) -> bool:
        """Whether everything had ended at a look that began after that moment."""
        return bool(self.looks_ns) and self.looks_ns[-1] > at_ns and not self.open


class Watch:
    """Looks from `start` to `stop`."""

    def __init__(self, database_url: str, lease_s: float) -> None:
        self._url = database_url
        self._lease_ns = int(lease_s * S)
        self._wall_to_boot_ns = boot_minus_wall_ns()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)
        self.seen = Seen()

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join(BOUND_S)

    def _run(self) -> None:
        while not self._stopping.is_set():
            with contextlib.suppress(psycopg.Error):
                self._watch()
            time.sleep(LOOK_S)

    def _watch(self) -> None:
        with psycopg.connect(
            self._url, autocommit=True, connect_timeout=CONNECT_S, application_name="chaos"
        ) as connection:
            while not self._stopping.wait(LOOK_S):
                self._look(connection, boot_ns())

    def _look(self, connection: psycopg.Connection, at_ns: int) -> None:
        seen = self.seen
        leases = connection.execute(LEASES).fetchall()
        recent = connection.execute(RECENT).fetchall()
        locks = connection.execute(LOCKS).fetchall()
        for session, attempt, holder, _, last_seq, renewals, expires_us, _ in leases:
            until_ns = expires_us * 1000 + self._wall_to_boot_ns
            seen.grants[session, attempt, holder, renewals] = Grant(session, attempt, holder, renewals, until_ns, at_ns)
            steps = seen.steps[session]
            if not steps or steps[-1][1:] != (attempt, last_seq):
                steps.append(Step(at_ns, attempt, last_seq))
        seen.held = tuple(Holding(row[0], row[1], row[7]) for row in leases)
        seen.open = {session: status for session, status in recent if Status(status) not in FINAL}
        seen.failed = [session for session, status in recent if status in (Status.FAILED, Status.CANCELLED)]
        self._note_locks(locks, at_ns)
        seen.looks_ns.append(at_ns)

    def _note_locks(self, locks: list[tuple[int, str, str, str, str]], at_ns: int) -> None:
        """How long each was seen to stand, by a server that answered meanwhile."""
        seen = self.seen
        gap_ns = min(LONGEST_GAP_NS, at_ns - seen.looks_ns[-1]) if seen.looks_ns else 0
        seen.locks = {
            (pid, began): seen.locks[pid, began] + gap_ns if (pid, began) in seen.locks else 0
            for pid, began, *_ in locks
        }
        for pid, began, name, state, query in locks:
            if seen.locks[pid, began] > self._lease_ns:
                held_s = seen.locks[pid, began] / S
                seen.long_locks[pid, began] = f"backend {pid} ({name}, {state}) for {held_s:.1f} s: {query}"
