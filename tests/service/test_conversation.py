"""A conversation outlives its process: real CLI, the model played, every attempt from what Postgres has."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gsd_tasks.domain.errors import InvalidValue, NotAllowed
from gsd_tasks.domain.policy import Verdict
from gsd_tasks.domain.session import ClaudeOptions, Session, SessionId
from gsd_tasks.domain.state import Reason, Status
from gsd_tasks.process.contain import kill_shim
from gsd_tasks.service import control, dialogue, talk
from gsd_tasks.service import settle as settling
from gsd_tasks.service.claiming import claim
from gsd_tasks.service.conversation import begin
from gsd_tasks.service.node import Node
from gsd_tasks.testing import Hang, Reply, Text, ToolCall, Turn
from tests.service.conversing import Talks, offline
from tests.service.messages import unsaid
from tests.waiting import BOUND_S, until

BASH = ClaudeOptions(allowed_tools=("Bash",))
SLOW = ToolCall("Bash", {"command": "echo once >> {cwd}/effects; sleep 60"})


def _bash(command: str) -> ToolCall:
    return ToolCall("Bash", {"command": command})


def _answer(session: Session) -> str:
    assert session.result is not None, session
    return str(session.result["text"])


def test_the_transcript_is_the_clis_own_record(talks: Talks, monkeypatch: pytest.MonkeyPatch) -> None:
    with offline(monkeypatch, [_bash("echo hello"), Text("Done.")]), talks.worker() as node:
        session_id = talks.enqueue("Say hello", claude=BASH)
        ended = talks.run(node, session_id)

    assert (ended.status, ended.reason) == (Status.COMPLETED, Reason.FINISHED), ended
    lines = talks.transcript(session_id)
    assert [line.seq for line in lines] == list(range(1, len(lines) + 1))
    entries = [json.loads(line.text) for line in lines]
    assert [entry["type"] for entry in entries] == [line.kind for line in lines]
    spoken = [entry["message"]["content"] for entry in entries if entry["type"] in {"user", "assistant"}]
    assert spoken[0] == "Say hello"
    assert [block["type"] for content in spoken[1:] for block in content] == ["tool_use", "tool_result", "text"]


def test_a_follow_up_goes_on_with_the_same_conversation_on_another_host(
    talks: Talks, monkeypatch: pytest.MonkeyPatch
) -> None:
    with offline(monkeypatch, [Text("Blue."), Text("As I said: blue.")]) as model:
        with talks.worker() as node:
            session_id = talks.enqueue("My favourite colour?")
            first = talks.run(node, session_id)
        again = talks.resume(session_id, "Say it again")
        assert (again.status, again.reason) == (Status.QUEUED, Reason.FOLLOW_UP)
        with talks.worker("gsd@elsewhere", state_dir=talks.folder.parent / "elsewhere") as node:
            second = talks.run(node, session_id)

    assert (first.attempt, _answer(first)) == (1, "Blue.")
    assert (second.status, second.attempt, _answer(second)) == (Status.COMPLETED, 2, "As I said: blue.")
    assert second.seq > first.seq
    # What was finished is not called interrupted.
    assert [request.last_prompt for request in model.requests] == ["My favourite colour?", "Say it again"]
    assert model.requests[1].prompt == "My favourite colour?"


def test_a_session_whose_process_was_killed_goes_on_and_is_told_so(
    talks: Talks, monkeypatch: pytest.MonkeyPatch
) -> None:
    effects = talks.folder / "effects"
    with offline(monkeypatch, [_bash("echo first"), SLOW, Text("All done.")]) as model, talks.worker() as node:
        session_id = talks.enqueue("Work", claude=BASH)
        with talks.running(node, session_id):
            talks.until_transcript_has(session_id, "once >>")
            until(effects.exists, timeout_s=BOUND_S, what="the tool's effect")
            _kill_shim(node)
        lost = talks.now(session_id)
        assert (lost.status, lost.reason) == (Status.QUEUED, Reason.CHILD_LOST), lost
        ended = talks.run(node, session_id)

    assert (ended.status, ended.attempt, ended.recoveries, _answer(ended)) == (Status.COMPLETED, 2, 1, "All done.")
    # Each answer was asked for once, and the tool whose result nobody had seen was not simply run again.
    assert len(model.requests) == 3
    assert effects.read_text() == "once\n"
    assert "its process was killed" in model.requests[2].last_prompt
    assert "check what it has done" in model.requests[2].last_prompt
    assert [result.text.strip() for result in model.requests[1].tool_results] == ["first"]


def test_one_that_left_nothing_begins_anew(talks: Talks, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before its first answer there is no more than the prompt; the prompt is not said twice."""
    turns: Iterator[Turn] = iter([Hang(60), Text("Done.")])
    with offline(monkeypatch, lambda _: next(turns)) as model, talks.worker() as node:
        session_id = talks.enqueue("Think")
        with talks.running(node, session_id):
            model.wait_for(1)
            _kill_shim(node)
        with talks.database.connection() as connection:
            connection.exec_driver_sql("DELETE FROM transcript")
        ended = talks.run(node, session_id)

    assert (ended.status, ended.attempt) == (Status.COMPLETED, 2), ended
    assert model.requests[1].last_prompt == "Think"


