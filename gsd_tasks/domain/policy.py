"""What becomes of a session when its child is gone: a pure decision, and the only one.

how it ended + what people wanted + what the producer allowed  ->  the next state, with its reason
"""

from __future__ import annotations

import math
import signal
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from gsd_tasks.domain.session import DEFAULT_MAX_RECOVERIES, DEFAULT_MAX_TRIES, OnLost
from gsd_tasks.domain.state import Reason, Status, Wanted

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gsd_tasks.domain.session import Session

#: Faults of the API, after the CLI's own retries. They say nothing about the session: whoever asks later is answered.
PATIENT: Final = frozenset({Reason.RATE_LIMITED, Reason.OVERLOADED, Reason.API_FAILED, Reason.UNREACHABLE})
#: So many tries are made of a session that meets these alone, even where its producer asked for one. They rest for 5 s,
#: 10 s, 20 s and so on up to 10 min: together some three hours, in which an outage ends or somebody hears of it.
PATIENT_TRIES: Final = 30
#: No limit of an account lasts longer. A wrong clock, or a time in another unit, keeps no session waiting for ever.
LONGEST_WAIT_S: Final = 7 * 24 * 3600
#: From here on people are told a time of day, not a number of seconds.
LONG_REST_S: Final = 120
#: What may go better next time. A limit that was reached, or a place or program that is not there, would not.
RETRYABLE: Final = PATIENT | frozenset(
    {
        Reason.EXIT_CODE,
        Reason.SIGNALLED,
        Reason.IDLE_TIMEOUT,
        Reason.CLAUDE_ERROR,
        Reason.NO_RESULT,
        Reason.SPOOL_FAILED,
        Reason.INTERNAL,
    }
)
#: What befell the child from outside: whoever watched it is gone, or was out of reach for too long.
LOST: Final = frozenset({Reason.CHILD_LOST, Reason.LEASE_LOST})


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How an attempt ended: `reason` and one sentence, what the child left, and whether another try may be made of it.

    `succeeded` is the judgement on the child alone; `handed_back` says that the worker stopped, not the session.
    Before `retry_at` another try is no use, by what the API has told. The child lived from `began_at` to `exited_at`,
    by its host's clock, where that is known.
    """

    reason: Reason
    detail: str | None = None
    succeeded: bool = False
    handed_back: bool = False
    exit_code: int | None = None
    exit_signal: int | None = None
    result: Mapping[str, Any] | None = None
    retry_at: datetime | None = None
    began_at: datetime | None = None
    exited_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """How often the session has failed or lost its worker before this attempt, and how often it may."""

    tries: int = 0
    max_tries: int = DEFAULT_MAX_TRIES
    recoveries: int = 0
    max_recoveries: int = DEFAULT_MAX_RECOVERIES

    @classmethod
    def of(cls, session: Session) -> Budget:
        """What this session has."""
        return cls(
            tries=session.tries,
            max_tries=session.max_tries,
            recoveries=session.recoveries,
            max_recoveries=session.max_recoveries,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """How long a failed session rests: doubling from `base_s` up to `cap_s`, and of that a random part from half on.

    What failed together, of one cause, does not come back together.
    """

    base_s: float = 5
    cap_s: float = 600

    def delay_s(self, tries: int, chance: float) -> float:
        """The rest after the `tries`-th failure, 1 or more; `chance` is a random number in [0, 1)."""
        doublings = min(tries - 1, 1000)  # more are not within what a float can hold
        return min(self.base_s * 2.0**doublings, self.cap_s) * (0.5 + chance / 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The next state of the session, what is counted then, and how long it rests if it is queued again."""

    status: Status
    reason: Reason
    detail: str | None
    tries: int
    recoveries: int
    delay_s: float = 0
    ending: Ending


FIRST: Final = Budget()
USUAL: Final = Backoff()


def decide(
    ending: Ending,
    *,
    wanted: Wanted | None,
    on_lost: OnLost,
    is_unanswered: bool = False,
    budget: Budget = FIRST,
    backoff: Backoff = USUAL,
    chance: float = 0,
    now: datetime | None = None,
) -> Verdict:
    """The next state. What ended well counts as that, even when a cancel or a pause came too late to matter.

    `chance`, in [0, 1), spreads the delays. A failure counts a try, and a lost child that is run again a recovery;
    what was cancelled, paused or handed back counts nothing. `now` is needed where the ending has a `retry_at`.
    """
    case = _Case(ending, budget)
    if ending.succeeded and not is_unanswered:
        return case.becomes(Status.COMPLETED)
    if wanted is Wanted.CANCEL:
        return case.becomes(Status.CANCELLED, Reason.CANCELLED, "cancelled while running")
    if wanted is Wanted.PAUSE:
        return case.becomes(Status.PAUSED, Reason.PAUSED, "paused while running")
    if ending.succeeded:
        return case.becomes(Status.QUEUED, Reason.MESSAGE, "it was told something more before it ended")
    if ending.reason is Reason.INTERRUPTED and is_unanswered:
        # Who interrupts a turn to say something else may say it when the child takes nothing in any more.
        return case.becomes(Status.QUEUED, Reason.MESSAGE, "somebody interrupted it, and told it something more")
    if ending.handed_back:
        return case.becomes(Status.QUEUED if on_lost is OnLost.REQUEUE else Status.FAILED)
    if ending.reason is Reason.CANCELLED:
        # It was a pause, and it was taken back too late for the child.
        return case.becomes(Status.QUEUED, Reason.RESUMED, "its child was told to end, and nobody wants that any more")
    if ending.reason in LOST:
        return _lost(case, on_lost)
    return _failed(case, _Rest(backoff, chance, now))


