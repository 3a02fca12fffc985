"""Threads against each other: what each was told must be what the database has, and nobody writes who has lost it."""

from __future__ import annotations

import itertools
import math
import random
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Final, NamedTuple
from uuid import UUID

import pytest

from gsd_tasks.domain.state import Reason
from gsd_tasks.store import Database
from tests.property import evidence, talk
from tests.property import operations as op
from tests.property.evidence import Evidence
from tests.property.operations import function_of
from tests.property.race import Entry, Race, about, is_done
from tests.property.steps import SCALE

SECONDS: Final = 3.0
_BY_STEP: Final = {
    (None, "queued"): "enqueue",
    ("queued", "running"): "claim",
    ("queued", "failed"): "expire",
    ("queued", "paused"): "pause_idle",
    ("queued", "cancelled"): "cancel_idle",
    ("paused", "cancelled"): "cancel_idle",
    ("paused", "queued"): "resume",
    ("failed", "queued"): "retry",
    ("cancelled", "queued"): "retry",
    ("running", "running"): "adopt",
}


class Tenure(NamedTuple):
    """Somebody's time with an attempt."""

    holder: UUID
    #: None where the answer came when it was over.
    first_seq: int | None
    first_byte: int | None
    #: By when it had begun.
    had_begun: float


class Ended(NamedTuple):
    """An attempt taken out of running."""

    holder: UUID
    had_happened: float


#: What has to have happened, or nothing is shown.
WORTH = (op.Take, op.Append, op.Renew, op.MarkLaunching, op.Settle, op.Adopt, op.Recover, talk.Note, talk.Say)
#: A session and an attempt.
Place = tuple[UUID, int]


@pytest.mark.timeout(300 + 3 * SECONDS * SCALE)
def test_threads_that_race_for_sessions_leave_what_they_were_told(database_url: str) -> None:
    seed = random.randrange(10**6)  # which thread comes first is the machine's choice
    database = Database(database_url, connections=10)
    race = Race(database, time.monotonic() + SECONDS * SCALE, was_worth_it)
    race.run(seed)
    if race.errors:
        raise race.errors[0]
    with database.connection() as connection:
        there_is = evidence.read(connection)
    database.close()

    assert evidence.violations(there_is) == []
    assert violations(there_is, race.journal) == []
    for kind in WORTH:
        assert about(race.journal, kind), kind


def was_worth_it(race: Race) -> bool:
    journal = list(race.journal)
    return all(about(journal, kind) for kind in WORTH)


def violations(there_is: Evidence, journal: list[Entry]) -> list[str]:
    """Where the journal and the database do not say the same."""
    tenures = _tenures(there_is, journal)
    ends = _ends(journal, tenures)
    return [
        *_transitions(there_is, journal),
        *_rows(there_is, journal, tenures),
        *_entries(there_is, journal, tenures),
        *_messages(there_is, journal),
        *_attempts(there_is, ends),
        *_late(journal, tenures, ends),
        *_stale(journal, tenures, ends),
    ]


def _transitions(there_is: Evidence, journal: list[Entry]) -> Iterator[str]:
    """As many of each as there were answers that said so."""
    told = Counter(function_of(operation) for operation, _ in about(journal, object))
    told["expire"] = sum(len(entry.outcome) for _, entry in about(journal, op.Expire))
    told["settle"] += sum(len(_ids(entry)) for _, entry in about(journal, op.Recover))
    written = Counter(_function_of(entry) for history in there_is.history.values() for entry in history)
    idle = ("cancel_idle", "pause_idle", "resume", "retry", "follow_up", "expire")
    for function in ("enqueue", "claim", "settle", *idle):
        if told[function] != written[function]:
            yield f"{told[function]} answers say {function}, and the history has {written[function]}"


def _function_of(entry: evidence.Record) -> str:
    if entry["reason"] == Reason.FOLLOW_UP:
        return "follow_up"
    return _BY_STEP.get((entry["from_status"], entry["to_status"]), "settle")


def _rows(there_is: Evidence, journal: list[Entry], tenures: dict[Place, list[Tenure]]) -> Iterator[str]:
    """Those of the answered appends and no others, each within the time of its holder."""
    owners = {
        line: (operation.claim.holder, operation.before.last_seq + number, entry.outcome)
        for operation, entry in ((e.operation, e) for e in journal if isinstance(e.operation, op.Append))
        for number, line in enumerate(operation.lines, 1)
    }
    written = 0
    for session_id, rows in there_is.rows.items():
        for row in rows:
            holder, seq, outcome = owners[row["data"]]
            written += 1
            if not outcome or seq != row["seq"]:
                yield f"{session_id}: row {row['seq']} was not said to be written there"
            mine, after = _tenure_of(tenures[UUID(session_id), row["attempt"]], holder)
            if mine is None:
                yield f"{session_id}: row {row['seq']} is by a holder of another attempt"
            elif seq < (mine.first_seq or 1) or (after and after.first_seq and seq >= after.first_seq):
                yield f"{session_id}: row {row['seq']} is not of the time of its holder"
    if written != sum(outcome for _, _, outcome in owners.values()):
        yield "not every row is there that was said to be written"


