"""Several threads that do to a few sessions whatever they like, as fast as they can, and keep a journal of it.

Workers claim, renew, launch, append and settle, by claims that may long be lost; they adopt from each other, dead or
not, and recover by what they saw some time ago. For a conversation they bring in what was said, one by one, and settle
by what they heard some time ago. People cancel, pause, resume, retry, talk and follow up.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple
from uuid import uuid4

import uuid_utils.compat as uuid_utils

from gsd_tasks.domain.policy import Budget, decide
from gsd_tasks.domain.session import Holder, Kind, Session, SessionId
from gsd_tasks.domain.state import FINAL, Status, Wanted
from gsd_tasks.domain.transcript import PROMPT
from gsd_tasks.store import Claim, Connection, Database, leases, messages, sessions, transcript, transitions
from gsd_tasks.store.leases import Progress
from tests.property import operations as op
from tests.property import talk
from tests.property.operations import TAKEN, Operation
from tests.property.steps import ENDINGS, LONG, REQUESTS
from tests.property.world import seen
from tests.waiting import BOUND_S
from tests.workers import register_worker

WORKERS: Final = 4
PEOPLE: Final = 2
#: Sessions among which a thread chooses: the newest.
AT_HAND: Final = 4
MOST_CLAIMS: Final = 6
LOOKS: Final = 5
LETS_GO_ON: Final = {Status.PAUSED: "resume", Status.FAILED: "retry", Status.CANCELLED: "retry"}


class Entry(NamedTuple):
    """What somebody did, from when to when, and what came of it."""

    began: float
    ended: float
    operation: Operation
    outcome: Any


@dataclass
class Race:
    """What all threads share. Lists that only grow need no lock."""

    database: Database
    ends_at: float
    #: Whether enough has happened by then: on a busy machine the race goes on until it has.
    was_worth_it: Callable[[Race], bool]
    sessions: list[SessionId] = field(default_factory=list)
    attempts: dict[SessionId, int] = field(default_factory=dict)
    journal: list[Entry] = field(default_factory=list)
    errors: list[BaseException] = field(default_factory=list)

    def run(self, seed: int) -> None:
        """Until the time is over; what went wrong is in `errors`."""
        actors: list[type[Actor]] = [*[Worker] * WORKERS, *[People] * PEOPLE]
        threads = [
            threading.Thread(target=self._act, args=(actor, random.Random(seed + number)))
            for number, actor in enumerate(actors)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _act(self, actor: type[Actor], chance: random.Random) -> None:
        try:
            with self.database.connection() as connection:
                acting = actor(self, connection, chance)
                while self._goes_on():
                    acting.act()
        except Exception as error:  # noqa: BLE001  (whatever it is, it is what the test looks for)
            self.errors.append(error)

    def _goes_on(self) -> bool:
        late_s = time.monotonic() - self.ends_at
        return not self.errors and (late_s < 0 or (late_s < BOUND_S and not self.was_worth_it(self)))


class Actor:
    """One thread, with a connection of its own."""

    def __init__(self, race: Race, connection: Connection, chance: random.Random) -> None:
        self.race = race
        self.connection = connection
        self.chance = chance

    def act(self) -> None:
        raise NotImplementedError

    def do(self, operation: Operation) -> Any:
        began = time.monotonic()
        outcome = operation.run(self.connection)
        self.race.journal.append(Entry(began, time.monotonic(), operation, outcome))
        return outcome

    def some_session(self) -> SessionId | None:
        return self.chance.choice(self.race.sessions[-AT_HAND:]) if self.race.sessions else None


class Held:
    """A claim as its holder has it: how far it has come, and what it has heard."""

    def __init__(self, claim: Claim, progress: Progress, transcript_bytes: int) -> None:
        self.claim = claim
        self.progress = progress
        self.transcript_bytes = transcript_bytes
        self.wanted: Wanted | None = None
        self.noted: talk.Note | None = None
        #: The newest message, and whether one was not in the conversation: who has not listened knows of no answer.
        self.heard, self.is_unanswered = 0, claim.session.kind is Kind.CLAUDE


class Worker(Actor):
    def __init__(self, race: Race, connection: Connection, chance: random.Random) -> None:
        super().__init__(race, connection, chance)
        self.id = register_worker(connection, "gsd@race")
        self.held: list[Held] = []
        self.looks: list[tuple[Any, ...]] = [()]

    def act(self) -> None:
        doing: list[tuple[Callable[[Any], None], int]] = [(self._claim, 4), (self._adopt, 1), (self._reap, 2)]
        held = None
        if self.held:
            held = self.held[-1] if self.chance.random() < 0.7 else self.chance.choice(self.held)
            doing += [(self._append, 8), (self._renew, 4), (self._launch, 2), (self._settle, 1)]
            if held.claim.session.kind is Kind.CLAUDE:
                doing += [(self._note, 8), (self._listen, 4)]
                # Long enough for somebody to say something, and soon enough for it to end.
                doing += [] if held.is_unanswered else [(self._settle, 8)]
        (do,) = self.chance.choices([do for do, _ in doing], [weight for _, weight in doing])
        do(held)

    def _claim(self, _: Held | None) -> None:
        session_id = self.some_session()
        if session_id is not None:
            taking = op.Take(session_id, Holder(uuid4()), self.id, self.chance.randint(1, 3))
            outcome = self.do(taking)
            if isinstance(outcome, tuple):
                self._keep(taking, outcome[0], Progress(outcome[1]), 0)

    def _adopt(self, _: Held | None) -> None:
        session_id = self.some_session()
        if session_id is not None:
            # A worker of its own, so that the history says which adoption it was.
            worker = register_worker(self.connection, "gsd@adopts")
            attempt = self.race.attempts.get(session_id, 0) - self.chance.choice((0, 0, 0, 1))
            adopting = op.Adopt(session_id, attempt, Holder(uuid4()), worker, self.chance.randint(1, 3))
            outcome = self.do(adopting)
            if isinstance(outcome, tuple):
                self._keep(adopting, outcome[0], *outcome[2:])

    def _keep(self, operation: op.Take | op.Adopt, attempt: int, progress: Progress, transcript_bytes: int) -> None:
        self.race.attempts[operation.session_id] = attempt
        # As the next statement finds it, with its budgets; lost again by then, it is of no use.
        if (claim := transitions.find_claim(self.connection, operation.session_id, operation.holder)) is not None:
            self.held = [*self.held, Held(claim, progress, transcript_bytes)][-MOST_CLAIMS:]

    def _reap(self, _: Held | None) -> None:
        """Any of them may, by what it saw some time ago; one at a time, or nothing ever runs for long."""
        self.looks = [*self.looks, seen(op.Look().run(self.connection))][-LOOKS:]
        if look := self.chance.choice(self.looks):
            self.do(op.Recover((self.chance.choice(look),)))
        if self.chance.random() < 0.1:
            self.do(op.Expire())

    def _append(self, held: Held) -> None:
        lines = tuple(uuid4().hex for _ in range(self.chance.randint(1, 3)))
        appending = op.Append(held.claim, held.progress, lines)
        if self.do(appending):
            held.progress = appending.after
        else:
            held.progress = leases.progress(self.connection, held.claim) or held.progress

    def _note(self, held: Held) -> None:
        """Some of what waits comes into the conversation. What was committed may be sent again."""
        if held.noted is not None and self.chance.random() < 0.1:
            assert not held.noted.run(self.connection), f"{held.noted} was committed twice"
        waiting = messages.waiting(self.connection, held.claim.session.id)[: self.chance.choice((0, 1, 9, 9))]
        kind = self.chance.choice((talk.QUEUED, PROMPT))
        lines = [talk.Line(uuid4().hex, kind, str(message.uuid), message.number) for message in waiting]
        noting = talk.Note(held.claim, held.transcript_bytes, (*lines, talk.Line(uuid4().hex)))
        if self.do(noting):
            held.transcript_bytes, held.noted = noting.after, noting
        else:
            held.transcript_bytes = transcript.position(self.connection, held.claim) or held.transcript_bytes

    def _listen(self, held: Held) -> None:
        held.heard, waiting = talk.Listen(held.claim.session.id).run(self.connection)
        held.is_unanswered = bool(waiting)

    def _renew(self, held: Held) -> None:
        if (renewed := self.do(op.Renew(held.claim))) is not None:
            held.wanted = renewed.wanted

    def _launch(self, held: Held) -> None:
        self.do(op.MarkLaunching(held.claim))

    def _settle(self, held: Held) -> None:
        session = held.claim.session
        is_answered = session.kind is Kind.CLAUDE and not held.is_unanswered
        ending = ENDINGS[0] if is_answered else self.chance.choice(ENDINGS)
        verdict = decide(
            ending,
            wanted=held.wanted,
            is_unanswered=held.is_unanswered,
            on_lost=session.on_lost,
            budget=Budget.of(session),
            backoff=LONG,
        )
        self.do(op.Settle(held.claim, verdict, held.heard))


class People(Actor):
    def act(self) -> None:
        session_id = self.some_session()
        session = sessions.get(self.connection, session_id) if session_id else None
        if session is not None and session.kind is Kind.CLAUDE and self.chance.random() < 0.5:
            self._talk(session)
        elif session is None or session.status is Status.COMPLETED or self.chance.random() < 0.02:
            self._enqueue()
        elif session.status in LETS_GO_ON and self.chance.random() < 0.9:
            self.do(op.Idle(session.id, LETS_GO_ON[session.status]))
        elif self.chance.random() < 0.2:
            self.do(op.Idle(session.id, self.chance.choice([what for what in op.IDLE if what != "delete"])))
        else:
            self.do(op.ComeDue())

    def _talk(self, session: Session) -> None:
        """By how it stood just now."""
        if session.status in FINAL and self.chance.random() < 0.8:
            self.do(talk.FollowUp(session.id, uuid4().hex))
        elif self.chance.random() < 0.1:
            self.do(talk.Say(session.id, uuid4().hex if self.chance.random() < 0.8 else None))

    def _enqueue(self) -> None:
        session_id = SessionId(uuid_utils.uuid7())
        request = self.chance.choice([request for request in REQUESTS if request.key is None])
        self.do(op.Enqueue(session_id, request, None, is_later=False))
        self.race.sessions.append(session_id)


def is_done(entry: Entry) -> bool:
    """Whether it wrote something."""
    return bool(entry.outcome) and entry.outcome != TAKEN


def about(entries: list[Entry], kind: type[Any]) -> list[tuple[Any, Entry]]:
    """Those of a kind that wrote something, with their operations."""
    return [(entry.operation, entry) for entry in entries if isinstance(entry.operation, kind) and is_done(entry)]
