"""The trace of a session, as its record tells it: spans with ids that anybody who knows the session can reckon.

    session                      from its enqueueing, or its retry, to its end; each transition is an event of it
      enqueue QUEUE              the producer
      wait QUEUE                 until it was claimed: one before each attempt
      process QUEUE              an attempt, linked to its producer
        start                    from the claim to when its child began
        run                      the child; what it starts belongs below this (`TRACEPARENT`)
        settle                   from the child's end to when the outcome was written

Nothing here is measured while it happens: it is made of the times that Postgres has, when the session ends. So it is
the same whoever writes it, and no crash loses a span of it or leaves one open.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Final, NamedTuple, TypeAlias

from gsd_tasks.domain.costs import RecordedTurn
from gsd_tasks.domain.session import HistoryEntry, Kind, SessionId
from gsd_tasks.domain.state import Reason, Status

Value: TypeAlias = str | int | float | bool | Sequence[str]

_W3C: Final = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_SAMPLED: Final = 1


class Traceparent(NamedTuple):
    """Where a trace stands, as W3C's Trace Context writes it."""

    trace_id: int
    span_id: int
    is_sampled: bool

    @classmethod
    def parse(cls, text: str | None) -> Traceparent | None:
        """None: it is none, and to be passed over."""
        found = _W3C.fullmatch(text.strip()) if text is not None and len(text) <= 512 else None
        if found is None or found[1] == "ff" or (found[1] == "00" and found[5]):
            return None
        given = cls(int(found[2], 16), int(found[3], 16), bool(int(found[4], 16) & _SAMPLED))
        return given if given.trace_id and given.span_id else None

    def __str__(self) -> str:
        return f"00-{self.trace_id:032x}-{self.span_id:016x}-{int(self.is_sampled):02x}"


class SpanKind(StrEnum):
    """What OpenTelemetry calls it."""

    INTERNAL = "internal"
    PRODUCER = "producer"
    CONSUMER = "consumer"


class Event(NamedTuple):
    """A moment within a span."""

    name: str
    at: datetime
    attributes: Mapping[str, Value]


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """One of a trace. `failure`: why it is one."""

    name: str
    kind: SpanKind = SpanKind.INTERNAL
    trace_id: int
    span_id: int
    parent_id: int | None
    begin: datetime
    end: datetime
    attributes: Mapping[str, Value] = field(default_factory=dict)
    events: tuple[Event, ...] = ()
    links: tuple[int, ...] = ()
    failure: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """An attempt: when it was claimed, when its child began and ended as its host had it, and when it was over."""

    attempt: int
    worker: str | None
    slot: int
    claimed_at: datetime
    launching_at: datetime | None
    began_at: datetime | None
    exited_at: datetime | None
    ended_at: datetime | None
    reason: Reason | None
    exit_code: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """What the record has of a session. Nothing of what people or the child said."""

    id: SessionId
    kind: Kind
    queue: str
    priority: int
    traceparent: str | None
    run_at: datetime | None
    model: str | None
    moves: Sequence[HistoryEntry]
    attempts: Sequence[Tried]
    turns: Sequence[RecordedTurn]


def context_of_attempt(session_id: SessionId, traceparent: str | None, attempt: int) -> Traceparent:
    """What the child of this attempt is told: whatever it traces itself belongs to its run."""
    caller = Traceparent.parse(traceparent)
    is_sampled = caller is None or caller.is_sampled
    return Traceparent(_trace_id(session_id, caller), _span_id(session_id, f"run {attempt}"), is_sampled)


def spans_of(story: Story) -> list[Span]:
    """The trace from the last time that it was to run anew, to its end. Empty: it has not ended, or nobody wants it."""
    caller = Traceparent.parse(story.traceparent)
    moves = _last_run(story.moves)
    if not moves or (caller is not None and not caller.is_sampled):
        return []
    return list(_Writer(story, moves, caller).spans())


def _last_run(moves: Sequence[HistoryEntry]) -> Sequence[HistoryEntry]:
    ends = [at for at, move in enumerate(moves) if move.to_status.is_final]
    if not ends:
        return ()
    return moves[ends[-2] + 1 if len(ends) > 1 else 0 : ends[-1] + 1]


