"""`run`: what is shown of a session while it runs, and how it ends."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from gsd_tasks.cli import follower
from gsd_tasks.cli.progress import Progress
from gsd_tasks.cli.screen import Screen
from gsd_tasks.domain.errors import DatabaseUnavailable
from gsd_tasks.domain.session import OutputRow, Stream, Worker
from gsd_tasks.domain.state import Reason, Status
from tests.cli.conftest import Run
from tests.cli.fake_client import FakeClient
from tests.sessions import ID, entry, row
from tests.waiting import BOUND_S


def test_the_childs_streams_go_to_ours_and_progress_to_stderr(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    # Whoever waits longer is told what for.
    monkeypatch.setattr("gsd_tasks.cli.watch._LOOK_S", BOUND_S)
    client = FakeClient(rows=[row(1, "out"), row(2, "err", stream=Stream.STDERR), row(3, "no newline", eol=False)])
    ran = run("run", "--", "make", client=client)
    assert (ran.code, ran.out) == (0, "out\nno newline")
    assert ran.err.splitlines() == [
        f"gsd-tasks: session {ID} is queued",
        "gsd-tasks: started on w@host, attempt 1",
        "err",
        "gsd-tasks: completed (finished)",
    ]
    assert client.calls == ["close"]


def test_that_it_has_ended_is_said_below_its_last_row_however_early_it_is_known(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The history may be looked at between the end of the session and the moment at which its rows are shown."""
    client = FakeClient(rows=[row(1, "one"), row(2, "two")])
    client.entries += [
        entry(Status.RUNNING, Reason.CLAIMED, came_from=Status.QUEUED),
        entry(Status.QUEUED, Reason.WORKER_STOPPED, came_from=Status.RUNNING),
        entry(Status.RUNNING, Reason.CLAIMED, attempt=2, came_from=Status.QUEUED),
        entry(Status.FAILED, Reason.EXIT_CODE, attempt=2, came_from=Status.RUNNING),
    ]
    progress = Progress(client, client.session, Screen(sys.stdout, sys.stderr))  # type: ignore[arg-type]
    said = []
    for attempt, seq in ((0, 0), (1, 1), (2, 1), (2, 2)):
        progress.reached(attempt, seq)
        progress.refresh()
        said.append([line.split()[1] for line in capsys.readouterr().err.splitlines()])
    assert said == [["session", "started"], [], ["queued", "started"], ["failed"]]


def test_an_adoption_is_said_at_once_and_as_what_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    """It is no end: however much is still to be shown, and will be for hours, nobody waits for that."""
    client = FakeClient(rows=[row(1, "one"), row(2, "two")])
    client.entries += [
        entry(Status.RUNNING, Reason.CLAIMED, came_from=Status.QUEUED),
        entry(Status.RUNNING, Reason.ADOPTED, came_from=Status.RUNNING),
    ]
    progress = Progress(client, client.session, Screen(sys.stdout, sys.stderr))  # type: ignore[arg-type]
    progress.reached(1, 1)
    progress.refresh()
    said = capsys.readouterr().err.splitlines()
    assert said[-1] == "gsd-tasks: its worker was lost or stopped; it goes on with w@host, still attempt 1"


def test_it_ends_with_the_childs_code_and_says_why(run: Run) -> None:
    end = {"status": Status.FAILED, "reason": Reason.EXIT_CODE, "exit_code": 7, "detail": "it exited with 7"}
    ran = run("run", "--", "make", client=FakeClient(end=end))
    assert ran.code == 7
    assert ran.err.splitlines()[-1] == "gsd-tasks: failed (exit_code): it exited with 7"


def test_no_escape_sequence_of_a_child_reaches_the_terminal(run: Run) -> None:
    rows = [row(1, "\x1b]0;owned\x07\x1b[2J"), row(2, b"\xff\x9b", stream=Stream.STDERR), row(3, "10%\r100%\r")]
    end = {"status": Status.FAILED, "reason": Reason.START_FAILED, "detail": "no \x1b[31m'make'\n\x07"}
    ran = run("run", "--", "make", client=FakeClient(rows=rows, end=end))
    assert ran.out == "^[]0;owned^G^[[2J\n10%^M100%\n"
    assert "\ufffd" in ran.err
    assert ran.err.replace("\n", "").isprintable()


def test_our_words_stand_on_a_line_of_their_own(run: Run) -> None:
    ran = run("run", "--", "x", client=FakeClient(rows=[row(1, "half", stream=Stream.STDERR, eol=False)]))
    assert ran.err.splitlines()[-2:] == ["half", "gsd-tasks: completed (finished)"]


def test_a_claude_session_is_shown_in_words_even_if_an_event_came_in_pieces(run: Run) -> None:
    event = json.dumps({"type": "assistant", "message": {"content": [{"type": "text", "text": "I look first."}]}})
    rows = [row(1, event[:30], eol=False), row(2, event[30:]), row(3, "not an event"), row(4, '{"type":', eol=False)]
    ran = run("run", "Look", client=FakeClient(rows=rows))
    assert ran.out == 'I look first.\nnot an event\n? {"type":\n'


def test_a_database_that_goes_away_is_waited_for_and_nothing_is_shown_twice(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follower, "_AGAIN_S", 0.01)
    client = FakeClient(rows=[row(1, "one"), row(2, "two")])
    client.failures = [DatabaseUnavailable("the database does not answer"), DatabaseUnavailable("nor now")]
    ran = run("run", "--", "make", client=client)
    assert (ran.code, ran.out) == (0, "one\ntwo\n")
    assert "the session goes on; trying again" in ran.err


class NobodyThere(FakeClient):
    """Its session waits until somebody has looked for workers, in vain."""

    def follow(self, *_: object, **__: object) -> Iterator[OutputRow]:
        self.may_end.wait()
        self._finish()
        return iter(())

    def workers(self) -> Sequence[Worker]:
        self.may_end.set()
        return []


def test_it_says_so_if_no_worker_is_alive(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gsd_tasks.cli.watch._LOOK_S", 0.01)
    ran = run("run", "--", "make", client=NobodyThere(hold=True))
    assert ran.err.count("no worker is alive") == 1


@pytest.mark.parametrize(("away_s", "said"), [(3600, "not before "), (-3600, "waiting for a worker")])
def test_what_rests_before_its_next_try_is_not_said_to_wait_for_a_worker(
    capsys: pytest.CaptureFixture[str], away_s: float, said: str
) -> None:
    """The rest that is over is not what it waits for."""
    client = FakeClient()
    client.session = replace(client.session, run_at=datetime.now(UTC) + timedelta(seconds=away_s))
    client.entries.append(entry(Status.QUEUED, Reason.EXIT_CODE, came_from=Status.RUNNING))
    progress = Progress(client, client.session, Screen(sys.stdout, sys.stderr))  # type: ignore[arg-type]
    progress.refresh()
    progress.refresh()
    assert capsys.readouterr().err.splitlines()[-1].startswith(f"gsd-tasks: {said}")


def test_unknown_faults_are_one_line_and_the_traceback_is_asked_for(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    client = FakeClient()
    nothing: dict[str, object] = {}
    monkeypatch.setattr(client, "enqueue", lambda **_: nothing["broken\x1b"])
    ran = run("run", "--", "make", client=client)
    assert ran.code == 125
    assert ran.err == "gsd-tasks: KeyError: 'broken\\x1b' (GSD_LOG_LEVEL=DEBUG shows where)\n"
    monkeypatch.setenv("GSD_LOG_LEVEL", "debug")
    assert "Traceback" in run("run", "--", "make", client=client).err
