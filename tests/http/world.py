"""A cluster with sessions in every state, as real statements make them: so that not every answer is a 404."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from gsd_tasks.client.database import DatabaseClient
from gsd_tasks.domain.claude_results import Tokens
from gsd_tasks.domain.costs import Turn, Use
from gsd_tasks.domain.policy import Ending, decide
from gsd_tasks.domain.session import OnLost, Session
from gsd_tasks.domain.state import Reason, Status
from gsd_tasks.store import transitions, turns
from tests.conversations import converse
from tests.http.attempts import Attempt

#: What a Claude session leaves.
RESULT: Final = {"result": "Done.", "num_turns": 1, "total_cost_usd": 0.01, "is_error": False}
TURN: Final = Turn(
    seq=1,
    model="a-model",
    subtype="success",
    is_error=False,
    num_turns=1,
    duration_s=1.5,
    tokens=Tokens(1, 2, 3, 4),
    cost_usd=0.01,
    models={"a-model": Use(1, 2, 3, 4, 0.01)},
)
FAILED: Final = decide(Ending(reason=Reason.EXIT_CODE, exit_code=3), wanted=None, on_lost=OnLost.FAIL)
ANSWERED: Final = decide(
    Ending(reason=Reason.FINISHED, succeeded=True, exit_code=0, result=RESULT), wanted=None, on_lost=OnLost.REQUEUE
)
SNAPSHOT: Final = "before the migration"


@dataclass(frozen=True, slots=True)
class World:
    """The sessions that there are, those whose stream has something to tell, and those with a snapshot.

    `answered` has a result, and is none of these: whatever goes on with it would take that away.
    """

    sessions: tuple[str, ...]
    told: tuple[str, ...]
    restorable: tuple[str, ...]
    answered: str


def build(client: DatabaseClient) -> World:
    """Make them: commands and conversations that wait, run, are paused and have ended, with what they left."""
    ended = [_completed(client), _failed(client), _conversed(client)]
    running = [_running(client), _talking(client)]
    waiting = [
        client.enqueue(command=["true"], working_dir="/", name="queued", thread="world"),
        client.enqueue(command=["true"], working_dir="/", after=[running[0].id], parent=ended[0].id),
        client.enqueue(prompt="Fix it", working_dir="/", env={"ANTHROPIC_API_KEY": "x"}),
        client.pause(client.enqueue(command=["true"], working_dir="/").id),
        client.cancel(client.enqueue(command=["true"], working_dir="/", key="cancelled").id),
        _paused(client),
    ]
    found = {client.get(session.id).status for session in (*ended, *running, *waiting)}
    assert found == set(Status) - {Status.WAITING_CHECKPOINT}
    return World(
        tuple(str(session.id) for session in (*ended, *running, *waiting)),
        tuple(str(session.id) for session in (*ended, *running)),
        (str(ended[-1].id), str(waiting[-1].id)),
        str(_conversed(client).id),
    )


@contextmanager
def astir(client: DatabaseClient) -> Iterator[None]:
    """Meanwhile something happens all the time, so that whoever listens hears of it."""
    session = client.enqueue(command=["true"], working_dir="/", name="astir")
    is_over = threading.Event()

    def stir() -> None:
        while not is_over.wait(0.05):
            client.pause(session.id)
            client.resume(session.id)

    thread = threading.Thread(target=stir)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


def _completed(client: DatabaseClient) -> Session:
    session = client.enqueue(command=["make"], working_dir="/", name="completed", thread="world", context={"a": 1})
    attempt = Attempt(client.database, session.id)
    attempt.write(b"one", "naïve ✓".encode(), b"\0\xff no text", b"")
    attempt.complete()
    return session


def _failed(client: DatabaseClient) -> Session:
    session = client.enqueue(command=["false"], working_dir="/", max_tries=1)
    attempt = Attempt(client.database, session.id)
    attempt.write(b"no")
    with client.database.connection() as connection:
        assert transitions.settle(connection, attempt.claim, FAILED)
    return session


def _running(client: DatabaseClient) -> Session:
    session = client.enqueue(command=["sleep", "1000"], working_dir="/")
    Attempt(client.database, session.id).write(*(f"line {number}".encode() for number in range(20)))
    return session


def _talking(client: DatabaseClient) -> Session:
    session = client.enqueue(prompt="Go on", working_dir="/", env={"ANTHROPIC_API_KEY": "x"})
    Attempt(client.database, session.id).write(b'{"type":"system"}')
    return session


def _conversed(client: DatabaseClient) -> Session:
    session = client.enqueue(prompt="Fix it", working_dir="/", env={"ANTHROPIC_API_KEY": "x"}, thread="world")
    attempt = Attempt(client.database, session.id)
    attempt.write(b'{"type":"result"}')
    with client.database.connection() as connection:
        converse(connection, session.id, 5)
        assert turns.record(connection, attempt.claim, TURN)
        assert transitions.settle(connection, attempt.claim, ANSWERED)
    client.snapshot(session.id, name=SNAPSHOT)
    return session


def _paused(client: DatabaseClient) -> Session:
    session = client.enqueue(prompt="Fix it", working_dir="/", env={"ANTHROPIC_API_KEY": "x"})
    with client.database.connection() as connection:
        converse(connection, session.id, 3)
    client.pause(session.id)
    client.snapshot(session.id, name=SNAPSHOT)
    return session
