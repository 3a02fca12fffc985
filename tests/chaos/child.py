"""What a session of the chaos suite runs: numbered, checksummed lines, and a record of each moment at which it works.

`child.py RECORDS PLAN`, run as a file by any Python, with the standard library alone; the checkers import what it
writes (`line`) and read its records (`records.py`). RECORDS/SESSION/ATTEMPT.LIFE[.helper] has a line for each of:

    t NS            at work at this moment of CLOCK_BOOTTIME, which is the same for all processes of the machine
    o NS BYTES      about to have written so many bytes to stdout (e: to stderr)
    O NS BYTES      has written them (E: to stderr)
    x NS CODE       about to exit
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Final, NamedTuple
from zlib import crc32

TICK_S: Final = 0.01
#: Longer than the 200 ms after which the worker sends a line without its newline.
TORN_S: Final = 0.3
HELPER_LIVES_S: Final = 60.0
STREAMS: Final = {"stdout": 1, "stderr": 2}
LETTERS: Final = b"abcdefghijklmnopqrstuvwxyz0123456789 " * 27 * 300


class Plan(NamedTuple):
    """What one child does. `exits` has the exit code of each attempt; the last one counts for those that follow.

    With `gates`, a folder, it writes `lines` and goes on until there is SESSION.ATTEMPT in it.
    """

    lines: int = 100
    interval_s: float = 0.02
    exits: tuple[int, ...] = (0,)
    torn_every: int = 23
    stderr_every: int = 7
    ignores_term: bool = False
    helper: str = ""  # "pipes": one that keeps the pipes open; "quiet": one that does not
    gates: str = ""

    def encode(self) -> str:
        return json.dumps(self._asdict())

    @classmethod
    def decode(cls, text: str) -> Plan:
        fields = json.loads(text)
        return cls(**fields | {"exits": tuple(fields["exits"])})

    def exit_code(self, attempt: int) -> int:
        return self.exits[min(attempt, len(self.exits)) - 1]


def line(session: str, attempt: int, stream: str, number: int) -> bytes:
    """The whole line, `ATTEMPT NUMBER CRC PAYLOAD`: known from its place alone, so that nothing else passes for it."""
    place = crc32(f"{session} {attempt} {stream} {number}".encode())
    payload = LETTERS[place % 37 :][: _size(place)]
    if place % 53 == 0:
        payload = b"\xff\0" + payload  # no text: such rows travel in another column
    return b"%d %d %08x %s\n" % (attempt, number, crc32(payload, place), payload)


def _size(place: int) -> int:
    if place % 2003 == 0:
        return 250_000
    return 4_000 if place % 199 == 0 else place % 120


def boot_ns() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


class Record:
    """One process's own record, on a disk that no fault fills."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)

    def note(self, mark: str, *numbers: int) -> None:
        os.write(self._fd, " ".join((mark, str(boot_ns()), *map(str, numbers))).encode() + b"\n")


class Writer:
    """One of the two pipes. What it was about to write is on record before, what it has written after."""

    def __init__(self, record: Record, session: str, attempt: int, stream: str) -> None:
        self._record = record
        self._place = (session, attempt, stream)
        self._fd = STREAMS[stream]
        self._mark = "o" if stream == "stdout" else "e"
        self._number = 0
        self._bytes = 0

    def write_line(self, *, torn: bool) -> None:
        self._number += 1
        text = line(*self._place, self._number)
        middle = len(text) // 2 if torn else len(text)
        self._write(text[:middle])
        if torn:
            _work(self._record, TORN_S)
            self._write(text[middle:])

    def _write(self, piece: bytes) -> None:
        self._bytes += len(piece)
        self._record.note(self._mark, self._bytes)
        left = memoryview(piece)
        while left:
            left = left[os.write(self._fd, left) :]
        self._record.note(self._mark.upper(), self._bytes)


def main(records: str, plan_text: str) -> int:
    session, attempt = os.environ["GSDTASKS_SESSION_ID"], int(os.environ["GSDTASKS_ATTEMPT"])
    plan = Plan.decode(plan_text)
    path = Path(records) / session / f"{attempt}.{boot_ns()}-{os.getpid()}"
    record = Record(path)
    record.note("t")
    if plan.ignores_term:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if plan.helper and os.fork() == 0:
        _help(path.with_name(f"{path.name}.helper"), keeps_pipes=plan.helper == "pipes")
    out, err = (Writer(record, session, attempt, stream) for stream in STREAMS)
    for count in itertools.count(1):
        if count > plan.lines and (not plan.gates or Path(plan.gates, f"{session}.{attempt}").exists()):
            break
        writer = err if count % plan.stderr_every == 0 else out
        writer.write_line(torn=count % plan.torn_every == 0)
        _work(record, plan.interval_s)
    code = plan.exit_code(attempt)
    record.note("x", code)
    return code


def _work(record: Record, for_s: float) -> None:
    """Be at work so long, and note it every few milliseconds."""
    until = time.monotonic() + for_s
    record.note("t")
    while (left := until - time.monotonic()) > 0:
        time.sleep(min(TICK_S, left))
        record.note("t")


def _help(path: Path, *, keeps_pipes: bool) -> None:
    """A tool that has left the child's session and group, and would go on for long after it."""
    os.setsid()
    if not keeps_pipes:
        null = os.open(os.devnull, os.O_RDWR)
        for fd in range(3):
            os.dup2(null, fd)
    record = Record(path)
    until = time.monotonic() + HELPER_LIVES_S
    for _ in itertools.takewhile(lambda _: time.monotonic() < until, itertools.count()):
        record.note("t")
        time.sleep(TICK_S)
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