def test_what_is_sent_while_a_turn_runs_is_heard_once(talks: Talks, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = talks.folder / "gate"
    script: list[Turn] = [_bash("while [ ! -e gate ]; do sleep 0.05; done"), Text("Heard.")]
    with offline(monkeypatch, script) as model, talks.worker() as node:
        session_id = talks.enqueue("Wait", claude=BASH)
        with talks.running(node, session_id):
            talks.until_transcript_has(session_id, "gate")
            _, number = talk.send(talks.database, session_id, "Also greet")
            node.keeper.hurry()
            talks.until_transcript_has(session_id, "Also greet")
            gate.touch()
        ended = talks.now(session_id)

    assert (number, ended.messages) == (1, 1)
    assert (ended.status, ended.attempt, _answer(ended)) == (Status.COMPLETED, 1, "Heard."), ended
    assert len(model.requests) == 2
    assert json.dumps(model.requests[1].body).count("Also greet") == 1


def test_what_is_sent_before_it_runs_is_said_with_the_prompt(talks: Talks, monkeypatch: pytest.MonkeyPatch) -> None:
    with offline(monkeypatch, [Text("One."), Text("Two.")]) as model, talks.worker() as node:
        session_id = talks.enqueue("Say what a zeppelin is")
        talk.send(talks.database, session_id, "And a quagga")
        ended = talks.run(node, session_id)

    assert (ended.status, ended.attempt) == (Status.COMPLETED, 1)
    said = json.dumps(model.requests[-1].body)
    assert said.count("zeppelin") == said.count("quagga") == 1


def test_all_that_was_sent_before_it_runs_is_counted_among_what_it_begins_with(talks: Talks, tmp_path: Path) -> None:
    """Whoever has been told several things may begin a turn after its first result."""
    with talks.worker() as node:
        session_id = talks.enqueue("Say what a zeppelin is")
        talk.send(talks.database, session_id, "And a\nquagga")
        taken = claim(node, session_id, 1)
        assert taken is not None
        beginning = begin(talks.database, taken[0], tmp_path, lambda: None)

    assert (beginning.said, beginning.stdin.count(b"\n")) == (2, 2)
    assert beginning.messages == talks.now(session_id).messages


def test_what_the_cli_makes_one_prompt_of_is_not_said_again(talks: Talks, monkeypatch: pytest.MonkeyPatch) -> None:
    """What has queued up between two turns is one entry of its record, under the uuid of the last message."""
    with offline(monkeypatch, [Text("One."), Text("Two."), Text("Three.")]) as model, talks.worker() as node:
        session_id = talks.enqueue("First")
        for words in ("Say what a zeppelin is", "And a quagga"):
            talk.send(talks.database, session_id, words)
        talks.run(node, session_id)
        talks.resume(session_id, "Again")
        ended = talks.run(node, session_id)

    assert (ended.status, ended.attempt, _answer(ended)) == (Status.COMPLETED, 2, "Three."), ended
    assert [json.dumps(model.requests[-1].body).count(words) for words in ("zeppelin", "quagga")] == [1, 1]


def test_what_comes_too_late_for_the_child_is_answered_by_another_attempt(
    talks: Talks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the end of its input and the settlement a session still runs, and so it still takes messages."""
    with offline(monkeypatch, [Text("One."), Text("Two.")]) as model, talks.worker() as node:
        session_id = talks.enqueue("First")
        with monkeypatch.context() as patched:
            patched.setattr("gsd_tasks.service.attempt.settling.settle", _says_more_first(talks, session_id))
            between = talks.run(node, session_id)
        ended = talks.run(node, session_id)

    assert (between.status, between.reason) == (Status.QUEUED, Reason.MESSAGE), between
    assert (ended.status, ended.attempt, _answer(ended)) == (Status.COMPLETED, 2, "Two.")
    assert [request.last_prompt for request in model.requests] == ["First", "Wait, there is more"]


def test_an_interrupt_ends_the_turn_and_what_was_sent_is_answered(
    talks: Talks, monkeypatch: pytest.MonkeyPatch
) -> None:
    with offline(monkeypatch, [SLOW, Text("Instead.")]) as model, talks.worker() as node:
        session_id = talks.enqueue("Work", claude=BASH)
        with talks.running(node, session_id):
            talks.until_transcript_has(session_id, "once >>")
            talk.send(talks.database, session_id, "Do something else")
            talk.interrupt(talks.database, session_id)
            node.keeper.hurry()
        ended = talks.now(session_id)

    assert (ended.status, ended.attempt, _answer(ended)) == (Status.COMPLETED, 1, "Instead."), ended
    assert "Do something else" in model.requests[-1].last_prompt


def test_an_interrupt_alone_ends_the_session_and_a_follow_up_goes_on(
    talks: Talks, monkeypatch: pytest.MonkeyPatch
) -> None:
    with offline(monkeypatch, [SLOW, Text("Instead.")]) as model, talks.worker() as node:
        session_id = talks.enqueue("Work", claude=BASH)
        with talks.running(node, session_id):
            talks.until_transcript_has(session_id, "once >>")
            talk.interrupt(talks.database, session_id)
            node.keeper.hurry()
        interrupted = talks.now(session_id)
        talks.resume(session_id, "Do something else")
        ended = talks.run(node, session_id)

    assert (interrupted.status, interrupted.reason) == (Status.FAILED, Reason.INTERRUPTED), interrupted
    assert (ended.status, _answer(ended)) == (Status.COMPLETED, "Instead.")
    assert len(model.requests) == 2
    assert "somebody interrupted it" in model.requests[1].last_prompt
    assert model.requests[1].last_prompt.endswith("Do something else")


def test_a_turn_that_begins_with_what_was_sent_can_be_interrupted_too(
    talks: Talks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between two turns the CLI has given a result and nobody has said anything more: it is not done all the same."""
    monkeypatch.setattr(dialogue, "NEXT_TURN_S", 5)
    answering = Reply.of(Text("Not so fast."), delay_s=0.3)
    with offline(monkeypatch, [answering, SLOW]) as model, talks.worker() as node:
        session_id = talks.enqueue("First", claude=BASH)
        with talks.running(node, session_id):
            model.wait_for(1)
            talk.send(talks.database, session_id, "And this")
            node.keeper.hurry()
            talks.until_transcript_has(session_id, "once >>")
            talk.interrupt(talks.database, session_id)
            node.keeper.hurry()
        ended = talks.now(session_id)

    assert (ended.status, ended.reason, ended.attempt) == (Status.FAILED, Reason.INTERRUPTED, 1), ended
    assert "And this" in model.requests[1].last_prompt


def test_what_is_said_just_after_an_interrupt_is_answered(talks: Talks, monkeypatch: pytest.MonkeyPatch) -> None:
    """The turn has ended, and the child's input with it; the session still runs for a moment."""
    with offline(monkeypatch, [SLOW, Text("Instead.")]) as model, talks.worker() as node:
        session_id = talks.enqueue("Work", claude=BASH)
        with monkeypatch.context() as patched:
            patched.setattr("gsd_tasks.service.attempt.settling.settle", _says_more_first(talks, session_id, after=1))
            with talks.running(node, session_id):
                talks.until_transcript_has(session_id, "once >>")
                talk.interrupt(talks.database, session_id)
                node.keeper.hurry()
        between = talks.now(session_id)
        ended = talks.run(node, session_id)

    assert (between.status, between.reason) == (Status.QUEUED, Reason.MESSAGE), between
    assert (ended.status, ended.attempt, _answer(ended)) == (Status.COMPLETED, 2, "Instead.")
    assert "somebody interrupted it" in model.requests[-1].last_prompt
    assert model.requests[-1].last_prompt.endswith("Wait, there is more")


def test_a_pause_goes_on_where_it_was(talks: Talks, monkeypatch: pytest.MonkeyPatch) -> None:
    with offline(monkeypatch, [SLOW, Text("Rested.")]) as model, talks.worker() as node:
        session_id = talks.enqueue("Work", claude=BASH)
        with talks.running(node, session_id):
            talks.until_transcript_has(session_id, "once >>")
            control.pause(talks.database, session_id)
            node.keeper.hurry()
        paused = talks.now(session_id)
        control.resume(talks.database, unsaid, session_id)
        ended = talks.run(node, session_id)

    assert paused.status is Status.PAUSED, paused
    assert (ended.status, ended.attempt, _answer(ended)) == (Status.COMPLETED, 2, "Rested.")
    assert len(model.requests) == 2
    assert "it was paused" in model.requests[1].last_prompt


def test_a_fork_has_the_conversation_and_leaves_the_other_alone(talks: Talks, monkeypatch: pytest.MonkeyPatch) -> None:
    with offline(monkeypatch, [Text("One."), Text("Two.")]) as model, talks.worker() as node:
        source = talks.enqueue("First", env={"TOKEN": "t0ken"}, claude=BASH)
        talks.run(node, source)
        before = talks.transcript(source)
        fork = talk.fork(talks.database, unsaid, source, "Another way", name="other")
        ended = talks.run(node, fork.id)

    assert (fork.forked_from, fork.parent_id, fork.name, fork.claude) == (source, source, "other", BASH)
    assert (ended.status, ended.attempt, _answer(ended)) == (Status.COMPLETED, 1, "Two.")
    assert (model.requests[1].prompt, model.requests[1].last_prompt) == ("First", "Another way")
    assert talks.transcript(source) == before
    assert talks.now(source).attempt == 1
    copied = talks.transcript(fork.id)[: len(before)]
    assert [line.text for line in copied] == [line.text for line in before]


def test_only_a_conversation_is_talked_to(talks: Talks) -> None:
    with pytest.raises(InvalidValue, match="empty"):
        talk.send(talks.database, talks.enqueue("First"), "  ")
    queued = talks.enqueue("First")
    with pytest.raises(InvalidValue, match="another conversation"):
        talk.send(talks.database, queued, " /clear")
    with pytest.raises(NotAllowed, match="no turn to interrupt"):
        talk.interrupt(talks.database, queued)
    with pytest.raises(NotAllowed, match="gsd-tasks send"):
        talks.resume(queued, "More")
    with pytest.raises(NotAllowed, match="no conversation yet"):
        talk.fork(talks.database, unsaid, queued, None, name=None)
    control.cancel(talks.database, queued)
    with pytest.raises(NotAllowed, match="gsd-tasks resume"):
        talk.send(talks.database, queued, "More")


def _says_more_first(talks: Talks, session_id: SessionId, after: int = 0) -> Callable[..., Verdict]:
    real = settling.settle

    def settled(*args: Any, **more: Any) -> Verdict:
        if talks.now(session_id).messages == after:
            talk.send(talks.database, session_id, "Wait, there is more")
        return real(*args, **more)

    return settled


def _kill_shim(node: Node) -> None:
    (lock,) = node.settings.spool_dir.glob("*/*/*/shim.lock")
    assert kill_shim(lock.parent)
