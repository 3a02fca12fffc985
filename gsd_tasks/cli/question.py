"""What to do about Ctrl-C."""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager, nullcontext
from enum import StrEnum
from pathlib import Path
from typing import Final, TextIO

from gsd_tasks.cli.screen import Screen

_WORDS: Final = "\nThe session is not finished. [d]etach and leave it running, [c]ancel it, or [w]atch on? [d] "


class Answer(StrEnum):
    """The first letters are what is typed; Enter alone detaches, by which nothing is lost."""

    DETACH = "detach"
    CANCEL = "cancel"
    GO_ON = "watch"


def ask(screen: Screen) -> Answer:
    """Ask the terminal, with the output standing still meanwhile. End of input, or of the terminal, detaches."""
    with screen.held(), _terminal() as terminal:
        while True:
            try:
                terminal.write(_WORDS)
                terminal.flush()
                typed = sys.stdin.readline()
            except OSError:
                return Answer.DETACH
            for answer in Answer:
                if answer.startswith(typed.strip().lower() or Answer.DETACH):
                    return answer


def _terminal() -> AbstractContextManager[TextIO]:
    """Not simply stderr: that may be a file, and the question would not be seen."""
    try:
        return Path("/dev/tty").open("w", encoding="utf-8")
    except OSError:
        return nullcontext(sys.stderr)