class _Writer:
    def __init__(self, story: Story, moves: Sequence[HistoryEntry], caller: Traceparent | None) -> None:
        self._story = story
        self._moves = moves
        self._caller = caller
        self._trace_id = _trace_id(story.id, caller)
        numbers = {move.attempt for move in moves if move.to_status is Status.RUNNING}
        self._tried = [tried for tried in story.attempts if tried.attempt in numbers]
        self._is_first = moves[0].from_status is None
        # The first run is what the caller has asked for; a further one stands below it.
        self._root = self._id("session" if self._is_first else f"session {moves[0].id}")

    def spans(self) -> Iterator[Span]:
        yield self._session()
        if self._is_first:
            yield self._enqueue()
        for tried in self._tried:
            yield self._wait(tried)
            yield from self._attempt(tried)

    def _session(self) -> Span:
        first, last = self._moves[0], self._moves[-1]
        caller_id = self._caller.span_id if self._caller else None
        attributes = self._common | {
            "gsd.session.status": last.to_status.value,
            "gsd.session.reason": last.reason.value,
            "gsd.session.attempts": last.attempt,
        }
        return self._span(
            f"session {self._story.kind}",
            self._root,
            first.at,
            # A statement's clock goes on while it ends both.
            max([last.at, *(tried.ended_at or last.at for tried in self._tried)]),
            parent_id=caller_id if self._is_first else self._id("session"),
            attributes=attributes,
            events=tuple(_moved(move) for move in self._moves),
            failure=last.reason.value if last.to_status is Status.FAILED else None,
        )

    def _enqueue(self) -> Span:
        at = self._moves[0].at
        return self._span(
            f"enqueue {self._story.queue}",
            self._id("enqueue"),
            at,
            at,
            kind=SpanKind.PRODUCER,
            attributes=self._common | self._messaging("send", "enqueue"),
        )

    def _wait(self, tried: Tried) -> Span:
        queued = [move.at for move in self._moves if move.to_status is Status.QUEUED and move.at <= tried.claimed_at]
        begin = queued[-1] if queued else tried.claimed_at
        due = self._story.run_at
        events = (Event("due", due, {}),) if due is not None and begin < due < tried.claimed_at else ()
        name = f"wait {tried.attempt}"
        return self._span(
            f"wait {self._story.queue}",
            self._id(name),
            begin,
            tried.claimed_at,
            attributes=self._common | {"gsd.attempt": tried.attempt},
            events=events,
        )

    def _attempt(self, tried: Tried) -> Iterator[Span]:
        own = self._id(f"attempt {tried.attempt}")
        over = max(tried.claimed_at, tried.ended_at or self._moves[-1].at)
        of_attempt = self._common | {"gsd.attempt": tried.attempt, "gsd.slot": tried.slot}
        if tried.worker is not None:
            of_attempt |= {"gsd.worker": tried.worker}
        ended = {} if tried.reason is None else {"gsd.attempt.reason": tried.reason.value}
        exited = {} if tried.exit_code is None else {"process.exit.code": tried.exit_code}
        failed = tried.reason is not None and tried.reason not in _NO_FAILURE
        adoptions = [
            Event("adopted", move.at, {} if move.worker is None else {"gsd.worker": move.worker})
            for move in self._moves
            if move.attempt == tried.attempt and move.reason is Reason.ADOPTED
        ]
        yield self._span(
            f"process {self._story.queue}",
            own,
            tried.claimed_at,
            over,
            kind=SpanKind.CONSUMER,
            attributes=of_attempt | ended | exited | self._messaging("process", "run_session"),
            events=tuple(adoptions),
            links=(self._id("enqueue"),),
            failure=tried.reason.value if tried.reason is not None and failed else None,
        )
        if tried.launching_at is None:
            return
        # A host's clock may differ from the database's: nothing leaves the attempt for that.
        launching = _within(tried.launching_at, tried.claimed_at, over)
        began = _within(tried.began_at or launching, launching, over)
        exited_at = _within(tried.exited_at or over, began, over)
        launch = (Event("launching", launching, {}),)
        yield self._span(
            "start", self._id(f"start {tried.attempt}"), tried.claimed_at, began, own, of_attempt, events=launch
        )
        turns = [turn for turn in self._story.turns if turn.attempt == tried.attempt]
        yield self._span(
            "run",
            self._id(f"run {tried.attempt}"),
            began,
            exited_at,
            own,
            of_attempt | exited | self._gen_ai(turns),
            events=tuple(_turned(turn) for turn in turns),
        )
        if tried.exited_at is not None:
            yield self._span("settle", self._id(f"settle {tried.attempt}"), exited_at, over, own, of_attempt)

    @property
    def _common(self) -> dict[str, Value]:
        return {"gsd.session.id": str(self._story.id), "gsd.session.kind": self._story.kind.value}

    def _messaging(self, kind: str, name: str) -> dict[str, Value]:
        return {
            "messaging.system": "celery",
            "messaging.destination.name": self._story.queue,
            "messaging.operation.type": kind,
            "messaging.operation.name": name,
            "messaging.message.id": str(self._story.id),
            "gsd.priority": self._story.priority,
        }

    def _gen_ai(self, turns: Sequence[RecordedTurn]) -> dict[str, Value]:
        if self._story.kind is not Kind.CLAUDE:
            return {}
        said: dict[str, Value] = {
            "gen_ai.operation.name": "invoke_agent",
            "gen_ai.provider.name": "anthropic",
            "gen_ai.conversation.id": str(self._story.id),
        }
        if self._story.model is not None:
            said["gen_ai.request.model"] = self._story.model
        if turns:
            uses = [turn.tokens for turn in turns]
            said |= {
                # All that was read, as the conventions have it: what came from the cache, too.
                "gen_ai.usage.input_tokens": sum(use.input + use.cache_read + use.cache_write for use in uses),
                "gen_ai.usage.output_tokens": sum(use.output for use in uses),
                "gen_ai.usage.cache_read.input_tokens": sum(use.cache_read for use in uses),
                "gen_ai.usage.cache_creation.input_tokens": sum(use.cache_write for use in uses),
                "gsd.cost_usd": sum(turn.cost_usd for turn in turns),
            }
        models = [turn.model for turn in turns if turn.model]
        return said | ({"gen_ai.response.model": models[-1]} if models else {})

    def _span(
        self,
        name: str,
        span_id: int,
        begin: datetime,
        end: datetime,
        parent_id: int | None = None,
        attributes: Mapping[str, Value] | None = None,
        *,
        kind: SpanKind = SpanKind.INTERNAL,
        events: tuple[Event, ...] = (),
        links: tuple[int, ...] = (),
        failure: str | None = None,
    ) -> Span:
        return Span(
            name=name,
            kind=kind,
            trace_id=self._trace_id,
            span_id=span_id,
            parent_id=self._root if parent_id is None and span_id != self._root else parent_id,
            begin=begin,
            end=max(begin, end),
            attributes=attributes or {},
            events=events,
            links=links,
            failure=failure,
        )

    def _id(self, name: str) -> int:
        return _span_id(self._story.id, name)


