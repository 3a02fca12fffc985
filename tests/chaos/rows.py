"""The rows, against what their children say that they have written."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import groupby

from gsd_tasks.domain.state import FINAL, Status
from tests.chaos.child import line
from tests.chaos.evidence import AttemptFacts, Evidence, Row
from tests.chaos.invariants import COMPLETE, Figure, Violation
from tests.chaos.records import Life

Place = tuple[str, int, str]  # session, attempt, stream


def check_rows(evidence: Evidence) -> Iterator[Violation]:
    """`seq` is 1 to n; per attempt and stream the rows are a prefix of the child's bytes, all of them if settled."""
    pipes: dict[Place, Pipe] = {}
    # While a session runs, the count stands in its lease.
    counted = {session.id: session.last_seq for session in evidence.sessions if Status(session.status) in FINAL}
    for session, rows in groupby(evidence.rows, key=lambda row: row.session):
        yield from _check_order(session, rows, pipes, counted.pop(session, None))
    for session, expected in counted.items():
        if expected:
            yield Violation(Figure.LOST, session, f"all of its {expected} rows", expected)
    yield from _check_pipes(evidence, pipes)


@dataclass(slots=True)
class Pipe:
    """One stream of one attempt, put together again from its rows, in their order."""

    place: Place
    size_bytes: int = 0
    doubled: int = 0
    disordered: int = 0
    changed: int = 0
    missing: set[int] = field(default_factory=set)
    _next: int = 1
    _rest: bytes = b""

    def feed(self, body: bytes) -> None:
        self.size_bytes += len(body)
        *lines, self._rest = (self._rest + body).split(b"\n") if b"\n" in body else (self._rest + body,)
        for text in lines:
            self._take(text + b"\n")

    def end(self) -> None:
        """What is left is the beginning of the next line."""
        if not line(*self.place, self._next).startswith(self._rest):
            self.changed += 1

    def _take(self, text: bytes) -> None:
        number = self._next if text == line(*self.place, self._next) else self._number_of(text)
        if number is None:
            self.changed += 1
            self._next += 1
        elif number >= self._next:
            self.missing.update(range(self._next, number))
            self._next = number + 1
        elif number in self.missing:
            self.missing.discard(number)
            self.disordered += 1
        else:
            self.doubled += 1

    def _number_of(self, text: bytes) -> int | None:
        """Which line of this pipe it is; None if it is none."""
        words = text.split(b" ", 2)
        number = int(words[1]) if len(words) == 3 and words[1].isdigit() else 0
        return number if 0 < number < 10**6 and text == line(*self.place, number) else None


def _check_order(
    session: str, rows: Iterable[Row], pipes: dict[Place, Pipe], expected: int | None
) -> Iterator[Violation]:
    seq, attempt = 0, 0
    for row in rows:
        if row.seq != seq + 1:
            yield Violation(Figure.LOST, session, f"seq {row.seq} follows {seq}", max(1, row.seq - seq - 1))
        if row.attempt < attempt:
            yield Violation(Figure.DISORDERED, session, f"seq {row.seq} is of attempt {row.attempt}, after {attempt}")
        seq, attempt = row.seq, row.attempt
        place = (session, row.attempt, row.stream)
        pipes.setdefault(place, Pipe(place)).feed(row.body)
    if expected is not None and seq != expected:
        yield Violation(Figure.LOST, session, f"has {seq} rows and counts {expected}", abs(seq - expected))


def _check_pipes(evidence: Evidence, pipes: dict[Place, Pipe]) -> Iterator[Violation]:
    children: dict[tuple[str, int], list[Life]] = defaultdict(list)
    for life in evidence.lives:
        if not life.is_helper:
            children[life.session, life.attempt].append(life)
    for attempt in evidence.attempts:
        lives = children[attempt.session, attempt.attempt]
        for stream in ("stdout", "stderr"):
            place = (attempt.session, attempt.attempt, stream)
            yield from _check_pipe(pipes.pop(place, Pipe(place)), attempt, lives)
    for place, pipe in pipes.items():
        yield Violation(Figure.CHANGED, place[0], f"{pipe.size_bytes} bytes of attempt {place[1]}, which there is not")


def _check_pipe(pipe: Pipe, attempt: AttemptFacts, lives: list[Life]) -> Iterator[Violation]:
    pipe.end()
    session, number, stream = pipe.place
    what = f"attempt {number} ({attempt.reason}), {stream}"
    if pipe.changed:
        yield Violation(Figure.CHANGED, session, f"{what}: are not what the child wrote", pipe.changed)
    if pipe.doubled:
        yield Violation(Figure.DOUBLED, session, what, pipe.doubled)
    if pipe.disordered:
        yield Violation(Figure.DISORDERED, session, what, pipe.disordered)
    if pipe.missing:
        yield Violation(Figure.LOST, session, f"{what}: lines {sorted(pipe.missing)[:20]}", len(pipe.missing))
    if len(lives) > 1:
        return  # an attempt that ran twice is told elsewhere; whose bytes these are cannot be said
    began, wrote = (lives[0].began_bytes, lives[0].wrote_bytes) if lives else ({}, {})
    if pipe.size_bytes > began.get(stream, 0):
        text = f"{what}: {pipe.size_bytes} bytes, and the child wrote {began.get(stream, 0)} at most"
        yield Violation(Figure.CHANGED, session, text)
    short = wrote.get(stream, 0) - pipe.size_bytes
    if attempt.reason in COMPLETE and short > 0:
        yield Violation(Figure.LOST, session, f"{what}: its last {short} bytes of {wrote.get(stream)} are not there")
