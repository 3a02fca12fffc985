"""`top`: figures from two looks; off a terminal it is one; on one it waits for servers, and leaves cleanly."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import pytest

from gsd_tasks.cli.glance import MOST, Seen, compare
from gsd_tasks.domain.errors import DatabaseUnavailable
from gsd_tasks.domain.session import Session, SessionId, Worker, WorkerStatus
from gsd_tasks.domain.state import Status
from tests.cli.conftest import Run
from tests.cli.fake_client import WORKER, FakeClient
from tests.sessions import AT, ID, session
from tests.waiting import BOUND_S

PROGRAM = "from tests.cli.test_top import run_program; raise SystemExit(run_program())"
ALTERNATE, NORMAL = b"\x1b[?1049h", b"\x1b[?1049l"
ROOT = Path(__file__).parents[2]


def running(number: int = 1, **changes: object) -> Session:
    values = {"status": Status.RUNNING, "attempt": 1, "started_at": AT, "worker": "w@host", "slot": 2}
    return session(id=SessionId(UUID(int=number)), **(values | changes))


def seen(at_s: float, *sessions: Session, queued: Sequence[Session] = (), workers: Sequence[Worker] = ()) -> Seen:
    return Seen(at_s, workers, sessions, queued)


class Client(FakeClient):
    """Two sessions, of which the second writes five lines from one look to the next."""

    def __init__(self, *, name: str = "busy", away: int = 0) -> None:
        super().__init__()
        self.name = name
        self.away = away
        self.looks = 0

    def workers(self) -> Sequence[Worker]:
        self.looks += 1
        if self.looks == self.away:
            raise DatabaseUnavailable("the database\x1b[2J is away")
        return self.known_workers

    def list(self, **filters: object) -> list[Session]:
        self.requests.append(filters)
        if filters["status"] == [Status.RUNNING]:
            return [running(1, name="quiet"), running(2, name=self.name, seq=5 * self.looks)]
        return [session(), session(waits=True), session(queue="builds")]


def test_lines_a_second_are_what_was_written_between_two_looks() -> None:
    before = seen(10, running(1, seq=100), running(2, seq=7, attempt=2))
    now = seen(12, running(1, seq=105), running(2, seq=47, attempt=2), running(3, seq=8), running(4, seq=9, attempt=2))

    glance = compare(now, before)

    assert [(one.id.int, one.lines_per_s) for one in glance.sessions] == [(2, 20.0), (3, 4.0), (1, 2.5), (4, None)]
    assert glance.lines_per_s == 26.5
    assert compare(now, None).lines_per_s is None
    assert {one.lines_per_s for one in compare(now, None).sessions} == {None}


def test_of_a_look_that_was_cut_nothing_is_taken_for_new() -> None:
    before = seen(10, *(running(number) for number in range(1, MOST + 1)))

    glance = compare(seen(11, running(MOST + 1, seq=1000)), before)

    assert glance.sessions[0].lines_per_s is None
    assert compare(before, None).is_cut
    assert not glance.is_cut


def test_slots_are_those_of_workers_that_are_there() -> None:
    workers = [replace(WORKER, status=status, name=status) for status in WorkerStatus]
    idle = replace(WORKER, status=WorkerStatus.GONE, busy={}, name="long ago")

    glance = compare(seen(1, workers=[*workers, idle]), None)

    assert [worker.name for worker in glance.workers] == ["alive", "gone", "stopping"]
    assert (glance.busy, glance.slots) == (2, 6)


def test_off_a_terminal_it_is_one_look_of_three_questions(run: Run) -> None:
    client = Client(name="evil\x1b[2J\nname")

    ran = run("top", client=client)

    assert (ran.code, ran.err, client.looks) == (0, "", 1)
    assert "\x1b" not in ran.out
    assert "evil^[[2J name" in ran.out
    lines = [line.split() for line in ran.out.splitlines()]
    assert ran.out.startswith("workers: 1; slots: 1 of 3 busy; sessions: 2 running; lines/s: -\n")
    assert ["builds", "0", "1", "0"] in lines
    assert ["sessions", "2", "1", "1"] in lines
    assert [request["limit"] for request in client.requests] == [MOST, MOST]


def test_the_same_as_one_json_document(run: Run) -> None:
    document = json.loads(run("top", "--json", client=Client()).out)

    assert {"at", "slots", "busy", "lines_per_s", "is_cut", "workers", "queues", "sessions"} == set(document)
    assert document["workers"][0]["busy"] == {"2": str(ID)}
    assert document["sessions"][1]["lines"] == 5


def test_off_a_terminal_a_server_that_is_away_is_an_error(run: Run) -> None:
    ran = run("top", client=Client(away=1))

    assert (ran.code, ran.out, ran.err) == (125, "", "gsd-tasks: the database^[[2J is away\n")


def test_on_a_terminal_it_goes_on_over_an_outage_until_it_is_interrupted() -> None:
    with watched(away=3, every=0.2) as (process, screen):
        screen.until(b"waiting: the database^[[2J is away")
        assert b"quiet" in screen.until(b"busy"), "what was known stays"
        drawn = screen.until(b"2 running; lines/s: ")
        assert b"waiting: " not in drawn[-200:]
        os.write(screen.fd, b"\x03")
        screen.until(NORMAL)
        assert process.wait(BOUND_S) == 0
        assert screen.read.count(ALTERNATE) == screen.read.count(NORMAL) == 1
        assert screen.read.rindex(b"\x1b[?25h") > screen.read.rindex(b"\x1b[?25l")
        assert b"Traceback" not in screen.read


def test_another_size_is_drawn_at_once_and_a_termination_leaves_the_terminal_as_it_was() -> None:
    with watched(away=0, every=3600) as (process, screen):
        assert b"quiet" in screen.until(b"busy  ")
        assert "sessions…" not in screen.read.decode()
        screen.resize(12, 40)
        screen.until("…".encode())
        process.terminate()
        screen.until(NORMAL)
        assert process.wait(BOUND_S) == 143


class Screen:
    """The other end of a terminal: what was written to it."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.read = b""
        self.resize(30, 100)

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def until(self, words: bytes) -> bytes:
        """What comes from now on, up to these words."""
        begin = len(self.read)
        while words not in self.read[begin:]:
            self.read += os.read(self.fd, 65536)
        return self.read[begin:]


@contextmanager
def watched(*, away: int, every: float) -> Iterator[tuple[subprocess.Popen[bytes], Screen]]:
    ours, theirs = pty.openpty()
    screen = Screen(ours)
    env = {"PATH": os.environ["PATH"], "HOME": os.environ["HOME"], "TERM": "xterm", "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(away), str(every)],
        env=env,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    try:
        yield process, screen
    finally:
        process.kill()
        process.wait()
        os.close(ours)
        os.close(theirs)


def run_program() -> int:
    """A process of its own: `gsd-tasks top` of a client that is away in the look that the arguments say."""
    from gsd_tasks.cli import connection, main

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)  # so that Ctrl-C and another size of the terminal come as signals
    client = Client(away=int(sys.argv[1]))
    connection.connect = lambda: client  # type: ignore[assignment,return-value]
    return main(["top", "--every", sys.argv[2]])


@pytest.mark.parametrize("every", ["0.1", "soon"])
def test_how_often_is_checked(run: Run, every: str) -> None:
    assert run("top", "--every", every, client=Client()).code == 2
