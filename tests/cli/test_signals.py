"""Ctrl-C and SIGTERM, on a terminal and off it: real processes, real signals."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.waiting import BOUND_S

PROGRAM = Path(__file__).with_name("fake_client.py")
ROOT = PROGRAM.parents[2]


@dataclass
class Session:
    """`gsd-tasks run` in a process of its own, and what it shows."""

    calls_file: Path
    process: subprocess.Popen[bytes]
    screen: int
    keyboard: int | None = None
    shown: str = field(default="")

    def see(self, words: str) -> None:
        """Wait until `words` have been shown."""
        deadline = time.monotonic() + BOUND_S
        while words not in self.shown:
            ready, _, _ = select.select([self.screen], [], [], max(0, deadline - time.monotonic()))
            piece = _read(self.screen) if ready else ""
            assert piece, f"{words!r} is not in {self.shown!r}"
            self.shown += piece

    def type(self, keys: str) -> None:
        assert self.keyboard is not None
        os.write(self.keyboard, keys.encode())

    def end(self) -> int:
        """Its exit code; what it has shown until then is in `shown`."""
        while piece := _read(self.screen):
            self.shown += piece
        return self.process.wait(BOUND_S)

    @property
    def calls(self) -> list[str]:
        return self.calls_file.read_text().splitlines()


def _read(screen: int) -> str:
    try:
        return os.read(screen, 65536).decode()
    except OSError:  # a terminal's way to say that its other side has been closed
        return ""


@pytest.fixture
def processes() -> Iterator[list[subprocess.Popen[bytes]]]:
    started: list[subprocess.Popen[bytes]] = []
    yield started
    for process in started:
        process.kill()
        process.wait()


def _arguments(tmp_path: Path) -> list[str]:
    return [sys.executable, "-c", _START, str(tmp_path / "calls"), "run", "--", "make"]


# Where the tests run in the background, SIGINT is ignored; what is tested here is that it is not.
_START = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
_START += f"import sys; sys.path.insert(0, {str(ROOT)!r}); from tests.cli.fake_client import run_program"
_START += "; sys.exit(run_program())"


@pytest.fixture
def off_a_terminal(tmp_path: Path, processes: list[subprocess.Popen[bytes]]) -> Iterator[Session]:
    reading, writing = os.pipe()
    process = subprocess.Popen(_arguments(tmp_path), stdin=subprocess.DEVNULL, stdout=writing, stderr=writing)
    processes.append(process)
    os.close(writing)
    session = Session(tmp_path / "calls", process, reading)
    session.see("hello")
    yield session
    os.close(reading)


@pytest.fixture
def on_a_terminal(tmp_path: Path, processes: list[subprocess.Popen[bytes]]) -> Iterator[Session]:
    ours, theirs = pty.openpty()
    env = {name: value for name, value in os.environ.items() if name != "CI"}
    # A controlling terminal: Ctrl-C typed on it is SIGINT to the foreground group, as for a person.
    login = [sys.executable, "-c", _LOGIN, *_arguments(tmp_path)]
    process = subprocess.Popen(login, stdin=theirs, stdout=theirs, stderr=theirs, env=env, start_new_session=True)
    processes.append(process)
    os.close(theirs)
    session = Session(tmp_path / "calls", process, ours, ours)
    session.see("hello")
    yield session
    os.close(ours)


_LOGIN = "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_off_a_terminal_a_signal_cancels_and_waits_for_the_end(
    off_a_terminal: Session, number: signal.Signals, code: int
) -> None:
    off_a_terminal.process.send_signal(number)
    assert off_a_terminal.end() == code
    assert off_a_terminal.calls == ["cancel", "close"]
    assert "cancelled" in off_a_terminal.shown


def test_a_signal_that_the_caller_ignores_stays_ignored(
    tmp_path: Path, processes: list[subprocess.Popen[bytes]]
) -> None:
    """So it is with `gsd-tasks run ... &` in a script."""
    arguments = _arguments(tmp_path)
    arguments[2] = arguments[2].replace("default_int_handler", "SIG_IGN")
    reading, writing = os.pipe()
    process = subprocess.Popen(arguments, stdin=subprocess.DEVNULL, stdout=writing, stderr=writing)
    processes.append(process)
    os.close(writing)
    session = Session(tmp_path / "calls", process, reading)
    session.see("hello")
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGTERM)
    assert session.end() == 143
    os.close(reading)


def test_off_a_terminal_a_signal_that_comes_twice_cancels_all_the_same(off_a_terminal: Session) -> None:
    off_a_terminal.process.send_signal(signal.SIGINT)
    off_a_terminal.process.send_signal(signal.SIGTERM)
    assert off_a_terminal.end() in {130, 143}
    assert off_a_terminal.calls == ["cancel", "close"]


@pytest.mark.parametrize("keys", ["\n", "d\n", "\x04"])
def test_on_a_terminal_ctrl_c_asks_and_detaches_by_default(on_a_terminal: Session, keys: str) -> None:
    on_a_terminal.type("\x03")
    on_a_terminal.see("[d]etach")
    on_a_terminal.type(keys)
    assert on_a_terminal.end() == 130
    assert on_a_terminal.calls == ["close"]
    assert "the session goes on" in on_a_terminal.shown


def test_on_a_terminal_ctrl_c_can_cancel(on_a_terminal: Session) -> None:
    on_a_terminal.type("\x03")
    on_a_terminal.see("[c]ancel")
    on_a_terminal.type("what?\nc\n")
    assert on_a_terminal.end() == 130
    assert on_a_terminal.calls == ["cancel", "close"]


def test_on_a_terminal_a_second_ctrl_c_detaches_at_once(on_a_terminal: Session) -> None:
    on_a_terminal.type("\x03")
    on_a_terminal.see("[d]etach")
    on_a_terminal.type("\x03")
    assert on_a_terminal.end() == 130
    assert on_a_terminal.calls == ["close"]
    assert "the session goes on" in on_a_terminal.shown


def test_on_a_terminal_one_can_watch_on_and_be_asked_again(on_a_terminal: Session) -> None:
    on_a_terminal.type("\x03")
    on_a_terminal.see("[w]atch")
    on_a_terminal.type("w\n")
    on_a_terminal.see("watching on")
    on_a_terminal.shown = ""
    on_a_terminal.type("\x03")
    on_a_terminal.see("[c]ancel")
    on_a_terminal.type("c\n")
    assert on_a_terminal.end() == 130
    assert on_a_terminal.calls == ["cancel", "close"]


def test_on_a_terminal_sigterm_cancels_unasked(on_a_terminal: Session) -> None:
    on_a_terminal.process.send_signal(signal.SIGTERM)
    assert on_a_terminal.end() == 143
    assert on_a_terminal.calls == ["cancel", "close"]


def test_a_reader_that_goes_away_leaves_the_session_running(
    tmp_path: Path, processes: list[subprocess.Popen[bytes]]
) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    process = subprocess.Popen(
        _arguments(tmp_path), stdin=subprocess.DEVNULL, stdout=writing, stderr=subprocess.PIPE, text=False
    )
    processes.append(process)
    os.close(writing)
    _, err = process.communicate(timeout=BOUND_S)
    assert process.returncode == 141
    assert b"the session goes on" in err
    assert b"Traceback" not in err
    assert (tmp_path / "calls").read_text() == "close"


@pytest.mark.parametrize(
    ("redirection", "code", "words"),
    [
        (">/dev/full", 125, b"No space left"),
        (">&-", 0, b""),
        ("2>&-", 0, b""),
        ("<&-", 0, b""),
        ("| true", 0, b""),
        ("2>&1 | true", 0, b""),
    ],
)
def test_streams_that_are_closed_or_full_cause_no_traceback(redirection: str, code: int, words: bytes) -> None:
    command = f"{sys.executable} -m gsd_tasks --help {redirection}"
    ran = subprocess.run(command, shell=True, cwd=ROOT, stderr=subprocess.PIPE, timeout=BOUND_S, check=False)
    assert ran.returncode == code
    assert words in ran.stderr
    assert ran.stderr.count(b"\n") == bool(words)


def test_a_prompt_from_a_closed_standard_input_is_a_usage_error() -> None:
    command = f"{sys.executable} -m gsd_tasks run - <&-"
    ran = subprocess.run(command, shell=True, cwd=ROOT, stderr=subprocess.PIPE, timeout=BOUND_S, check=False)
    assert (ran.returncode, ran.stderr.count(b"\n")) == (2, 1)
    assert b"standard input is closed" in ran.stderr