def judge_command(exit_code: int | None, exit_signal: int | None) -> Ending:
    """What a plain command's own end means."""
    if exit_signal is not None:
        detail = f"the child was ended by {signal_name(exit_signal)}"
        return Ending(reason=Reason.SIGNALLED, detail=detail, exit_signal=exit_signal)
    if exit_code == 0:
        return Ending(reason=Reason.FINISHED, succeeded=True, exit_code=0)
    return Ending(reason=Reason.EXIT_CODE, detail=f"the child exited with code {exit_code}", exit_code=exit_code)


def signal_name(number: int) -> str:
    """`SIGKILL` for 9; real-time signals have a number alone."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


@dataclass(frozen=True, slots=True)
class _Case:
    """What a verdict is made from, where it does not differ from it."""

    ending: Ending
    budget: Budget

    def becomes(
        self,
        status: Status,
        reason: Reason | None = None,
        detail: str | None = None,
        *,
        failures: int = 0,
        losses: int = 0,
        delay_s: float = 0,
    ) -> Verdict:
        return Verdict(
            status=status,
            reason=reason or self.ending.reason,
            detail=detail or self.ending.detail,
            tries=self.budget.tries + failures,
            recoveries=self.budget.recoveries + losses,
            delay_s=delay_s,
            ending=self.ending,
        )

    @property
    def most_tries(self) -> int:
        most = self.budget.max_tries
        return max(most, PATIENT_TRIES) if self.ending.reason in PATIENT else most

    def adding(self, words: str) -> str:
        return f"{self.ending.detail or self.ending.reason}; {words}"


@dataclass(frozen=True, slots=True)
class _Rest:
    """How long a session rests before its next try."""

    backoff: Backoff
    chance: float
    now: datetime | None

    def delay_s(self, tries: int, retry_at: datetime | None) -> float:
        rest_s = self.backoff.delay_s(tries, self.chance)
        if retry_at is None:
            return rest_s
        if self.now is None:
            raise ValueError("an ending with a retry_at needs the time")
        # All who wait for the same limit would come back at the same moment.
        wait_s = (retry_at - self.now).total_seconds() + self.backoff.delay_s(1, self.chance)
        return max(rest_s, min(wait_s, LONGEST_WAIT_S))

    def names_moment(self, delay_s: float) -> str | None:
        """The end of a rest that is long enough for people to look at the clock."""
        if self.now is None or delay_s < LONG_REST_S:
            return None
        begins_at = (self.now + timedelta(seconds=delay_s)).astimezone(UTC)
        day = "" if begins_at.date() == self.now.astimezone(UTC).date() else f"{begins_at:%-d %b} "
        return f"{day}{begins_at:%H:%M} UTC"


def _lost(case: _Case, on_lost: OnLost) -> Verdict:
    """At once: there is nothing to wait for, as another worker or another shim runs it."""
    recoveries, most = case.budget.recoveries, case.budget.max_recoveries
    if on_lost is OnLost.FAIL:
        return case.becomes(Status.FAILED)
    if recoveries >= most:
        return case.becomes(Status.FAILED, detail=case.adding(f"its recoveries are used up: {recoveries}"))
    return case.becomes(Status.QUEUED, detail=case.adding(f"recovery {recoveries + 1} of {most}"), losses=1)


def _failed(case: _Case, rest: _Rest) -> Verdict:
    tries, most = case.budget.tries + 1, case.most_tries
    if tries >= most:
        return case.becomes(Status.FAILED, detail=_used_up(case, tries, most), failures=1)
    if case.ending.reason not in RETRYABLE:
        return case.becomes(Status.FAILED, detail=case.adding("such a failure is not tried again"), failures=1)
    delay_s = rest.delay_s(tries, case.ending.retry_at)
    if moment := rest.names_moment(delay_s):
        words = f"it waits until {moment}, then try {tries + 1} of {most} begins"
    else:
        words = f"try {tries + 1} of {most} begins in {math.ceil(delay_s)} s"
    return case.becomes(Status.QUEUED, detail=case.adding(words), failures=1, delay_s=delay_s)


def _used_up(case: _Case, tries: int, most: int) -> str | None:
    if tries > most:
        return case.adding(f"it was try {tries}, and tries beyond {most} are for faults of the API alone")
    return case.adding(f"it was try {tries} of {most}") if most > 1 else None
