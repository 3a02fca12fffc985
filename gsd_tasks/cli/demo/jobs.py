"""The three sessions of the demo: what each of them runs, and how it should end."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import unified_diff
from pathlib import Path
from typing import Any, Final

import gsd_tasks
from gsd_tasks.cli.demo import count_lines
from gsd_tasks.domain.session import Session
from gsd_tasks.domain.state import Reason, Status
from gsd_tasks.testing import Reply, Text, ToolCall

_FILE: Final = "prices.py"
_BROKEN: Final = '''\
"""What a customer pays."""


def total(prices: list[float], discount_percent: float) -> float:
    """The sum of the prices, less the discount."""
    return sum(prices) * (1 - discount_percent)
'''
_WRONG: Final = "(1 - discount_percent)"
_RIGHT: Final = "(1 - discount_percent / 100)"
_PROMPT: Final = "total() in prices.py is wrong: total([10, 20], 50) should be 15. Find the mistake and correct it."

# Between the pieces of an answer, so that it takes about as long as the other two.
_DELAY_S: Final = 0.06

SCRIPT: Final = (
    Reply.of(Text("I read the file first."), ToolCall("Read", {"file_path": f"{{cwd}}/{_FILE}"}), delay_s=_DELAY_S),
    Reply.of(
        Text("The discount is in per cent, but it is taken as a fraction. I divide it by 100."),
        ToolCall("Edit", {"file_path": f"{{cwd}}/{_FILE}", "old_string": _WRONG, "new_string": _RIGHT}),
        delay_s=_DELAY_S,
    ),
    Reply.of(Text(f"Done: {_FILE} now divides the discount by 100."), delay_s=_DELAY_S),
)
"""What the stand-in for the model answers, turn by turn."""

_FAILING: Final = """
echo "looking for deploy.toml" >&2
for try in 1 2 3; do sleep 1; echo "try $try of 3: there is no deploy.toml" >&2; done
echo "giving up" >&2
exit 3
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One session: its name and colour on the screen, what `Client.enqueue` is given, and how it should end."""

    name: str
    colour: str
    about: Sequence[str]
    request: dict[str, Any]
    status: Status
    reason: Reason
    exit_code: int

    def problems(self, session: Session) -> list[str]:
        """What is otherwise than it should be."""
        wanted = (self.status, self.reason, self.exit_code)
        got = (session.status, session.reason, session.exit_code)
        if wanted == got:
            return []
        said = f": {session.detail}" if session.detail else ""
        return [f"{self.name} should be {_words(*wanted)}, and is {_words(*got)}{said}"]


def prepare(work: Path) -> tuple[Job, ...]:
    """Lay out what the sessions work on, a folder each, and say what they are."""
    folders = {name: work / name for name in ("claude", "count", "fail")}
    for folder in folders.values():
        folder.mkdir(parents=True)
    (folders["claude"] / _FILE).write_text(_BROKEN)
    package = Path(gsd_tasks.__file__).parent
    count = (sys.executable, "-I", str(Path(count_lines.__file__)), str(package), "0.4")
    return (
        Job(
            name="claude",
            colour="cyan",
            about=(
                "a Claude session: the real claude CLI, asked to correct a mistake in a file.",
                "The model is played by an offline stand-in on this machine: what it answers was written beforehand.",
                "The CLI, its tools and the file are real. It names the model that it believes in, and reckons its",
                "price: no such model is asked, and nothing is paid.",
            ),
            request={"prompt": _PROMPT},
            status=Status.COMPLETED,
            reason=Reason.FINISHED,
            exit_code=0,
        ),
        Job(
            name="count",
            colour="green",
            about=("a command: it counts the lines of the source files of gsd-tasks itself.",),
            request={"command": count},
            status=Status.COMPLETED,
            reason=Reason.FINISHED,
            exit_code=0,
        ),
        Job(
            name="fail",
            colour="magenta",
            about=("a command that fails on purpose, with exit code 3.",),
            request={"command": ("sh", "-c", _FAILING)},
            status=Status.FAILED,
            reason=Reason.EXIT_CODE,
            exit_code=3,
        ),
    )


def changes(work: Path) -> list[str]:
    """What the Claude session changed in its file, as a diff."""
    now = (work / "claude" / _FILE).read_text(errors="replace")
    return list(
        unified_diff(_BROKEN.splitlines(), now.splitlines(), f"{_FILE} before", f"{_FILE} after", n=0, lineterm="")
    )


def change_problems(work: Path) -> list[str]:
    """Whether the file is as it should be by now."""
    right = (work / "claude" / _FILE).read_text(errors="replace") == _BROKEN.replace(_WRONG, _RIGHT)
    return [] if right else [f"{_FILE} was not corrected"]


def _words(status: Status, reason: Reason, exit_code: int | None) -> str:
    return f"{status} ({reason}, exit code {exit_code})"
