"""What a run has to tell, as text."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from gsd_tasks.domain.state import Reason, Status
from tests.chaos.evidence import Evidence, SessionFacts, Transition
from tests.chaos.invariants import Figure, Violation
from tests.chaos.timing import Recovery, quantile

MOST_SHOWN: Final = 40
#: Ends of which one wants to know more.
TOLD: Final = frozenset({Reason.START_FAILED, Reason.SPOOL_FAILED, Reason.WORKING_DIR, Reason.INTERNAL})


@dataclass(slots=True)
class Outcome:
    """A whole run."""

    seed: int
    took_s: float
    faults: Counter[str]
    missed: Counter[str]
    violations: list[Violation]
    evidence: Evidence
    recoveries: list[Recovery]
    reaped_s: list[float]
    taken_s: list[float]
    rows: int
    notes: list[str]
    asked: Mapping[str, int] = field(default_factory=dict)

    @property
    def is_clean(self) -> bool:
        return not self.violations


def render(outcome: Outcome) -> Iterator[str]:
    """Line by line."""
    yield f"seed {outcome.seed}: {outcome.faults.total()} faults in {outcome.took_s:.0f} s"
    yield from _counted("faults", outcome.faults)
    yield from _counted("found nothing to strike", outcome.missed)
    yield from _counted("asked by users", outcome.asked)
    found = outcome.evidence
    yield f"sessions: {len(found.sessions)}, attempts: {len(found.attempts)}, rows: {outcome.rows}"
    yield from _counted("sessions ended", Counter(f"{s.status} ({s.reason})" for s in outcome.evidence.sessions))
    yield from _counted("why", Counter(_why(s) for s in found.sessions if s.reason in TOLD))
    yield from _counted("recoveries", recovery_kinds(outcome.evidence.history))
    yield from _times(outcome.recoveries, outcome.reaped_s, outcome.taken_s)
    yield from (f"note: {note}" for note in outcome.notes)
    yield ""
    yield from _figures(outcome.violations)
    yield from _details(outcome)


def _why(session: SessionFacts) -> str:
    """With what is one session's own left out."""
    return f"{session.reason}: " + re.sub(r"\S*[/\d]\S*", "...", session.detail or "")


def recovery_kinds(history: Iterable[Transition]) -> Counter[str]:
    """What brought sessions back, or gave them up, by the histories."""
    kinds: Counter[str] = Counter()
    for step in history:
        if step.from_status != Status.RUNNING:
            kinds["retried"] += step.reason == Reason.RETRIED
        elif step.reason == Reason.ADOPTED:
            kinds["adopted"] += 1
        elif step.to_status == Status.QUEUED:
            kinds[f"queued again ({step.reason})"] += 1
        elif step.reason == Reason.LEASE_LOST:
            kinds[f"given up: {step.to_status}"] += 1
    return +kinds


def _counted(what: str, counts: Mapping[str, int]) -> Iterator[str]:
    if counts:
        ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        yield f"{what}: " + ", ".join(f"{name} {count}" for name, count in ordered)


def _times(recoveries: list[Recovery], reaped_s: list[float], taken_s: list[float]) -> Iterator[str]:
    by_way: dict[tuple[str, str], list[float]] = defaultdict(list)
    for recovery in recoveries:
        by_way[recovery.kind, recovery.way].append(recovery.seconds)
    if by_way:
        yield f"{'from the fault to streaming':<34}{'n':>6}{'p50 s':>9}{'p99 s':>9}{'max s':>9}"
    for (kind, way), seconds in sorted(by_way.items()):
        yield _time(f"{kind}, {way}", seconds)
    since_start = [recovery.since_start_s for recovery in recoveries if recovery.since_start_s is not None]
    if since_start:
        yield _time("adopted, since the worker began", since_start)
    if reaped_s:
        yield _time("reaped, since the last renewal", reaped_s)
    if taken_s:
        yield _time("taking again, since it was mended", taken_s)


def _time(what: str, seconds: list[float]) -> str:
    p50, p99 = quantile(seconds, 0.5), quantile(seconds, 0.99)
    return f"{what:<34}{len(seconds):>6}{p50:>9.2f}{p99:>9.2f}{max(seconds):>9.2f}"


def _figures(violations: list[Violation]) -> Iterator[str]:
    for figure in Figure:
        count = sum(violation.times for violation in violations if violation.figure is figure)
        yield f"{figure:<46}{count:>8}{'   <-- must be 0' * bool(count)}"


def _details(outcome: Outcome) -> Iterator[str]:
    """Each violation, and once for each session its history."""
    if not outcome.violations:
        return
    yield ""
    for violation in outcome.violations[:MOST_SHOWN]:
        yield f"{violation.figure} ({violation.times}): {violation.session} {violation.text}"
    if len(outcome.violations) > MOST_SHOWN:
        yield f"... and {len(outcome.violations) - MOST_SHOWN} more"
    shown = dict.fromkeys(violation.session for violation in outcome.violations[:MOST_SHOWN] if violation.session)
    for session in shown:
        yield ""
        yield f"history of {session}:"
        for step in outcome.evidence.history:
            if step.session == session:
                what = f"{step.from_status} -> {step.to_status}  {step.reason}  {step.detail or ''}"
                yield f"  {step.at_boot_ns / 1e9:.3f}  {step.attempt}  {what}"
