"""Real shims with real children, which are all put away in the end."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

from gsd_tasks.domain.session import Stream
from gsd_tasks.process.contain import Containment, kill_shim, sweep_marker
from gsd_tasks.process.launch import Launched, LaunchSpec, NotLaunched, launch
from gsd_tasks.process.link import News, ShimLink
from gsd_tasks.process.nursery import Nursery
from gsd_tasks.process.shim import tree
from gsd_tasks.process.spool.exits import ExitRecord, read_exit
from gsd_tasks.process.spool.reader import SpoolReader
from tests.waiting import BOUND_S, until

PATIENCE_S: Final = BOUND_S
#: No bound of a child's that a test is not about comes first.
FAR_S: Final = 10 * BOUND_S


@dataclass(frozen=True)
class Finished:
    record: ExitRecord
    stdout: bytes
    stderr: bytes


class Running:
    """A launched child, and what a test wants of it."""

    def __init__(self, folder: Path, launched: Launched) -> None:
        self.folder = folder
        self.launched = launched
        self.link = ShimLink(folder, patience_s=PATIENCE_S)
        self._reader = SpoolReader(folder)
        self._read = {Stream.STDOUT: b"", Stream.STDERR: b""}

    @property
    def init_pid(self) -> int:
        """As it is numbered outside of its namespace."""
        shim = self.launched.shim_pid
        (init,) = [proc.pid for proc in tree.descendants(shim) if proc.parent == shim]
        return init

    def finish(self) -> Finished:
        """Read until the shim has gone and all is read."""
        with News(self.folder) as news:
            give_up_at = time.monotonic() + PATIENCE_S
            while not news.shim_gone:
                assert time.monotonic() < give_up_at, "the child does not end"
                self.read()
                news.wait(1)
        while self.read():
            pass
        self._reader.close()
        assert self.launched.wait(PATIENCE_S)
        record = read_exit(self.folder)
        assert record is not None
        assert (self.folder / "shim.log").read_text() == ""
        return Finished(record, self._read[Stream.STDOUT], self._read[Stream.STDERR])

    def read(self) -> bool:
        records = self._reader.read()
        for record in records:
            self._read[record.stream] += record.payload
        return bool(records)

    def output(self) -> bytes:
        self.read()
        return self._read[Stream.STDOUT]

    def wait_for_output(self, words: bytes) -> None:
        eventually(lambda: words in self.output())


class Bench:
    """Launches children in one form of containment, and puts everything away afterwards."""

    def __init__(self, folder: Path, form: Containment, nursery: Nursery | None = None) -> None:
        self.form = form
        self.nursery = nursery
        self._folder = folder
        self._specs: list[tuple[Path, LaunchSpec]] = []
        self._launched: list[Launched] = []

    def spec(self, *argv: str, **changes: Any) -> LaunchSpec:
        spec = LaunchSpec(
            session_id=str(uuid4()),
            attempt=1,
            argv=argv,
            env={"PATH": "/usr/local/bin:/usr/bin:/bin"},
            cwd="/",
            stdin=None,
            timeout_s=FAR_S,
            idle_timeout_s=FAR_S,
            max_output_bytes=1 << 30,
            grace_s=0.2,
            freeze_bound_s=FAR_S,
            interrupt_first=False,
            containment=self.form,
            deadline_boot_s=time.clock_gettime(time.CLOCK_BOOTTIME) + FAR_S,
        )
        return spec._replace(**changes)

    def launch(self, spec: LaunchSpec, folder: Path | None = None) -> Launched | NotLaunched:
        folder = folder or self._folder / f"{spec.session_id}-{spec.attempt}"
        self.take_care_of(folder, spec)
        launched = launch(folder, spec, PATIENCE_S, nursery=self.nursery)
        if isinstance(launched, Launched):
            self._launched.append(launched)
        return launched

    def take_care_of(self, folder: Path, spec: LaunchSpec) -> None:
        self._specs.append((folder, spec))

    def start(self, *argv: str, **changes: Any) -> Running:
        spec = self.spec(*argv, **changes)
        launched = self.launch(spec)
        assert isinstance(launched, Launched), launched
        return Running(self._specs[-1][0], launched)

    def start_python(self, code: str, *arguments: str, **changes: Any) -> Running:
        return self.start(sys.executable, "-I", "-S", "-c", code, *arguments, **changes)

    def put_away(self) -> None:
        for folder, spec in self._specs:
            kill_shim(folder)
            assert sweep_marker(spec.session_id, spec.attempt) == []
        for launched in self._launched:
            assert launched.wait(PATIENCE_S)


def eventually(holds: Callable[[], object], patience_s: float = PATIENCE_S) -> None:
    until(holds, timeout_s=patience_s)


def pids_of(token: str) -> list[int]:
    """The live processes that have `token` in their arguments."""
    return [pid for pid in tree.all_pids() if token.encode() in _arguments(pid) and tree.read_proc(pid)]


def unique_seconds() -> str:
    """Longer than any test, and found by its digits: what `sleep` is given."""
    return f"600.{uuid4().int % 10**12:012}"


def _arguments(pid: int) -> bytes:
    with contextlib.suppress(OSError), Path(f"/proc/{pid}/cmdline").open("rb") as arguments:
        return arguments.read()
    return b""
