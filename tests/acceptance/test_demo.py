"""`gsd-tasks demo`, as somebody runs it who has just installed the project."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

DEADLINE_S = 110
LANE = re.compile(r" *[\d.]+  (claude|count|fail) +\| (.*)")


@dataclass
class Demo:
    """One run. `started` are all processes that were seen below it."""

    process: subprocess.Popen[str]
    lines: list[str] = field(default_factory=list)
    read_at: list[float] = field(default_factory=list)
    started: set[psutil.Process] = field(default_factory=set)

    def read_until(self, words: str) -> None:
        """Read on, up to a line with these words in it or, if there is none, to the end."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))
            self.read_at.append(time.monotonic())
            with suppress(psutil.NoSuchProcess):
                self.started.update(psutil.Process(self.process.pid).children(recursive=True))
            if words in line:
                return

    def end(self) -> int:
        """Read the rest; the exit code."""
        self.read_until("\0")
        return self.process.wait(DEADLINE_S)

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    def lanes(self) -> list[tuple[str, str, float]]:
        """Session, what it printed, and when it was read."""
        found = ((LANE.fullmatch(line), at) for line, at in zip(self.lines, self.read_at, strict=True))
        return [(match[1], match[2], at) for match, at in found if match]

    def still_running(self) -> list[psutil.Process]:
        """Of all that it started; those that have just been killed may still be zombies."""
        return [p for p in self.started if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder for temporary files, and nothing else in it. Short: sockets are made below it."""
    folder = Path(tempfile.mkdtemp(prefix="gsd-t-", dir="/tmp"))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def demo(place: Path) -> Iterator[Demo]:
    """It starts in the environment of an operator who has much that must neither reach it nor disturb it."""
    with subprocess.Popen(
        [sys.executable, "-m", "gsd_tasks", "demo"],
        env=_operators_environment(place),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        run = Demo(process)
        yield run
        if process.poll() is None:
            process.terminate()


@pytest.mark.slow
def test_three_sessions_run_at_once_and_live_and_nothing_is_left(demo: Demo, place: Path) -> None:
    code = demo.end()

    assert code == 0, demo.text
    assert "offline stand-in" in demo.text
    assert "Traceback" not in demo.text
    assert "Warning" not in demo.text
    _check_live(demo)
    assert _table(demo) == {
        "claude": ["completed", "1", "0", "finished"],
        "count": ["completed", "1", "0", "finished"],
        "fail": ["failed", "1", "3", "exit_code"],
    }
    assert "  +    return sum(prices) * (1 - discount_percent / 100)" in demo.lines
    assert "Everything went as it should." in demo.text
    assert len(demo.started) > 10
    assert demo.still_running() == []
    assert [path.name for path in place.iterdir()] == ["operator"]
    assert not (place / "operator" / "called").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "number", "code"),
    [
        ("Starting Postgres", signal.SIGTERM, 143),
        ("* claude", signal.SIGINT, 130),
    ],
)
def test_a_signal_ends_all_of_it(demo: Demo, place: Path, words: str, number: signal.Signals, code: int) -> None:
    demo.read_until(words)
    demo.process.send_signal(number)
    demo.process.send_signal(number)

    assert demo.end() == code, demo.text
    assert "Interrupted." in demo.lines
    assert "Stopped: of all that was started, no process is left." in demo.lines
    assert demo.still_running() == []
    assert [path.name for path in place.iterdir()] == ["operator"]


def test_without_the_claude_extra_it_says_what_to_install(place: Path) -> None:
    without = (
        "import sys; sys.modules['claude_agent_sdk'] = None; from gsd_tasks.cli import main; sys.exit(main(['demo']))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", without],
        env=_operators_environment(place),
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )

    assert (ran.returncode, ran.stdout) == (125, "")
    assert "pip install 'gsd-tasks[embedded,claude]'" in ran.stderr
    assert len(ran.stderr.splitlines()) == 1


def test_what_cuts_itself_loose_is_found_and_killed() -> None:
    script = """if True:
        import subprocess
        from gsd_tasks.cli.demo import leftovers
        leftovers._PATIENCE_S = 0.5
        leftovers.adopt_orphans()
        subprocess.run(["sh", "-c", "setsid sh -c 'sleep 300 & wait' & exit 0"], check=True)
        print("; ".join(leftovers.end_leftovers()), leftovers.end_leftovers())
    """
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=DEADLINE_S, check=True)

    assert "(sleep 300)" in ran.stdout
    assert ran.stdout.endswith(" []\n")


def _operators_environment(place: Path) -> Mapping[str, str]:
    """Servers that do not answer, a login, and a `claude` of their own on PATH."""
    home = place / "operator"
    home.mkdir()
    claude = home / "claude"
    claude.write_text(f"#!/bin/sh\ntouch {home}/called\nexit 9\n")
    claude.chmod(0o755)
    nowhere = "127.0.0.1:1"
    return {
        "PATH": f"{home}:{os.environ['PATH']}",
        "HOME": str(home),
        "TMPDIR": str(place),
        "GSD_DATABASE_URL": f"postgresql://nobody@{nowhere}/nothing",
        "GSD_REDIS_URL": f"redis://{nowhere}/0",
        "GSD_CLAUDE_BIN": str(claude),
        "GSD_WORKSPACE_ROOTS": "/nowhere",
        "GSD_LEASE_S": "no number",
        "ANTHROPIC_BASE_URL": f"http://{nowhere}",
        "ANTHROPIC_AUTH_TOKEN": "not for children",
        "CLAUDE_CONFIG_DIR": str(home),
        "CELERY_BROKER_URL": f"redis://{nowhere}/0",
        "PGSSLMODE": "require",
        "HTTP_PROXY": f"http://{nowhere}",
    }


def _check_live(demo: Demo) -> None:
    """Their lines come in turns, over seconds, and each session's in its own order."""
    lanes = demo.lanes()
    names = [name for name, _, _ in lanes]
    for name in ("claude", "count", "fail"):
        first, last = names.index(name), len(names) - names[::-1].index(name)
        assert set(names[first:last]) == {"claude", "count", "fail"}, demo.text
    assert lanes[-1][2] - lanes[0][2] > 3
    said = [text for name, text, _ in lanes if name == "fail"]
    assert [text for text in said if not text.startswith("--")] == [
        "looking for deploy.toml",
        *(f"try {number} of 3: there is no deploy.toml" for number in (1, 2, 3)),
        "giving up",
    ]
    assert said[-1].startswith("-- failed")


def _table(demo: Demo) -> dict[str, list[str]]:
    """State, attempt, exit code and reason of each session. Which slot each had is chance, but all three were taken."""
    at = next(number for number, line in enumerate(demo.lines) if line.startswith("SESSION "))
    rows = [line.split() for line in demo.lines[at + 1 : at + 4]]
    assert sorted(row[2] for row in rows) == ["1", "2", "3"]
    assert all(int(row[4]) >= 5 for row in rows)
    return {row[0]: [row[1], row[3], row[6], row[7]] for row in rows}
