"""The word that a test's child waits for: what has to be in place before it goes on then is, however late the test."""

from __future__ import annotations

import os
from pathlib import Path


class Go:
    """A child waits by `read x < PATH` in a shell, or `open(PATH).read()` in Python; `say` waits for that child."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "go"
        os.mkfifo(self.path)

    def __str__(self) -> str:
        return str(self.path)

    def say(self) -> None:
        self.path.write_bytes(b"\n")
