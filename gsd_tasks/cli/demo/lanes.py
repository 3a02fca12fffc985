"""Several sessions on one screen: each line whole, with the time and the name of whose it is."""

from __future__ import annotations

import os
import sys
import threading
import time
from typing import Final

import typer

from gsd_tasks.cli.screen import Screen
from gsd_tasks.domain.sanitize import one_line, visible
from gsd_tasks.domain.session import Stream

_NAME_WIDTH: Final = 6


class Page:
    """What all lanes write to: stdout, a line at a time, and flushed. Times count from when it was made."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._lock = threading.Lock()
        self._colourful = sys.stdout.isatty() and not os.environ.get("NO_COLOR")

    def write(self, name: str, colour: str, text: str, *, dim: bool) -> None:
        """One line of `name`."""
        with self._lock:
            prefix = f"{time.monotonic() - self._began:5.1f}  {name:<{_NAME_WIDTH}} |"
            if self._colourful:
                prefix, text = typer.style(prefix, fg=colour), typer.style(text, dim=True) if dim else text
            print(f"{prefix} {text}", flush=True)


class Lane(Screen):
    """The screen of one session among others: what it writes appears when the line is complete."""

    def __init__(self, page: Page, name: str, colour: str) -> None:
        super().__init__(sys.stdout, sys.stdout)
        self._page = page
        self._name = name
        self._colour = colour
        self._begun: dict[Stream, str] = {}

    def write(self, stream: Stream, text: str, *, eol: bool = True) -> None:
        """Keep a piece of a line, and show the line once it has ended."""
        with self.lock:
            line = self._begun.pop(stream, "") + visible(text)
            if eol:
                self._page.write(self._name, self._colour, line, dim=False)
            else:
                self._begun[stream] = line

    def say(self, words: str) -> None:
        """What happens to the session, between its lines."""
        self._page.write(self._name, self._colour, f"-- {one_line(words)}", dim=True)
