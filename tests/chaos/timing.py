"""How long after its worker was lost a session streams again, and by which way it came back. Pure."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from gsd_tasks.domain.state import Reason, Status
from tests.chaos.clock import S
from tests.chaos.evidence import AttemptFacts, Grant, Taken, Transition
from tests.chaos.watch import Step

#: A statement that a killed worker had sent may still be carried out.
LAST_STATEMENT_NS: Final = 20_000_000


class Silence(NamedTuple):
    """A session's worker was lost at this moment. `starts_ns`: when workers of its host began, before and after."""

    session: str
    at_ns: int
    kind: str
    starts_ns: Sequence[int] = ()


class Mended(NamedTuple):
    """The worker with this pid had been cut off, and is no more."""

    pid: int
    at_ns: int


class Recovery(NamedTuple):
    """`way`: "adopted", "requeued", "handed back", or "ended" if it had nothing more to say.

    `since_start_s`: of one that was adopted, since the last worker of its host began before that.
    """

    kind: str
    way: str
    seconds: float
    since_start_s: float | None = None


def recoveries(
    silences: Iterable[Silence],
    history: Iterable[Transition],
    steps: dict[str, list[Step]],
    looks_ns: Sequence[int],
) -> list[Recovery]:
    """One for each session that was silenced and came back."""
    by_session: dict[str, list[Transition]] = defaultdict(list)
    for transition in history:
        by_session[transition.session].append(transition)
    found = (_recovery(one, by_session[one.session], steps.get(one.session, []), looks_ns) for one in silences)
    return [one for one in found if one is not None]


def _recovery(
    silence: Silence, history: list[Transition], steps: list[Step], looks_ns: Sequence[int]
) -> Recovery | None:
    after = [step for step in history if step.at_boot_ns > silence.at_ns]
    streams_ns = _streams_again(silence, steps, looks_ns)
    end = next((step for step in after if Status(step.to_status).is_final), None)
    if streams_ns is None or (end is not None and end.at_boot_ns < streams_ns):
        return None if end is None else Recovery(silence.kind, "ended", (end.at_boot_ns - silence.at_ns) / S)
    # Of several, the last: it may have been lost again before it came to say anything.
    ways = [(way, step.at_boot_ns) for step in after if step.at_boot_ns < streams_ns and (way := _way(step))]
    way, back_ns = ways[-1] if ways else ("went on", streams_ns)
    starts_ns = [at_ns for at_ns in silence.starts_ns if silence.at_ns < at_ns < back_ns] if way == "adopted" else []
    since_start_s = (streams_ns - max(starts_ns)) / S if starts_ns else None
    return Recovery(silence.kind, way, (streams_ns - silence.at_ns) / S, since_start_s)


def _way(step: Transition) -> str | None:
    if step.reason == Reason.ADOPTED:
        return "adopted"
    if step.to_status == Status.QUEUED:
        return {Reason.LEASE_LOST: "requeued", Reason.WORKER_STOPPED: "handed back"}.get(Reason(step.reason), "other")
    return None


def _streams_again(silence: Silence, steps: list[Step], looks_ns: Sequence[int]) -> int | None:
    """The look at which there first was a row more than at the first look after the loss."""
    first = bisect_left(looks_ns, silence.at_ns + LAST_STATEMENT_NS)
    if first == len(looks_ns):
        return None
    before = [step.last_seq for step in steps if step.at_ns <= looks_ns[first]]
    rows = before[-1] if before else 0
    return next((step.at_ns for step in steps if step.at_ns > looks_ns[first] and step.last_seq > rows), None)


def taken_after_s(mended: Iterable[Mended], claims: Iterable[Taken]) -> list[float]:
    """From the moment at which a worker was connected again until it took a session, if it lived to do so."""
    taken_ns: dict[int, list[int]] = defaultdict(list)
    for claim in claims:
        taken_ns[claim.pid].append(claim.at_ns)
    firsts = ((one.at_ns, min((at for at in taken_ns[one.pid] if at > one.at_ns), default=None)) for one in mended)
    return [(first - at_ns) / S for at_ns, first in firsts if first is not None]


def reaped_after_s(attempts: Iterable[AttemptFacts], grants: Iterable[Grant], lease_s: float) -> list[float]:
    """From the last renewal that was seen of each attempt that lost its worker, until it was taken from it."""
    renewed_ns: dict[tuple[str, int], int] = defaultdict(int)
    for grant in grants:
        key = (grant.session, grant.attempt)
        renewed_ns[key] = max(renewed_ns[key], grant.until_ns - int(lease_s * S))
    return [
        (one.ended_boot_ns - renewed_ns[one.session, one.attempt]) / S
        for one in attempts
        if one.reason == Reason.LEASE_LOST and one.ended_boot_ns and (one.session, one.attempt) in renewed_ns
    ]


def quantile(values: Sequence[float], share: float) -> float:
    """The value below which this share of them lies."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
