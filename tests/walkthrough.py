"""A page as a reader follows it: its commands are typed into real shells, and what comes is compared with the page.

In a ``console`` block, `$ ` begins a command, and what follows it is what a reader will see. A block of another kind
whose introduction ends with a name in backticks and a colon is written into that file. Comments that readers do not see
say the rest, for the next block:

    <!-- terminal: NAME -->         it is typed into a terminal of its own, and what it starts goes on
    <!-- Ctrl-C: NAME -->           that is pressed there, and the block is what comes then, until it has ended
    <!-- only with VARIABLE -->     it is passed over unless the reader is told of that

What a page shows stands for what a reader sees (`tests/shown.py`): ids, times, ports and the like.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import threading
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.shown import Shown
from tests.waiting import until

_FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_COMMENT = re.compile(r"<!-- (terminal: |Ctrl-C: |only with )(\w+) -->\s*\Z")
_INTO_FILE = re.compile(r"`([\w.-]+)`:\s*\Z")
_BOUND_S = 120
_DONE = "what was typed has ended:"


@dataclass(frozen=True)
class Block:
    """One of a page. `name` is that of a terminal, of a file or of a variable, by `role`."""

    line: int
    language: str
    text: str
    role: str
    name: str

    def steps(self) -> Iterator[tuple[str, str]]:
        """Each command, and what is shown of it."""
        for part in re.split(r"^\$ ", self.text, flags=re.MULTILINE)[1:]:
            command, _, shown = part.partition("\n")
            yield re.sub(r"\s{2,}#.*", "", command), shown


def blocks_of(page: str) -> Iterator[Block]:
    """All of a page, in order."""
    for fence in _FENCE.finditer(page):
        before = page[: fence.start()]
        comment, file = _COMMENT.search(before), _INTO_FILE.search(before)
        role, name = comment.groups() if comment else ("file", file[1]) if file else ("", "")
        yield Block(before.count("\n") + 1, fence[1], fence[2], role.strip(), name)


class Reader:
    """Follows pages, in a home of their own."""

    def __init__(self, home: Path, env: Mapping[str, str], told: Collection[str] = ()) -> None:
        self._told = told
        self.env = {**env, "HOME": str(home)}
        self.shown = Shown(home)
        self._shell = subprocess.Popen(
            ["bash", "--noprofile", "--norc"],
            env=self.env,
            cwd=home,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self._terminals: dict[str, Terminal] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        # With what it is still at: that has its output open.
        os.killpg(self._shell.pid, signal.SIGKILL)
        self._shell.communicate()
        for terminal in self._terminals.values():
            terminal.close()

    def follow(self, page: str, *, name: str) -> None:
        """Do all that it says, from the top to the bottom."""
        for block in blocks_of(page):
            where = f"{name}, line {block.line}"
            if block.role == "only with" and block.name not in self._told:
                continue
            if block.role == "file":
                (self._folder() / block.name).write_text(block.text)
            elif block.role == "Ctrl-C:":
                self._terminals.pop(block.name).end(self.shown, block.text, where)
            elif block.language == "console":
                for command, shown in block.steps():
                    self._do(block, command, shown, f"{where}: {command}")

    def _do(self, block: Block, command: str, shown: str, where: str) -> None:
        typed = self.shown.as_typed(command, where)
        if block.role != "terminal:":
            said, code = self._type(typed)
            assert code == 0, f"{where}\nexit code {code}\n{said}"
            self.shown.compare(shown, said, where)
            return
        if block.name not in self._terminals:
            # What is on PATH by now, as an activated environment is: the reader was told to activate it there, too.
            path = self._type('printf %s "$PATH"')[0]
            self._terminals[block.name] = Terminal(typed, self._folder(), {**self.env, "PATH": path})
        terminal = self._terminals[block.name]
        assert terminal.command == typed
        until(lambda: terminal.has_ended() or self.shown.fits(shown, terminal.said()), timeout_s=_BOUND_S, what=where)
        self.shown.compare(shown, terminal.said(), where)

    def _folder(self) -> Path:
        return Path(self._type("pwd")[0].strip())

    def _type(self, command: str) -> tuple[str, int]:
        """Into the terminal that the reader looks at most: what is said, and the exit code."""
        assert self._shell.stdin is not None
        assert self._shell.stdout is not None
        self._shell.stdin.write(f'{command}\nprintf "\\n{_DONE} %d\\n" $?\n'.encode())
        self._shell.stdin.flush()
        said: list[str] = []
        for line in iter(self._shell.stdout.readline, b""):
            said.append(line.decode())
            if said[-1].startswith(_DONE):
                return "".join(said[:-1]).removesuffix("\n"), int(said[-1].split()[-1])
        raise AssertionError(f"{command}: the shell has ended: {''.join(said)}")


class Terminal:
    """One in which something runs until it is told to stop."""

    def __init__(self, command: str, folder: Path, env: Mapping[str, str]) -> None:
        self.command = command
        self._process = subprocess.Popen(
            ["bash", "--noprofile", "--norc", "-c", command],
            env=env,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self._lines: list[str] = []
        self._reading = threading.Thread(target=self._read, daemon=True)
        self._reading.start()

    def said(self) -> str:
        return "".join(self._lines)

    def has_ended(self) -> bool:
        return self._process.poll() is not None

    def end(self, shown: Shown, expected: str, where: str) -> None:
        """Ctrl-C; then what comes of it."""
        before = len(self._lines)
        os.killpg(self._process.pid, signal.SIGINT)
        self._process.wait(_BOUND_S)
        self._reading.join(_BOUND_S)
        shown.compare(expected, "".join(self._lines[before:]), where)

    def close(self) -> None:
        """Politely first: who is killed leaves things behind."""
        for number in (signal.SIGINT, signal.SIGKILL):
            if not self.has_ended():
                os.killpg(self._process.pid, number)
                try:
                    self._process.wait(_BOUND_S / 2)
                except subprocess.TimeoutExpired:
                    continue
        self._reading.join(_BOUND_S)

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as output:
            self._lines.extend(line.decode(errors="replace") for line in output)
