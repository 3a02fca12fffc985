from __future__ import annotations

import contextlib
import http.server
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import pytest

from gsd_tasks.local.life import trampoline_argv
from gsd_tasks.local.part import Become
from gsd_tasks.local.stamp import Stamp
from tests.waiting import BOUND_S, until

ROOT = Path(__file__).parents[2]
WAYS_TO_NOBODY = (
    ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"),
    tuple(trampoline_argv((), become=Become.USER_NAMESPACE, death_signal=signal.SIGTERM, wait="now")),
)


def wait_for(condition: Callable[[], object], what: str, bound_s: float = BOUND_S) -> None:
    until(condition, timeout_s=bound_s, what=what)


@contextlib.contextmanager
def answering(status: int, path: str) -> Iterator[int]:
    """A server that answers this to this path, and 404 to others; its port."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == path else 404)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()


def is_alive(pid: int) -> bool:
    return Stamp.of(pid) is not None


def nobody_prefix() -> tuple[str, ...] | None:
    """Really another user where Python can be reached by one; else one in a user namespace; else none."""
    if os.geteuid() != 0:
        return None
    # Twice: setpriv still has root's rights as it starts the first one, where /root hides the interpreter from nobody.
    again = "import subprocess, sys, gsd_tasks.local.up; sys.exit(subprocess.call([sys.executable, '-c', '']))"
    trial = (sys.executable, "-c", again)
    for way in WAYS_TO_NOBODY:
        with contextlib.suppress(OSError):
            if subprocess.run((*way, *trial), cwd=ROOT, capture_output=True, check=False).returncode == 0:
                return way
    return None


@dataclass
class Script:
    """A script of this folder that runs on its own and prints lines."""

    process: subprocess.Popen[bytes]
    lines: list[str] = field(default_factory=list)
    _rest: bytes = b""

    @property
    def stdout(self) -> IO[bytes]:
        assert self.process.stdout is not None
        return self.process.stdout

    def line(self, wanted: str, bound_s: float = BOUND_S) -> str:
        """The next line that holds this text."""
        deadline = time.monotonic() + bound_s
        for line in self._read_lines(deadline):
            if wanted in line:
                return line
        pytest.fail(f"no line with {wanted!r} in: {self.lines}")

    def says(self, wanted: str, bound_s: float) -> bool:
        """Whether such a line comes within the bound."""
        return any(wanted in line for line in self._read_lines(time.monotonic() + bound_s))

    def end(self, number: signal.Signals, bound_s: float = BOUND_S) -> int:
        self.process.send_signal(number)
        return self.wait(bound_s)

    def wait(self, bound_s: float = BOUND_S) -> int:
        deadline = time.monotonic() + bound_s
        for _ in self._read_lines(deadline):
            pass
        return self.process.wait(max(0.1, deadline - time.monotonic()))

    def _read_lines(self, deadline: float) -> Iterator[str]:
        while True:
            while b"\n" in self._rest:
                line, self._rest = self._rest.split(b"\n", 1)
                self.lines.append(line.decode())
                yield self.lines[-1]
            if not select.select([self.stdout], [], [], max(0.0, deadline - time.monotonic()))[0]:
                return
            chunk = os.read(self.stdout.fileno(), 65536)
            if not chunk:
                return
            self._rest += chunk


@dataclass
class Runner:
    """Runs scripts as one user, in a folder of that user's."""

    prefix: tuple[str, ...]
    folder: Path
    scripts: list[Script] = field(default_factory=list)

    def run(self, script: str, *arguments: object, env: dict[str, str] | None = None) -> Script:
        argv = (*self.prefix, sys.executable, str(Path(__file__).parent / script), *map(str, arguments))
        clean = {name: value for name, value in os.environ.items() if not name.startswith("GSD_")}
        process = subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**clean, "PYTHONPATH": str(ROOT), "HOME": str(self.folder), **(env or {})},
            cwd=self.folder,
        )
        self.scripts.append(Script(process))
        return self.scripts[-1]

    def start_servers(self) -> dict[str, str]:
        script = self.run("serve.py", self.folder / "servers")
        return dict(json.loads(script.line("database_url")))

    def close(self) -> None:
        for script in self.scripts:
            script.process.kill()
            script.process.wait()
            for pipe in (script.process.stdin, script.process.stdout):
                if pipe is not None:
                    pipe.close()
        wait_for(lambda: not processes_in(self.folder), "everything that was started here is gone")
        shutil.rmtree(self.folder)


def processes_in(folder: Path) -> dict[int, str]:
    """Processes that have this folder on their command line."""
    shown = ((pid, line.replace(b"\0", b" ").decode(errors="replace")) for pid, line in command_lines().items())
    return {pid: command for pid, command in shown if f"{folder}/" in command and is_alive(pid)}


def command_lines() -> dict[int, bytes]:
    """Of every process; one that ends as it is looked at has none."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                found[int(entry.name)] = (entry / "cmdline").read_bytes()
    return found


@pytest.fixture
def folder() -> Iterator[Path]:
    """Short, because socket paths are, and not below a folder that only root may enter."""
    path = Path(tempfile.mkdtemp(prefix="gsd-"))
    yield path
    shutil.rmtree(path)


@pytest.fixture(params=["myself", "nobody"])
def runner(request: pytest.FixtureRequest) -> Iterator[Runner]:
    prefix = () if request.param == "myself" else nobody_prefix()
    if prefix is None:
        pytest.skip("only root can run it as another user")
    path = Path(tempfile.mkdtemp(prefix="gsd-"))
    if prefix[:1] == ("setpriv",):
        os.chown(path, 65534, 65534)
    runner = Runner(prefix, path)
    yield runner
    runner.close()


@pytest.fixture
def me() -> Iterator[Runner]:
    runner = Runner((), Path(tempfile.mkdtemp(prefix="gsd-")))
    yield runner
    runner.close()
