"""What is said to a session has a number, is said to one that listens, and is answered before it is completed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Final
from uuid import uuid4

import pytest
from sqlalchemy import Connection, text

from gsd_tasks.domain.policy import Ending, decide
from gsd_tasks.domain.session import MessageKind, OnLost, SessionId, Submission
from gsd_tasks.domain.state import FINAL, Reason, Status
from gsd_tasks.domain.transcript import Entry
from gsd_tasks.store import Claim, Database, history, leases, messages, sessions, transcript, transitions
from tests.conversations import put, spoil
from tests.waiting import BOUND_S, until

CLAUDE: Final = Submission(prompt="Fix it", working_dir="/")
COMMAND: Final = Submission(command=("true",), working_dir="/")
WELL: Final = Ending(reason=Reason.FINISHED, succeeded=True, exit_code=0)
DONE: Final = decide(WELL, wanted=None, on_lost=OnLost.FAIL)
INTERRUPTED: Final = Ending(reason=Reason.INTERRUPTED, exit_code=0)


@pytest.fixture
def connection(database: Database) -> Iterator[Connection]:
    with database.connection() as connection:
        yield connection


@pytest.fixture
def held(enqueue: Callable[..., SessionId], claim: Callable[..., Claim]) -> Claim:
    """A Claude session that runs."""
    return claim(enqueue(CLAUDE))


@pytest.fixture
def standing(connection: Connection, enqueue: Callable[..., SessionId]) -> Callable[..., SessionId]:
    """A session that stands so."""

    def standing(status: Status, request: Submission = CLAUDE) -> SessionId:
        session_id = enqueue(request)
        put(connection, session_id, status)
        return session_id

    return standing


def status_of(connection: Connection, session_id: SessionId) -> Status:
    session = sessions.get(connection, session_id)
    assert session is not None
    return session.status


def bring_in(connection: Connection, held: Claim, *said: messages.Message, kind: str = "attachment") -> None:
    """Into the conversation."""
    before = transcript.position(connection, held)
    assert before is not None
    batch = transcript.Entries()
    for number, message in enumerate(said):
        batch.add(before + number, Entry(kind, str(message.uuid)), "{}")
    assert transcript.append(connection, held, batch, before=before, after=before + len(said))


@pytest.mark.parametrize("status", Status)
def test_a_text_is_taken_by_what_will_go_on_and_an_interrupt_by_what_runs(
    connection: Connection, standing: Callable[..., SessionId], status: Status
) -> None:
    session_id = standing(status)
    takes_text = status in {Status.QUEUED, Status.RUNNING, Status.PAUSED}
    takes_interrupt = status is Status.RUNNING
    assert messages.send(connection, session_id, "more") == (1 if takes_text else None)
    assert messages.send(connection, session_id, None) == (2 if takes_interrupt else None)
    assert messages.newest(connection, session_id) == takes_text + takes_interrupt
    assert len(messages.after(connection, session_id, 0)) == takes_text + takes_interrupt


@pytest.mark.parametrize("status", Status)
def test_a_follow_up_goes_on_with_what_has_ended_or_is_paused(
    connection: Connection, standing: Callable[..., SessionId], status: Status
) -> None:
    session_id = standing(status)
    spoil(connection, "UPDATE sessions SET tries = 2, recoveries = 1, exit_code = 1, run_at = now() + interval '1 h'")
    goes_on = status in FINAL or status is Status.PAUSED
    before = sessions.get(connection, session_id)
    assert transitions.follow_up(connection, session_id, "more") is goes_on
    after = sessions.get(connection, session_id)
    said = [message.text for message in messages.after(connection, session_id, 0)]
    if not goes_on:
        assert (after, said) == (before, [])
        return
    assert after is not None
    assert (after.status, after.reason, after.messages, said) == (Status.QUEUED, Reason.FOLLOW_UP, 1, ["more"])
    assert (after.tries, after.recoveries, after.exit_code, after.run_at, after.ended_at) == (0, 0, None, None, None)
    last = history.of_session(connection, session_id)[-1]
    assert (last.from_status, last.to_status, last.reason) == (status, Status.QUEUED, Reason.FOLLOW_UP)


def test_a_command_is_told_nothing(connection: Connection, standing: Callable[..., SessionId]) -> None:
    for status in Status:
        session_id = standing(status, COMMAND)
        assert messages.send(connection, session_id, "more") is None
        assert messages.send(connection, session_id, None) is None
        assert not transitions.follow_up(connection, session_id, "more")
        assert status_of(connection, session_id) is status
    assert connection.execute(text("SELECT count(*) FROM messages")).scalar_one() == 0


def test_what_was_said_waits_in_order_until_it_is_in_the_conversation(connection: Connection, held: Claim) -> None:
    session_id = held.session.id
    assert [messages.send(connection, session_id, words) for words in ("one", None, "two")] == [1, 2, 3]
    first, *more = messages.waiting(connection, session_id)
    assert first == messages.prompt(session_id, "Fix it")
    assert [(message.number, message.text) for message in more] == [(1, "one"), (3, "two")]
    said = messages.after(connection, session_id, 1)
    assert [(message.number, message.kind) for message in said] == [(2, MessageKind.INTERRUPT), (3, MessageKind.TEXT)]
    bring_in(connection, held, first, kind="user")
    bring_in(connection, held, more[1])
    # While a turn runs, what is a command of the CLI waits for its end, and is overtaken.
    assert messages.waiting(connection, session_id) == [more[0]]
    # What is set back takes nothing out of it: the CLI would pass over what it is told again.
    spoil(connection, "UPDATE sessions SET conversation = '{[3,)}'")
    assert messages.waiting(connection, session_id) == [more[0]]
    assert messages.waiting(connection, SessionId(uuid4())) == []
    assert messages.newest(connection, SessionId(uuid4())) == 0


def test_a_prompt_stands_for_all_that_was_said_before_it(connection: Connection, held: Claim) -> None:
    session_id = held.session.id
    for words in ("one", "two", "three"):
        messages.send(connection, session_id, words)
    bring_in(connection, held, messages.waiting(connection, session_id)[2], kind="user")
    assert [message.number for message in messages.waiting(connection, session_id)] == [3]


def test_a_prompt_that_the_cli_has_made_of_several_messages_brings_in_all_of_them(
    connection: Connection, held: Claim
) -> None:
    """It has the uuid of the last of them alone."""
    session_id = held.session.id
    for words in ("one", "two", "three"):
        messages.send(connection, session_id, words)
    first, one, two, three = messages.waiting(connection, session_id)
    bring_in(connection, held, first, two, kind="user")
    assert messages.waiting(connection, session_id) == [three]
    assert one.number < two.number


def test_a_holder_hears_with_its_lease_what_the_newest_message_is(connection: Connection, held: Claim) -> None:
    assert held.session.messages == 0
    messages.send(connection, held.session.id, "one")
    messages.send(connection, held.session.id, "two")
    renewed = leases.renew(connection, held, lease_s=30)
    assert renewed is not None
    assert renewed.messages == 2


@pytest.mark.parametrize("ending", [WELL, INTERRUPTED])
def test_a_session_is_not_over_past_a_message_and_goes_on_with_it(
    connection: Connection, held: Claim, claim: Callable[..., Claim], ending: Ending
) -> None:
    session_id = held.session.id
    over, unanswered = (
        decide(ending, wanted=None, on_lost=OnLost.FAIL, is_unanswered=is_unanswered) for is_unanswered in (False, True)
    )
    assert messages.send(connection, session_id, "more") == 1
    assert not transitions.settle(connection, held, over, heard=0)
    assert status_of(connection, session_id) is Status.RUNNING
    assert transitions.settle(connection, held, unanswered, heard=1)
    queued = sessions.get(connection, session_id)
    assert queued is not None
    assert (queued.status, queued.reason, queued.tries) == (Status.QUEUED, Reason.MESSAGE, 0)
    again = claim(session_id)
    assert again.session.messages == 1
    assert transitions.settle(connection, again, over, heard=1)
    assert messages.send(connection, session_id, "too late") is None


def test_what_was_interrupted_does_not_fail_past_a_message(connection: Connection, held: Claim) -> None:
    session_id = held.session.id
    interrupted = Ending(reason=Reason.INTERRUPTED, exit_code=1)
    assert messages.send(connection, session_id, None) == 1
    assert messages.send(connection, session_id, "do this instead") == 2
    failed = decide(interrupted, wanted=None, on_lost=OnLost.FAIL)
    assert not transitions.settle(connection, held, failed, heard=1)
    assert status_of(connection, session_id) is Status.RUNNING
    answers = decide(interrupted, wanted=None, on_lost=OnLost.FAIL, is_unanswered=True)
    assert transitions.settle(connection, held, answers, heard=2)
    queued = sessions.get(connection, session_id)
    assert queued is not None
    assert (queued.status, queued.reason, queued.tries) == (Status.QUEUED, Reason.MESSAGE, 0)


def test_two_who_talk_at_once_are_given_two_numbers(database: Database, connection: Connection, held: Claim) -> None:
    session_id = held.session.id

    def say(words: str) -> int | None:
        with database.connection() as other:
            return messages.send(other, session_id, words)

    with ThreadPoolExecutor(2) as pool:
        with database.transaction("READ COMMITTED") as locking:
            locking.execute(text("SELECT 1 FROM sessions FOR UPDATE"))
            numbers = [pool.submit(say, words) for words in ("one", "two")]
            until(lambda: _waiting(connection) == 2, what="both to wait")
        assert {number.result(timeout=BOUND_S) for number in numbers} == {1, 2}
    assert {message.text for message in messages.after(connection, session_id, 0)} == {"one", "two"}


@pytest.mark.parametrize("is_first", [True, False], ids=["the message", "the end"])
def test_of_a_message_and_the_end_one_comes_first(
    database: Database, connection: Connection, held: Claim, *, is_first: bool
) -> None:
    """The second has begun, and has seen nothing of the first: what it waits for decides."""
    session_id = held.session.id

    def say(by: Connection) -> object:
        return messages.send(by, session_id, "more")

    def end(by: Connection) -> object:
        return transitions.settle(by, held, DONE, heard=0)

    def late(what: Callable[[Connection], object]) -> object:
        with database.connection() as other:
            return what(other)

    first, second = (say, end) if is_first else (end, say)
    with ThreadPoolExecutor(1) as pool:
        with database.transaction("READ COMMITTED") as slow:
            assert first(slow)
            waits = pool.submit(late, second)
            until(lambda: _waiting(connection), what="the second to wait")
        assert not waits.result(timeout=BOUND_S)
    assert status_of(connection, session_id) is (Status.RUNNING if is_first else Status.COMPLETED)
    assert messages.newest(connection, session_id) == is_first


def _waiting(connection: Connection) -> int:
    waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    number: int = connection.execute(text(waits)).scalar_one()
    return number
