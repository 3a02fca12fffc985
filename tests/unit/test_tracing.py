"""The trace that a record tells."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from gsd_tasks.domain.session import HistoryEntry, Kind, SessionId
from gsd_tasks.domain.state import Reason, Status
from gsd_tasks.domain.tracing import Span, SpanKind, Story, Traceparent, Tried, context_of_attempt, spans_of

ID = SessionId(UUID("01a1ff88-daf2-7329-a097-b3f1027fdd26"))
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

Q, R, F = Status.QUEUED, Status.RUNNING, Status.FAILED


def at(seconds: float) -> datetime:
    return BEGIN + timedelta(seconds=seconds)


def move(number: int, before: Status | None, after: Status, attempt: int, reason: Reason) -> HistoryEntry:
    return HistoryEntry(
        id=number,
        session_id=ID,
        from_status=before,
        to_status=after,
        attempt=attempt,
        worker="gsd@h" if attempt else None,
        reason=reason,
        detail="what nobody should read",
        at=at(number),
    )


def tried(attempt: int, claimed: float, ended: float, reason: Reason, **more: datetime | None) -> Tried:
    times = {"launching_at": at(claimed + 0.1), "began_at": at(claimed + 0.2), "exited_at": at(ended - 0.1)} | more
    return Tried(
        attempt=attempt,
        worker="gsd@h",
        slot=1,
        claimed_at=at(claimed),
        ended_at=at(ended),
        reason=reason,
        exit_code=None,
        **times,
    )


def story(traceparent: str | None = None, *, retried: bool = False) -> Story:
    """Enqueued, claimed, lost, claimed again, adopted, failed; and perhaps retried and completed."""
    moves = [
        move(0, None, Q, 0, Reason.ENQUEUED),
        move(2, Q, R, 1, Reason.CLAIMED),
        move(40, R, Q, 1, Reason.LEASE_LOST),
        move(50, Q, R, 2, Reason.CLAIMED),
        move(55, R, R, 2, Reason.ADOPTED),
        move(60, R, F, 2, Reason.EXIT_CODE),
    ]
    attempts = [
        tried(1, 2, 40, Reason.LEASE_LOST, began_at=None, exited_at=None),
        tried(2, 50, 60, Reason.EXIT_CODE),
    ]
    if retried:
        moves += [
            move(70, F, Q, 2, Reason.RETRIED),
            move(71, Q, R, 3, Reason.CLAIMED),
            move(80, R, Status.COMPLETED, 3, Reason.FINISHED),
        ]
        # By a host whose clock is an hour ahead.
        attempts.append(tried(3, 71, 80, Reason.FINISHED, began_at=at(3671), exited_at=at(3680)))
    return Story(
        id=ID,
        kind=Kind.COMMAND,
        queue="q",
        priority=5,
        traceparent=traceparent,
        run_at=at(45),
        model=None,
        moves=moves,
        attempts=attempts,
        turns=(),
    )


def names(spans: list[Span]) -> list[str]:
    return [span.name for span in spans]


def test_a_trace_is_one_tree_whose_spans_lie_within_each_other() -> None:
    spans = spans_of(story(CALLER))

    assert names(spans) == [
        "session command",
        "enqueue q",
        *("wait q", "process q", "start", "run"),
        *("wait q", "process q", "start", "run", "settle"),
    ]
    by_id = {span.span_id: span for span in spans}
    assert len(by_id) == len(spans)
    root = spans[0]
    assert {span.trace_id for span in spans} == {0x0AF7651916CD43DD8448EB211C80319C}
    assert root.parent_id == 0xB7AD6B7169203331
    for span in spans[1:]:
        parent = by_id[span.parent_id or 0]
        assert parent.begin <= span.begin <= span.end <= parent.end
    producer = spans[1]
    assert producer.kind is SpanKind.PRODUCER
    for consumer in (span for span in spans if span.kind is SpanKind.CONSUMER):
        assert (consumer.parent_id, consumer.links) == (root.span_id, (producer.span_id,))


def test_what_happened_to_the_session_are_events_and_failures_are_failures() -> None:
    root, _, _, lost, _, _, wait, failed, *_ = spans_of(story())

    assert [event.name for event in root.events] == [
        *("enqueued", "claimed", "lease_lost", "claimed", "adopted", "exit_code")
    ]
    assert (root.failure, lost.failure, failed.failure) == ("exit_code", "lease_lost", "exit_code")
    assert (wait.begin, wait.end, [event.name for event in wait.events]) == (at(40), at(50), ["due"])
    assert [event.name for event in failed.events] == ["adopted"]


def test_without_a_caller_the_session_is_its_own_trace() -> None:
    root = spans_of(story())[0]
    assert (root.trace_id, root.parent_id) == (ID.int, None)


def test_a_retry_goes_on_below_what_was_asked_for_and_tells_nothing_twice() -> None:
    first, second = spans_of(story()), spans_of(story(retried=True))

    assert names(second) == ["session command", "wait q", "process q", "start", "run", "settle"]
    assert second[0].parent_id == first[0].span_id
    assert not {span.span_id for span in first} & {span.span_id for span in second}
    run = second[4]
    assert at(71) <= run.begin <= run.end <= at(80)
    assert second[0].failure is second[2].failure is None


def test_what_its_child_traces_belongs_to_its_run() -> None:
    runs = [span for span in spans_of(story(CALLER)) if span.name == "run"]

    told = context_of_attempt(ID, CALLER, 2)
    assert (told.trace_id, told.span_id, told.is_sampled) == (runs[1].trace_id, runs[1].span_id, True)
    assert Traceparent.parse(str(told)) == told


def test_what_its_caller_does_not_sample_is_not_written() -> None:
    unsampled = CALLER.removesuffix("01") + "00"

    assert spans_of(story(unsampled)) == []
    assert not context_of_attempt(ID, unsampled, 1).is_sampled


def test_nothing_of_what_was_said_is_in_a_trace() -> None:
    assert "what nobody should read" not in repr(spans_of(story(CALLER, retried=True)))


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "nonsense",
        CALLER.upper(),
        CALLER + "-more",
        "ff" + CALLER[2:],
        CALLER.replace("0af7651916cd43dd8448eb211c80319c", "0" * 32),
        CALLER.replace("b7ad6b7169203331", "0" * 16),
        "x" * 10_000,
    ],
)
def test_what_is_no_traceparent_is_passed_over(text: str | None) -> None:
    assert Traceparent.parse(text) is None


def test_a_later_version_may_say_more() -> None:
    assert Traceparent.parse("01" + CALLER[2:] + "-more") == Traceparent.parse(CALLER)
