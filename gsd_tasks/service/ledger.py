"""What is written down of a conversation beside its words: what each turn cost, and snapshots to go back to."""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING

from gsd_tasks.domain.costs import TurnMeter, sum_turns
from gsd_tasks.domain.session import SnapshotReason
from gsd_tasks.store import snapshots, turns

if TYPE_CHECKING:
    from gsd_tasks.domain.claude_results import ResultEvent
    from gsd_tasks.domain.costs import Turn
    from gsd_tasks.settings import Settings
    from gsd_tasks.store import Claim, Connection, Database


class Ledger:
    """One attempt's. Nothing in it is done twice: an adopting worker hears the results of its attempt once more."""

    def __init__(self, database: Database, claim: Claim, settings: Settings) -> None:
        self._database = database
        self._claim = claim
        self._kept = settings.snapshots_kept
        self._interval_s = settings.snapshot_s
        self._snapped_at = time.monotonic()
        self._results: deque[tuple[int, ResultEvent]] = deque()
        self._turns: deque[Turn] = deque()
        self._meter: TurnMeter | None = None
        self._has_turned = False

    def hear(self, seq: int, result: ResultEvent) -> None:
        """A turn has ended; its result stands in row `seq`."""
        self._results.append((seq, result))

    def tend(self, *, is_written: bool) -> None:
        """Write what is due. `is_written`: the transcript has all that was said. Raises `DatabaseUnavailable`."""
        is_over = self._has_turned and is_written
        is_long = self._interval_s > 0 and time.monotonic() >= self._snapped_at + self._interval_s
        if not (self._results or self._turns or is_over or is_long):
            return
        with self._database.connection() as connection:
            self._record(connection)
            if is_over or is_long:
                reason = SnapshotReason.TURN if is_over else SnapshotReason.INTERVAL
                snapshots.take(connection, self._claim.session.id, reason, kept=self._kept)
                self._has_turned, self._snapped_at = False, time.monotonic()

    def cost_usd(self) -> float:
        """What all turns of the session cost, as far as the CLI has said so. Raises `DatabaseUnavailable`."""
        with self._database.connection() as connection:
            return sum_turns(turns.of_session(connection, self._claim.session.id)).cost_usd

    def _record(self, connection: Connection) -> None:
        if self._meter is None:
            self._meter = TurnMeter(turns.begin(connection, self._claim))
        while self._results:
            seq, result = self._results.popleft()
            self._turns.append(self._meter.turn(result, seq))
        while self._turns and turns.record(connection, self._claim, self._turns[0]):
            self._turns.popleft()
            self._has_turned = True