#: How an attempt ends that has done what it was to do, or was told to end.
_NO_FAILURE: Final = frozenset({Reason.FINISHED, Reason.CANCELLED, Reason.PAUSED, Reason.WORKER_STOPPED})


def _trace_id(session_id: SessionId, caller: Traceparent | None) -> int:
    """That of whoever asked for it; else the session's own id, by which people find it."""
    return caller.trace_id if caller else session_id.int


def _span_id(session_id: SessionId, name: str) -> int:
    digest = hashlib.sha256(session_id.bytes + name.encode()).digest()
    return int.from_bytes(digest[:8]) or 1


def _within(at: datetime, first: datetime, last: datetime) -> datetime:
    return min(max(at, first), last)


def _moved(move: HistoryEntry) -> Event:
    attributes: dict[str, Value] = {"gsd.to": move.to_status.value, "gsd.attempt": move.attempt}
    if move.from_status is not None:
        attributes["gsd.from"] = move.from_status.value
    if move.worker is not None:
        attributes["gsd.worker"] = move.worker
    return Event(move.reason.value, move.at, attributes)


def _turned(turn: RecordedTurn) -> Event:
    used = {"gen_ai.usage.output_tokens": turn.tokens.output, "gsd.cost_usd": turn.cost_usd}
    return Event("turn", turn.at, used | {"gsd.row": turn.seq})
