"""A database and the model of it, through which the same operations go: one by one, or two that overlap."""

from __future__ import annotations

import copy
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from typing import Any, Final
from uuid import UUID

from sqlalchemy import text

from gsd_tasks.domain.session import SessionId
from gsd_tasks.store import Claim, Database, sessions
from gsd_tasks.store.holding import Held
from tests import state_machine_page as page
from tests.property import evidence
from tests.property.model import Model, told
from tests.property.operations import Adopt, Look, Operation, Take, function_of
from tests.property.talk import Listen
from tests.workers import register_worker

#: With them goes what belongs to a session alone.
CLEAR: Final = """
WITH held AS (DELETE FROM leases), printed AS (DELETE FROM session_outputs), told AS (DELETE FROM recoveries),
     edges AS (DELETE FROM dependencies)
DELETE FROM sessions
"""
PATIENCE_S: Final = 60.0
LOOK_S: Final = 0.002
WORKERS: Final = 2


class Bench:
    """Three connections to a database: one that takes its time, one that meets it, one that looks on."""

    def __init__(self, database: Database) -> None:
        engine = database.engine
        self.slow = engine.connect().execution_options(isolation_level="READ COMMITTED")
        self.quick, self.looking = engine.connect(), engine.connect()
        self._pool = ThreadPoolExecutor(1)
        self._quick_pid = self.quick.execute(text("SELECT pg_backend_pid()")).scalar_one()
        self.workers = [register_worker(self.quick, f"gsd@{number}") for number in range(WORKERS)]

    def clear(self) -> None:
        """Nothing has happened yet."""
        self.quick.exec_driver_sql(CLEAR)

    def overlapping(self, first: Operation, second: Operation, *, commits: bool) -> tuple[Any, Any]:
        """The second begins when the first has been carried out and before it is committed, or taken back."""
        with self.slow.begin() as transaction:
            outcome = first.run(self.slow)
            later = self._pool.submit(second.run, self.quick)
            self._until_it_waits(later)
            if commits and transaction.is_active:
                transaction.commit()
            else:
                transaction.rollback()
        return outcome, later.result(timeout=PATIENCE_S)

    def close(self) -> None:
        self._pool.shutdown()
        for connection in (self.slow, self.quick, self.looking):
            connection.close()

    def _until_it_waits(self, later: Future[Any]) -> None:
        """For the first one's locks; or until it is done, where it needs none of them."""
        waits = text("SELECT cardinality(pg_blocking_pids(:pid)) > 0").bindparams(pid=self._quick_pid)
        give_up_at = time.monotonic() + PATIENCE_S
        while not wait_for([later], timeout=LOOK_S).done:
            if self.looking.execute(waits).scalar_one():
                return
            assert time.monotonic() < give_up_at, "it neither waits nor ends"


class World:
    """What has been done so far, on both sides, and what actors have kept of it."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.model = Model()
        self.sessions: list[SessionId] = []
        self.claims: dict[UUID, list[Claim]] = defaultdict(list)
        self.looks: list[tuple[Held, ...]] = [()]
        #: The newest message that a holder has heard of, and whether one was not in the conversation then.
        self.heard: dict[UUID, list[tuple[int, bool]]] = defaultdict(list)
        self.happened: set[tuple[str, str, str]] = set()
        bench.clear()

    def do(self, operation: Operation, *, checks: bool = True) -> Any:
        """By itself; and look at everything then, if it `checks`."""
        outcome = operation.run(self.bench.quick)
        lengths = {session_id: len(session.history) for session_id, session in self.model.sessions.items()}
        expected = operation.apply(self.model)
        assert outcome == expected, f"{operation} gave {outcome}, and should have given {expected}"
        for session_id, session in self.model.sessions.items():
            for before, after, _, _, reason in session.history[lengths.get(session_id, 0) :]:
                self._happened(before or page.NEW, after, function_of(operation), reason)
        self._keep(operation, outcome)
        if checks:
            self.check()
        return outcome

    def do_at_once(self, first: Operation, second: Operation, *, commits: bool) -> None:
        """As if one had come after the other, or as if the second had passed over what the first had locked."""
        outcomes = self.bench.overlapping(first, second, commits=commits)
        there_is = evidence.read(self.bench.looking)
        found = told(there_is)
        possible = list(self._possible(first, second, commits=commits))
        matching = [model for model, expected in possible if expected == outcomes and model.as_evidence() == found]
        assert matching, f"{first}, then {second}: {outcomes}, and should have given one of {[e for _, e in possible]}"
        self.model = matching[0]
        if commits:
            self._keep(first, outcomes[0])
        self._keep(second, outcomes[1])
        assert evidence.violations(there_is) == []

    def check(self) -> None:
        """The database is what the model is, and as it must always be."""
        there_is = evidence.read(self.bench.looking)
        assert told(there_is) == self.model.as_evidence()
        assert evidence.violations(there_is) == []

    def hears(self, session_id: SessionId, before: int = 0) -> tuple[int, bool]:
        """What a holder settles by that listened so many times `before`; 0 is now."""
        if before == 0:
            self._keep(listening := Listen(session_id), listening.run(self.bench.looking))
        heard = self.heard[session_id]
        # Who has not listened does not know of any answer.
        return heard[-min(before + 1, len(heard))] if heard else (0, True)

    def _happened(self, before: str, after: str, function: str, reason: str) -> None:
        rows = [row for row in page.transitions() if row[:3] == (before, after, function)]
        assert any(reason in row.reasons for row in rows), (
            f"docs/state-machine.md lacks {before, after, function, reason}"
        )
        self.happened.add((before, after, function))

    def _possible(
        self, first: Operation, second: Operation, *, commits: bool
    ) -> Iterator[tuple[Model, tuple[Any, Any]]]:
        before, after_first = self.model, copy.deepcopy(self.model)
        outcome = first.apply(after_first)
        locked = frozenset(
            session_id
            for session_id in {*before.sessions, *after_first.sessions}
            if before.sessions.get(session_id) != after_first.sessions.get(session_id)
            # What is said twice changes nothing and locks all the same.
            or (outcome and session_id == first.session_id)
        )
        start = after_first if commits else before
        for rest in filter(None, (second, second.past_locks(locked))):
            model = copy.deepcopy(start)
            yield model, (outcome, rest.apply(model))
        if commits:
            model = copy.deepcopy(before)
            second_outcome = second.apply(model)
            yield model, (first.apply(model), second_outcome)

    def _keep(self, operation: Operation, outcome: Any) -> None:
        """What the actor knows from now on, whatever becomes of it."""
        if isinstance(operation, (Take, Adopt)) and isinstance(outcome, tuple):
            session = sessions.get(self.bench.looking, operation.session_id)
            assert session is not None
            claim = Claim(
                session=session,
                attempt=outcome[0],
                holder=operation.holder,
                worker_id=operation.worker,
                slot=operation.slot,
            )
            self.claims[operation.session_id].append(claim)
        if isinstance(operation, Look):
            self.looks.append(seen(outcome))
        if isinstance(operation, Listen):
            newest, waiting = outcome
            self.heard[operation.about].append((newest, bool(waiting)))


def seen(leases: Sequence[tuple[SessionId, Any, int]]) -> tuple[Held, ...]:
    """What `Look` gives, as a recovery takes it."""
    return tuple(
        Held(session_id=session_id, holder=holder, renewals=renewals, is_expired=True)
        for session_id, holder, renewals in leases
    )