def _entries(there_is: Evidence, journal: list[Entry], tenures: dict[Place, list[Tenure]]) -> Iterator[str]:
    """The same of the transcript."""
    owners = {
        line.text: (operation.claim.holder, operation.before + number * talk.LINE_BYTES, entry.outcome)
        for operation, entry in ((e.operation, e) for e in journal if isinstance(e.operation, talk.Note))
        for number, line in enumerate(operation.lines)
    }
    written = 0
    for session_id, entries in there_is.entries.items():
        for line in entries:
            holder, position, outcome = owners[line["entry"]]
            written += 1
            if not outcome or position != line["position"]:
                yield f"{session_id}: entry {line['seq']} was not said to be written there"
            mine, after = _tenure_of(tenures[UUID(session_id), line["attempt"]], holder)
            if mine is None:
                yield f"{session_id}: entry {line['seq']} is by a holder of another attempt"
            elif position < (mine.first_byte or 0) or (after and position >= (after.first_byte or math.inf)):
                yield f"{session_id}: entry {line['seq']} is not of the time of its holder"
    if written != sum(outcome for _, _, outcome in owners.values()):
        yield "not every entry is there that was said to be written"


def _messages(there_is: Evidence, journal: list[Entry]) -> Iterator[str]:
    """Those that were accepted and no others, under the numbers that were told."""
    said = {
        (str(operation.session_id), entry.outcome): operation.words for operation, entry in about(journal, talk.Say)
    }
    if len(said) != len(about(journal, talk.Say)):
        yield "two messages were given the same number"
    brought = {operation.words for operation, _ in about(journal, talk.FollowUp)}
    for session_id, messages in there_is.messages.items():
        for message in messages:
            words = message["body"]
            if words in brought:
                brought.discard(words)
            elif said.pop((session_id, message["number"]), "nobody said it") != words:
                yield f"{session_id}: message {message['number']} is not what was said"
    if said or brought:
        yield f"not every message is there that was accepted: {said}, {brought}"


def _attempts(there_is: Evidence, ends: dict[Place, list[Ended]]) -> Iterator[str]:
    """Each has ended once, by its last holder's hand or out of that."""
    for session_id, attempts in there_is.attempts.items():
        for attempt in attempts:
            found = ends.get((UUID(session_id), attempt["attempt"]), [])
            if len(found) != (attempt["ended_at"] is not None):
                yield f"{session_id}: attempt {attempt['attempt']} was ended {len(found)} times"
            if any(str(end.holder) != attempt["holder"] for end in found):
                yield f"{session_id}: attempt {attempt['attempt']} was ended by or from a former holder"


def _late(journal: list[Entry], tenures: dict[Place, list[Tenure]], ends: dict[Place, list[Ended]]) -> Iterator[str]:
    """Done by somebody who had lost the session when he began."""
    for kind in (op.Renew, op.MarkLaunching, op.Append, op.Settle, talk.Note):
        for operation, entry in about(journal, kind):
            place = operation.session_id, operation.claim.attempt
            _, after = _tenure_of(tenures[place], operation.claim.holder)
            over = [after.had_begun] if after else [end.had_happened for end in ends.get(place, [])]
            if any(entry.began > moment for moment in over):
                yield f"{operation} succeeded after it was over"


def _stale(journal: list[Entry], tenures: dict[Place, list[Tenure]], ends: dict[Place, list[Ended]]) -> Iterator[str]:
    """Recovered by a look that was out of date: each renewal and each adoption counts up."""
    renewals = Counter((operation.session_id, operation.claim.attempt) for operation, _ in about(journal, op.Renew))
    by_holder = {tenure.holder: place for place, found in tenures.items() for tenure in found}
    for operation, entry in about(journal, op.Recover):
        for held in operation.seen:
            if held.session_id in _ids(entry):
                place = by_holder[held.holder]
                if held.renewals != renewals[place] + len(tenures[place]) - 1:
                    yield f"{place} was recovered by a look that was out of date"


def _tenures(there_is: Evidence, journal: list[Entry]) -> dict[Place, list[Tenure]]:
    """Who had each attempt, one after the other, as the history has it."""
    claims = {
        (operation.session_id, entry.outcome[0]): Tenure(operation.holder, entry.outcome[1] + 1, 0, entry.ended)
        for operation, entry in about(journal, op.Take)
    }
    adoptions = {
        str(entry.operation.worker): Tenure(
            entry.operation.holder,
            entry.outcome[2].last_seq + 1 if is_done(entry) else None,
            entry.outcome[3] if is_done(entry) else None,
            entry.ended,
        )
        for entry in journal
        if isinstance(entry.operation, op.Adopt)
    }
    found: dict[Place, list[Tenure]] = defaultdict(list)
    for session_id, history in there_is.history.items():
        for entry in history:
            place = UUID(session_id), entry["attempt"]
            if entry["reason"] == Reason.CLAIMED:
                found[place].append(claims[place])
            elif entry["reason"] == Reason.ADOPTED:
                found[place].append(adoptions[entry["worker_id"]])
    return found


def _tenure_of(tenures: list[Tenure], holder: UUID) -> tuple[Tenure | None, Tenure | None]:
    """His, and the one after it."""
    for mine, after in itertools.pairwise([*tenures, None]):
        if mine and mine.holder == holder:
            return mine, after
    return None, None


def _ends(journal: list[Entry], tenures: dict[Place, list[Tenure]]) -> dict[Place, list[Ended]]:
    by_holder = {tenure.holder: place for place, found in tenures.items() for tenure in found}
    found: dict[Place, list[Ended]] = defaultdict(list)
    for operation, entry in about(journal, op.Settle):
        found[operation.session_id, operation.claim.attempt].append(Ended(operation.claim.holder, entry.ended))
    for operation, entry in about(journal, op.Recover):
        for held in operation.seen:
            if held.session_id in _ids(entry):
                found[by_holder[held.holder]].append(Ended(held.holder, entry.ended))
    return found


def _ids(entry: Entry) -> set[UUID]:
    """All that a recovery took."""
    return set().union(*entry.outcome.values())
