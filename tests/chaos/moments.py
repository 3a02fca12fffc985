"""When children were at work: never two of one session, never past a deadline, never after the attempt's end."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterator
from typing import Final

from tests.chaos.evidence import Evidence, Grant
from tests.chaos.invariants import Figure, Violation
from tests.chaos.records import Life

#: A process notes the time, is stopped, and the note is older than the stop; the freeze itself takes some
#: milliseconds; the database's clock is compared with the children's.
MARGIN_NS: Final = 250_000_000
S: Final = 1e9


def check_moments(evidence: Evidence, lease_s: float) -> Iterator[Violation]:
    works = _works(evidence.lives)
    yield from _check_overlaps(works)
    yield from _check_ends(evidence, works)
    yield from _check_deadlines(evidence.grants, works, int(lease_s * S))


Works = dict[tuple[str, int, str], list[int]]  # (session, attempt, life) -> moments, in order


def _works(lives: list[Life]) -> Works:
    """A child and its helper are at work as one."""
    works: Works = defaultdict(list)
    for life in lives:
        works[life.session, life.attempt, life.name].extend(life.moments)
    return {key: sorted(moments) for key, moments in works.items() if moments}


def _check_overlaps(works: Works) -> Iterator[Violation]:
    by_session: dict[str, list[tuple[list[int], int, str]]] = defaultdict(list)
    for (session, attempt, name), moments in works.items():
        by_session[session].append((moments, attempt, name))
    for session, found in by_session.items():
        found.sort()
        for place, (moments, attempt, _) in enumerate(found):
            for earlier, number, _ in found[:place]:
                after = len(earlier) - bisect_left(earlier, moments[0])
                if after:
                    late_s = (earlier[-1] - moments[0]) / S
                    text = f"attempt {number} is at work up to {late_s:.3f} s after attempt {attempt} has begun"
                    yield Violation(Figure.OVERLAPPING, session, text, after)
                if number >= attempt:
                    yield Violation(Figure.OVERLAPPING, session, f"attempt {attempt} has begun after {number} had")


def _check_ends(evidence: Evidence, works: Works) -> Iterator[Violation]:
    ends = {(one.session, one.attempt): one for one in evidence.attempts}
    for (session, attempt, _), moments in works.items():
        end = ends.get((session, attempt))
        if end is None:
            yield Violation(Figure.OVERTIME, session, f"attempt {attempt} is not known, and was at work", len(moments))
        elif end.ended_boot_ns is not None:
            late = len(moments) - bisect_right(moments, end.ended_boot_ns + MARGIN_NS)
            if late:
                late_s = (moments[-1] - end.ended_boot_ns) / S
                text = f"attempt {attempt} is at work up to {late_s:.3f} s after its end ({end.reason})"
                yield Violation(Figure.OVERTIME, session, text, late)


def _check_deadlines(grants: list[Grant], works: Works, lease_ns: int) -> Iterator[Violation]:
    by_attempt: dict[tuple[str, int], list[Grant]] = defaultdict(list)
    for grant in sorted(grants, key=lambda grant: grant.until_ns):
        by_attempt[grant.session, grant.attempt].append(grant)
    for (session, attempt, _), moments in works.items():
        for expired_ns, known_ns in _gaps(by_attempt[session, attempt], lease_ns):
            late = moments[bisect_right(moments, expired_ns + MARGIN_NS) : bisect_left(moments, known_ns)]
            if late:
                text = f"attempt {attempt} is at work up to {(late[-1] - expired_ns) / S:.3f} s past its deadline"
                yield Violation(Figure.OVERTIME, session, text, len(late))


def _gaps(grants: list[Grant], lease_ns: int) -> Iterator[tuple[int, int]]:
    """From the end of a lease up to the moment until which it is known that nobody had renewed it."""
    for place, grant in enumerate(grants):
        known_ns = grant.seen_ns
        if place + 1 < len(grants):
            following = grants[place + 1]
            if (following.holder, following.renewals) == (grant.holder, grant.renewals + 1):
                known_ns = max(known_ns, following.until_ns - lease_ns)
        if known_ns > grant.until_ns:
            yield grant.until_ns, known_ns
